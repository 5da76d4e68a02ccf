//! Which checkpoints stay.

use std::path::{Path, PathBuf};

use super::CheckpointError;
use super::store::{folders, manifest_of, remove_folder, verifies};

/// Removes all checkpoints of `directory` but the last `keep` and the most accurate one. Nothing is removed while the
/// newest does not verify: one of the older ones is then the one to go on from.
pub(super) fn prune(directory: &Path, keep: usize) -> Result<(), CheckpointError> {
    let folders = folders(directory)?;
    let Some(newest) = folders.last() else { return Ok(()) };
    if let Err(error) = verifies(newest) {
        tracing::warn!("{error}; no older checkpoint is removed");
        return Ok(());
    }
    let best = best(&folders);
    let old = &folders[..folders.len().saturating_sub(keep.max(1))];
    old.iter().filter(|folder| Some(*folder) != best).try_for_each(|folder| remove_folder(folder))
}

/// The checkpoint with the highest test accuracy, the newest of several.
fn best(folders: &[PathBuf]) -> Option<&PathBuf> {
    let accuracy = |folder: &PathBuf| manifest_of(folder).ok()?.test_accuracy;
    let measured = folders.iter().filter_map(|folder| Some((accuracy(folder)?, folder)));
    measured.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, folder)| folder)
}
