//! The seam of storage: every change to the disk goes through here. A planted fault takes the place of what the system
//! would say, and every change can be noted, so that a test can play what a loss of power leaves; without the feature
//! `faults` of `brigade-devices` there is neither.

use std::borrow::Cow;
use std::fs::{self, File, OpenOptions};
use std::io::{Error, ErrorKind, Result, Write};
use std::path::Path;

use brigade_devices::fault::{self, Fault, note};

/// Makes a folder and all folders above it that are missing, and syncs what holds their names.
pub(super) fn create_folders(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_folders(parent)?;
    match create_folder(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => sync_folder(parent),
    }
}

/// Makes a folder.
pub(super) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir(path)?;
    note("folder", path, None);
    Ok(())
}

/// Opens a file of the program's own. A link there is somebody else's, and what it leads to is not touched.
pub(super) fn open_own(options: &mut OpenOptions, path: &Path) -> Result<File> {
    match fs::symlink_metadata(path).map(|found| found.file_type()) {
        Ok(found) if found.is_symlink() => {
            return Err(Error::other("is a symbolic link, which is not followed; remove it"));
        }
        Ok(found) if !found.is_file() => return Err(Error::other("is not a file; remove it")),
        _ => {}
    }
    // Nor one that has come there since.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(options, rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
    options.open(path)
}

/// Writes a whole file and syncs its content; its name is durable when its folder has been synced. The file is made anew:
/// what had its name is left over, or a link, and what that leads to stays as it is.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    pass("storage.create")?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(path)?;
    note("file", path, None);
    file.write_all(&damaged("storage.write", bytes)?)?;
    pass("storage.sync")?;
    file.sync_all()?;
    note("sync", path, None);
    Ok(())
}

/// Gives a file or folder another name; `site` says what for.
pub(super) fn rename(site: &str, from: &Path, to: &Path) -> Result<()> {
    pass(site)?;
    fs::rename(from, to)?;
    note("rename", from, Some(to));
    Ok(())
}

/// Removes a folder with what it holds.
pub(super) fn remove_folder(path: &Path) -> Result<()> {
    fs::remove_dir_all(path)?;
    note("remove", path, None);
    Ok(())
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> Result<()> {
    pass("storage.sync")?;
    // Where a folder cannot be opened, as on Windows, the system keeps names by itself.
    if cfg!(unix) {
        File::open(path)?.sync_all()?;
    }
    note("sync", path, None);
    Ok(())
}

/// Bytes that may still be written in a folder, where the system knows.
pub(super) fn free_bytes(folder: &Path) -> Option<u64> {
    if fault::at("disk.free") == Some(Fault::DiskFull) {
        return Some(0);
    }
    #[cfg(unix)]
    {
        let found = rustix::fs::statvfs(folder).ok()?;
        // Some file systems of the network and of the kernel itself count no blocks at all.
        (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

/// Notes that a checkpoint is safe, whatever happens.
pub(super) fn published(path: &Path) {
    note("published", path, None);
}

/// Passes, or fails as the system would at this call of `site`.
fn pass(site: &str) -> Result<()> {
    refused(fault::at(site))
}

/// What of `bytes` comes to the disk at this call of `site`.
fn damaged<'a>(site: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>> {
    let fault = fault::at(site);
    refused(fault)?;
    let mut bytes = Cow::Borrowed(bytes);
    if fault == Some(Fault::Flip)
        && let Some(last) = bytes.to_mut().last_mut()
    {
        *last ^= 1;
    }
    Ok(bytes)
}

fn refused(fault: Option<Fault>) -> Result<()> {
    match fault {
        Some(Fault::DiskFull) => Err(Error::new(ErrorKind::StorageFull, "no space left on device")),
        Some(Fault::Io) => Err(Error::other("input/output error")),
        _ => Ok(()),
    }
}
