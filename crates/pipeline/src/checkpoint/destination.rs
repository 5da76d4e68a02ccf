//! Where a file goes that a path names.

use std::fs::{self, File};
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use super::{CheckpointError, disk};

/// As many as Linux follows.
const MOST_LINKS: usize = 40;

/// Where a file goes, and how it comes there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// To `place`, whether or not a file is there: written beside it as `partial`, and renamed.
    Beside { partial: PathBuf, place: PathBuf },
    /// Into what is there already and is no file, such as a pipe or a device.
    Into(PathBuf),
}

impl Destination {
    /// What `path` leads to. A link stays a link: a file goes to where it points, whether or not there is one yet.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let there = fs::metadata(path);
        if there.as_ref().is_ok_and(|found| !found.is_file()) {
            return Ok(Self::Into(path.to_owned()));
        }
        let place = end_of_links(path)?;
        if there.is_ok() && !place.exists() {
            // Links in /proc lead to open files, also to those that have no name any more.
            return Ok(Self::Into(path.to_owned()));
        }
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".partial");
        Ok(Self::Beside { partial: place.with_file_name(name), place })
    }

    fn check(&self) -> Result<()> {
        match self {
            Self::Beside { partial, place } => [place, partial].into_iter().try_for_each(|path| can_be_written(path)),
            // Whoever reads from a pipe would see its end as soon as this closes it.
            Self::Into(path) if is_pipe(path) => Ok(()),
            Self::Into(path) => File::options().append(true).open(path).map(|_| ()),
        }
    }
}

/// Finds out whether a file can be written where `path` leads; what is there stays as it is.
///
/// # Errors
/// What the system says where it cannot.
pub fn check_writable(path: &Path) -> std::result::Result<(), CheckpointError> {
    Destination::of(path).and_then(|destination| destination.check()).map_err(CheckpointError::io("writing", path))
}

/// The files that writing to `path` makes or replaces, under the one name that each has however `path` is spelt; none where
/// that is a pipe or a device.
///
/// # Errors
/// Where links lead nowhere.
pub fn files_written(path: &Path) -> std::result::Result<Vec<PathBuf>, CheckpointError> {
    match Destination::of(path).map_err(CheckpointError::io("writing", path))? {
        Destination::Beside { partial, place } => Ok([place, partial].map(|file| whole(&file)).into()),
        Destination::Into(_) => Ok(Vec::new()),
    }
}

/// `path` from the root on and without links, as far as it is there.
pub(super) fn whole(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    fs::canonicalize(&absolute).unwrap_or_else(|_| match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => whole(parent).join(name),
        _ => absolute,
    })
}

fn end_of_links(path: &Path) -> Result<PathBuf> {
    let mut place = path.to_owned();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&place) {
            Ok(target) => place = place.parent().unwrap_or(Path::new("")).join(target),
            // No link, or nothing at all.
            Err(_) => return Ok(place),
        }
    }
    Err(Error::other("too many links lead from one to the next"))
}

fn can_be_written(path: &Path) -> Result<()> {
    let new = !path.exists();
    disk::open_own(File::options().append(true).create(true), path)?;
    if new { fs::remove_file(path) } else { Ok(()) }
}

#[cfg(unix)]
fn is_pipe(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

#[cfg(not(unix))]
fn is_pipe(_: &Path) -> bool {
    false
}
