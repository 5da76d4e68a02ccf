//! Whether the checkpoints of a run fit on the disk, asked before the run begins.

use brigade_pipeline::Store;
use brigade_pipeline::model::{Layer, Sequential};

use crate::failure::Failure;
use crate::settings::Settings;

/// Bytes of a checkpoint besides its values: a manifest, two headers, and what three files leave of their last blocks.
const FRAME: u64 = 16 << 10;
/// Bytes that a tensor takes in the manifest and the headers, its name apart.
const ENTRY: u64 = 256;

/// Holds what the checkpoints of a run need against what is free where they go. `saves` is how many the run makes, at
/// least.
///
/// # Errors
/// Where there is no room for those that are kept and the one that is being written. A run that keeps all of its
/// checkpoints is refused where not even one has room, and warned where not all have.
pub fn check_room(store: &Store, settings: &Settings, saves: usize) -> Result<(), Failure> {
    let keep = settings.keep;
    let Some(free) = store.free_bytes() else { return Ok(()) };
    let size = bytes(&settings.model, 2 + settings.staleness.carried().len());
    let more = at_once(store.count()?, keep, saves);
    if size.saturating_mul(more) <= free {
        return Ok(());
    }
    let directory = store.directory().display();
    let short = format!("{directory} has {free} bytes free, and {}", needs(more, size));
    match keep {
        Some(keep) => Err(Failure::storage(format!(
            "{short}: the last {keep}, the most accurate one, and the one that is being written; or lower --keep"
        ))),
        None if size > free => Err(Failure::storage(short)),
        None => {
            tracing::warn!("{short}; the disk will be full after {}: give --keep", free / size);
            Ok(())
        }
    }
}

fn needs(checkpoints: u64, size: u64) -> String {
    let needed = size.saturating_mul(checkpoints);
    if checkpoints == 1 {
        return format!("a checkpoint needs {needed} bytes");
    }
    format!("{checkpoints} more checkpoints of {size} bytes need {needed} bytes")
}

/// Bytes of one checkpoint of so many values for each parameter: itself, its momentum, what corrections carry.
fn bytes(model: &Sequential, values: usize) -> u64 {
    let entries = model.layers.iter().flat_map(Layer::named_parameters);
    let names: u64 = entries.map(|(name, _)| values as u64 * (ENTRY / 2 + 2 * name.len() as u64)).sum();
    FRAME + names + 4 * values as u64 * model.parameter_elements() as u64
}

/// The most checkpoints that come on top of the `there` ones at any time of a run. A new one is whole before an old one
/// goes, and the most accurate one may be older than all that are kept.
fn at_once(there: usize, keep: Option<usize>, saves: usize) -> u64 {
    let all = there.saturating_add(saves);
    let most = keep.map_or(all, |keep| all.min(keep.max(1).saturating_add(2)));
    most.saturating_sub(there).max(saves.min(1)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_at_once_are_those_kept_the_best_and_the_one_in_writing() {
        assert_eq!(at_once(0, Some(3), 100), 5);
        assert_eq!(at_once(4, Some(3), 100), 1);
        assert_eq!(at_once(9, Some(3), 100), 1);
        assert_eq!(at_once(0, Some(3), 2), 2);
        assert_eq!(at_once(4, None, 100), 100);
        assert_eq!(at_once(0, Some(3), 0), 0);
    }
}
