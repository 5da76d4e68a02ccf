//! Which checkpoints stay.

use std::path::{Path, PathBuf};

use super::manifest::manifest_of;
use super::order::{Listed, listed};
use super::store::discard;
use super::{Checkpoint, CheckpointError};

/// Removes all checkpoints of `directory` but the last `keep`, the most accurate one and the one just `published`. Nothing
/// is removed where that one does not verify: one of the older ones is then the one to go on from.
pub(super) fn prune(directory: &Path, keep: usize, published: &Path) -> Result<(), CheckpointError> {
    if let Err(error) = Checkpoint::verify(published) {
        tracing::warn!("{error}; no older checkpoint is removed");
        return Ok(());
    }
    let listed = listed(directory)?;
    let best = best(&listed);
    let old = before_the_last(keep.max(1), &listed).iter().map(|one| &one.folder);
    old.filter(|folder| *folder != published && Some(*folder) != best).try_for_each(|folder| discard(folder))
}

/// All that come before the last `keep`. One without a manifest that can be read is no use to go on from, and takes no
/// other's place among those.
fn before_the_last(keep: usize, listed: &[Listed]) -> &[Listed] {
    let readable = listed.iter().enumerate().rev().filter(|(_, one)| one.serial.is_some());
    let first_kept = readable.map(|(place, _)| place).nth(keep - 1);
    &listed[..first_kept.unwrap_or(0)]
}

/// The checkpoint with the highest test accuracy, the newest of several.
fn best(listed: &[Listed]) -> Option<&PathBuf> {
    let accuracy = |one: &Listed| manifest_of(&one.folder).ok()?.test_accuracy;
    let measured = listed.iter().filter_map(|one| Some((accuracy(one)?, &one.folder)));
    measured.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, folder)| folder)
}
