//! A file that a run writes must not be another that it writes: one of them would be lost without a word.

use std::path::{Path, PathBuf};

use brigade::Failure;
use brigade_pipeline::{Store, files_written};

/// A flag, and where it writes.
type Output<'a> = (&'a str, &'a Option<PathBuf>);

/// Whether every output has a file of its own, however the flags spell it, and none is in the place of a checkpoint.
pub(super) fn check_apart(outputs: &[Output<'_>], checkpoints: Option<&Path>) -> Result<(), Failure> {
    let mut taken: Vec<(&str, Vec<PathBuf>)> = Vec::new();
    for (flag, path) in outputs {
        let Some(path) = path else { continue };
        let files = files_written(path)?;
        if let Some((other, file)) = taken.iter().find_map(|(other, there)| Some((other, shared(there, &files)?))) {
            let both = format!("{other} and {flag} both write {}", file.display());
            return Err(Failure::usage(format!("{both}; give each a file of its own")));
        }
        if let Some(directory) =
            checkpoints.filter(|directory| files.iter().any(|file| Store::would_own(directory, file)))
        {
            let message =
                format!("{flag} {} is in the place of a checkpoint in {}", path.display(), directory.display());
            return Err(Failure::usage(format!("{message}; name a file elsewhere")));
        }
        taken.push((flag, files));
    }
    Ok(())
}

fn shared<'a>(some: &'a [PathBuf], others: &[PathBuf]) -> Option<&'a PathBuf> {
    some.iter().find(|file| others.contains(file))
}
