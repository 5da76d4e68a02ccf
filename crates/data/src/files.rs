//! Finding and opening files without trusting them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::DataError;

/// The first of `names` that is a file in `folder`, or [`DataError::Missing`] that lists them all.
pub(crate) fn find(kind: &'static str, what: &str, folder: &Path, names: &[String]) -> Result<PathBuf, DataError> {
    let paths = names.iter().map(|name| folder.join(name));
    paths.into_iter().find(|path| path.is_file()).ok_or_else(|| DataError::Missing {
        kind,
        what: what.to_owned(),
        folder: folder.to_owned(),
        looked_for: names.join(", "),
    })
}

/// An open file and its length in bytes. Pipes, devices and folders are refused before they are opened.
pub(crate) fn open(path: &Path) -> Result<(File, u64), DataError> {
    let about = std::fs::metadata(path).map_err(io(path, "find it"))?;
    if !about.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
        return Err(io(path, "read it")(source));
    }
    let file = File::open(path).map_err(io(path, "open it"))?;
    Ok((file, about.len()))
}

/// Names of the entries of `folder` that do not begin with a dot, sorted by their bytes.
pub(crate) fn list(folder: &Path) -> Result<Vec<std::ffi::OsString>, DataError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io(folder, "list it"))? {
        let name = entry.map_err(io(folder, "list it"))?.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort_unstable_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok(names)
}

/// Says which file an [`io::Error`] belongs to.
pub(crate) fn io(file: &Path, doing: &'static str) -> impl Fn(io::Error) -> DataError {
    move |source| DataError::Io { file: file.to_owned(), doing, source }
}
