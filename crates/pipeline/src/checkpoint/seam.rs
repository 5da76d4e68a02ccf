//! The seam of storage: where a planted fault takes the place of what the system would say. Without the feature `faults`
//! of `brigade-devices` it lets everything pass.

use std::borrow::Cow;
use std::io::{Error, ErrorKind, Result};

use brigade_devices::fault::{self, Fault};

/// Passes, or fails as the system would at this call of `site`.
pub(super) fn pass(site: &str) -> Result<()> {
    refused(fault::at(site))
}

/// What of `bytes` comes to the disk at this call of `site`.
pub(super) fn damaged<'a>(site: &str, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>> {
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
