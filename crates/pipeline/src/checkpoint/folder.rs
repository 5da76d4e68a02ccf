//! How the folders in a directory of checkpoints are called, and the files in them.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use super::CheckpointError;
use crate::Carried;

pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const WEIGHTS: &str = "weights.safetensors";
pub(super) const MOMENTUM: &str = "momentum.safetensors";
/// What policy and corrections carry, as `conv1.weight.drift`; there where something is carried.
pub(super) const CARRIED: &str = "carried.safetensors";

const STEP: &str = "step-";
const PARTIAL: &str = ".partial";
const REPLACED: &str = ".replaced";

/// What a folder is, by its name; others than these are none of ours.
pub(super) enum Kind {
    /// A checkpoint.
    Published,
    /// What is being written, or being removed.
    Partial,
    /// A checkpoint that was set aside for another of the same step; its place.
    Replaced(PathBuf),
}

/// What a tensor in [`CARRIED`] is called.
pub(super) fn carried_name(parameter: &str, what: Carried) -> String {
    format!("{parameter}.{}", what.word())
}

/// The folder of the checkpoint of `step`.
pub(super) fn of_step(directory: &Path, step: usize) -> PathBuf {
    directory.join(format!("{STEP}{step:08}"))
}

/// Where the checkpoint of `folder` is while it is not whole.
pub(super) fn partial(folder: &Path) -> PathBuf {
    folder.with_file_name(format!(".{}{PARTIAL}", name_of(folder)))
}

/// Where the checkpoint of `folder` waits while another takes its place.
pub(super) fn aside(folder: &Path) -> PathBuf {
    folder.with_file_name(format!(".{}{REPLACED}", name_of(folder)))
}

/// What `path` is; a link is nothing, whatever it leads to.
pub(super) fn kind_of(path: &Path) -> Option<Kind> {
    if !fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        return None;
    }
    let name = name_of(path);
    if name.starts_with(STEP) {
        return Some(Kind::Published);
    }
    let hidden = name.strip_prefix('.').filter(|name| name.starts_with(STEP))?;
    let replaced = hidden.strip_suffix(REPLACED).map(|step| Kind::Replaced(path.with_file_name(step)));
    replaced.or_else(|| hidden.ends_with(PARTIAL).then_some(Kind::Partial))
}

/// The checkpoints of a directory in no order; none where there is no directory. One that was set aside counts where no
/// other has come to its place: its save was cut off.
pub(super) fn checkpoints(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut folders = entries(directory)?;
    folders.retain(|path| match kind_of(path) {
        Some(Kind::Published) => true,
        Some(Kind::Replaced(place)) => !place.exists(),
        _ => false,
    });
    Ok(folders)
}

/// The checkpoint that belongs to `path` and waits aside, where nothing is in its place.
pub(super) fn left_aside(path: &Path) -> Option<PathBuf> {
    let aside = aside(path);
    (!path.exists() && matches!(kind_of(&aside), Some(Kind::Replaced(_)))).then_some(aside)
}

/// The step of a checkpoint, by its folder's name.
pub(super) fn step_of(folder: &Path) -> Option<usize> {
    let name = name_of(folder);
    let shown = name.strip_prefix('.').and_then(|name| name.strip_suffix(REPLACED)).unwrap_or(&name);
    shown.strip_prefix(STEP)?.parse().ok()
}

/// What is in a directory; nothing where there is none.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CheckpointError::io("reading", directory)(error)),
        Ok(entries) => Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect()),
    }
}

fn name_of(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}
