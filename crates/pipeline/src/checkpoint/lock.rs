//! The lock on a directory of checkpoints: two runs that publish there would overwrite each other's.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::{CheckpointError, disk};

pub(super) const NAME: &str = ".lock";

/// Held as long as it lives. It is the system's own lock on a file, which goes with the process however that ends: what
/// is left of a process that was killed holds nothing.
#[derive(Debug, Clone)]
pub(super) struct Lock {
    _file: Arc<File>,
}

impl Lock {
    /// Takes the lock of `directory`, and writes down who holds it.
    pub(super) fn take(directory: &Path) -> Result<Self, CheckpointError> {
        let path = directory.join(NAME);
        let failed = |error| CheckpointError::io("locking", &path)(error);
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = disk::open_own(&mut options, &path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(directory, &path)),
            // Some network file systems have no locks; to refuse to save there would be worse.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                tracing::warn!("{}: this file system has no locks; let no other run save here", path.display());
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let holder = format!("process {} on {}", std::process::id(), host());
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(failed)?;
        Ok(Self { _file: Arc::new(file) })
    }
}

fn in_use(directory: &Path, path: &Path) -> CheckpointError {
    // The holder may be just about to write its name.
    let holder = fs::read_to_string(path).ok().filter(|text| !text.is_empty());
    let holder = holder.unwrap_or_else(|| "another process".to_owned());
    CheckpointError::InUse { path: directory.to_owned(), holder }
}

/// This machine's name, as far as it can be known.
fn host() -> String {
    let named = fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    let named = named.or_else(|| std::env::var("HOSTNAME").ok()).or_else(|| std::env::var("COMPUTERNAME").ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "this machine".to_owned())
}
