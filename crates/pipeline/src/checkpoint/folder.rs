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
    directory.join(name_of_step(step))
}

fn name_of_step(step: usize) -> String {
    format!("{STEP}{step:08}")
}

/// The step of a name that [`name_of_step`] gives; any other is somebody else's, however it begins.
fn step_of_name(name: &str) -> Option<usize> {
    let step = name.strip_prefix(STEP)?.parse().ok()?;
    (name == name_of_step(step)).then_some(step)
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
    kind_of_name(path)
}

fn kind_of_name(path: &Path) -> Option<Kind> {
    let name = name_of(path);
    let Some(hidden) = name.strip_prefix('.') else { return step_of_name(&name).map(|_| Kind::Published) };
    let without = |suffix| hidden.strip_suffix(suffix).filter(|step| step_of_name(step).is_some());
    let replaced = without(REPLACED).map(|step| Kind::Replaced(path.with_file_name(step)));
    replaced.or_else(|| without(PARTIAL).map(|_| Kind::Partial))
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

/// Whether `path` has a name of ours: what is called so may be removed as a checkpoint is.
pub(super) fn is_ours(path: &Path) -> bool {
    kind_of_name(path).is_some()
}

/// Whether `path` is a checkpoint, or would count as one in the directory that it is in.
pub(super) fn is_checkpoint(path: &Path) -> bool {
    is_ours(path) || path.join(MANIFEST).exists()
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
    step_of_name(shown)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_23_only_names_that_are_written_are_known() {
        let known = |name: &str| kind_of_name(Path::new(name)).is_some();
        for step in [0, 3, 99_999_999, 100_000_000, usize::MAX] {
            let folder = of_step(Path::new("ck"), step);
            assert_eq!(step_of(&folder), Some(step));
            for path in [partial(&folder), aside(&folder), folder] {
                assert!(kind_of_name(&path).is_some(), "{}", path.display());
            }
        }
        for name in ["step-", "step-3", "step-+0000003", "step-000000003", "step-00000003-backup", "step-by-step-notes"]
        {
            let hidden = [PARTIAL, REPLACED].map(|suffix| format!(".{name}{suffix}"));
            assert!(!known(name) && !hidden.iter().any(|name| known(name)), "{name}");
        }
    }
}
