//! What wgpu's callbacks say, from whichever thread they come.

use std::sync::OnceLock;

use crate::DeviceError;

/// The first loss and the first uncaptured error of a device.
#[derive(Debug, Default)]
pub(super) struct Health {
    lost: OnceLock<String>,
    error: OnceLock<DeviceError>,
}

impl Health {
    /// Notes that the device has gone; the first reason stays.
    pub(super) fn lose(&self, reason: String) {
        let _ = self.lost.set(reason);
    }

    /// Notes an error that no scope has caught; the first stays.
    pub(super) fn fail(&self, error: DeviceError) {
        tracing::error!("{error}");
        let _ = self.error.set(error);
    }

    /// Fails where the device has gone or something went wrong.
    pub(super) fn check(&self, device: &str) -> Result<(), DeviceError> {
        if let Some(reason) = self.lost.get() {
            return Err(DeviceError::Lost { device: device.to_owned(), reason: reason.clone() });
        }
        self.error.get().map_or(Ok(()), |error| Err(error.clone()))
    }
}
