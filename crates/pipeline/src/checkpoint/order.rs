//! Which checkpoint of a directory is the newest.
//!
//! Each has a serial number, one more than the highest that was there when it was published. Times of files do not tell:
//! clocks are set back, and copies have times of their own. Steps alone do not tell either: in a directory that several
//! runs have used, the newest is the last run's, whatever steps the others came to.

use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::folder::{MANIFEST, checkpoints, step_of};
use super::manifest::{LAST_TO_COUNT_FROM, serial_of};

/// A checkpoint in its directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) folder: PathBuf,
    /// By its folder's name.
    pub(super) step: Option<usize>,
    /// Where its manifest can be read.
    pub(super) serial: Option<u64>,
}

/// The checkpoints of a directory, the newest last; none where there is no directory.
pub(super) fn listed(directory: &Path) -> Result<Vec<Listed>, CheckpointError> {
    let listed = |folder: PathBuf| Listed { step: step_of(&folder), serial: serial_of(&folder).ok(), folder };
    let mut listed: Vec<_> = checkpoints(directory)?.into_iter().map(listed).collect();
    put_in_order(&mut listed);
    Ok(listed)
}

/// The highest serial number of a directory, from which a run there counts on.
pub(super) fn highest_serial(directory: &Path) -> Result<u64, CheckpointError> {
    let listed = listed(directory)?;
    let numbered = listed.iter().filter_map(|one| Some((one.serial?, &one.folder)));
    match numbered.max() {
        Some((serial, folder)) if serial > LAST_TO_COUNT_FROM => Err(CheckpointError::Invalid {
            path: folder.join(MANIFEST),
            reason: format!(
                "serial: {serial} is more than {LAST_TO_COUNT_FROM}, from which no run counts on; remove this checkpoint, or \
                 save to another directory"
            ),
        }),
        highest => Ok(highest.map_or(0, |(serial, _)| serial)),
    }
}

fn put_in_order(listed: &mut [Listed]) {
    let numbered: Vec<_> = listed.iter().filter_map(|one| Some((one.step?, one.serial?))).collect();
    // The steps of a run rise: one that has lost its number follows upon the next lower step that has one.
    let follows =
        |step| numbered.iter().filter(|(below, _)| Some(*below) < step).max().map_or(0, |(_, serial)| *serial);
    listed.sort_by_key(|one| (one.serial.unwrap_or_else(|| follows(one.step)), one.step));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of checkpoints in their order, from steps and serial numbers in no order.
    fn ordered(checkpoints: &[(usize, Option<u64>)]) -> Vec<usize> {
        let listed = |&(step, serial): &(usize, Option<u64>)| Listed {
            folder: PathBuf::from(format!("step-{step:08}")),
            step: Some(step),
            serial,
        };
        let mut listed: Vec<_> = checkpoints.iter().map(listed).collect();
        put_in_order(&mut listed);
        listed.into_iter().filter_map(|one| one.step).collect()
    }

    #[test]
    fn serial_numbers_come_before_steps() {
        // A run that begins anew in the directory of another.
        assert_eq!(ordered(&[(9, Some(3)), (3, Some(4)), (6, Some(2))]), [6, 9, 3]);
        // Those of format 1 came before.
        assert_eq!(ordered(&[(9, Some(0)), (3, Some(1)), (6, Some(0))]), [6, 9, 3]);
    }

    #[test]
    fn a_checkpoint_without_a_number_follows_upon_the_next_lower_step() {
        assert_eq!(ordered(&[(9, None), (6, Some(2)), (3, Some(1))]), [3, 6, 9]);
        assert_eq!(ordered(&[(3, None), (6, Some(2)), (9, Some(3))]), [3, 6, 9]);
        assert_eq!(ordered(&[(6, None), (9, None), (3, Some(7)), (12, Some(2))]), [12, 3, 6, 9]);
        // It was of the run before: the new one has not come so far.
        assert_eq!(ordered(&[(9, None), (6, Some(2)), (3, Some(4))]), [6, 9, 3]);
    }
}
