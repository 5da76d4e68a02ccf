//! What can go wrong on a device.

use std::time::Duration;

use brigade_kernels::PlanError;
use thiserror::Error;

/// An error of a device, or of choosing one.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No adapter has that name.
    #[error("no device is called `{wanted}`; found: {}. `brigade devices` lists them", listed(found))]
    NotFound {
        /// The name asked for.
        wanted: String,
        /// The names there are.
        found: Vec<String>,
    },
    /// Several adapters have that part in their names.
    #[error("`{wanted}` could be {}; give more of the name, as `brigade devices` prints it", candidates.join(" or "))]
    Ambiguous {
        /// The part asked for.
        wanted: String,
        /// The names that have it.
        candidates: Vec<String>,
    },
    /// There is no adapter at all.
    #[error(
        "no GPU found: no Vulkan, Metal or DX12 driver answers. Install the GPU's driver, or `mesa-vulkan-drivers` \
         for a software adapter (`llvmpipe`); `--devices reference` computes on the host"
    )]
    NoAdapter,
    /// There are only adapters that compute on the host's cores, and none was asked for by name.
    #[error(
        "only software adapters found: {}. They are never chosen silently: name one with `--devices`, or install the \
         GPU's driver",
        listed(found)
    )]
    SoftwareOnly {
        /// Their names.
        found: Vec<String>,
    },
    /// The adapter was listed and cannot be opened.
    #[error("{device}: cannot be opened: {reason}")]
    Open {
        /// The device.
        device: String,
        /// What the driver says.
        reason: String,
    },
    /// The adapter lacks something that every device must have.
    #[error("{device}: {what} needs {needed}, and this adapter allows {allowed}")]
    Limit {
        /// The device.
        device: String,
        /// What is limited.
        what: String,
        /// What is needed, with its unit.
        needed: String,
        /// What is allowed, with its unit.
        allowed: String,
    },
    /// No variant of an operation can be planned within the adapter's limits.
    #[error("{device}: {program}: {pass} of {operation} cannot be planned: {source}")]
    Plan {
        /// The device.
        device: String,
        /// The program.
        program: String,
        /// The operation.
        operation: &'static str,
        /// The pass.
        pass: &'static str,
        /// Why.
        source: Box<PlanError>,
    },
    /// No variant of an operation is left: this adapter offers none of what they need, or all were excluded.
    #[error("{device}: {program}: no variant of {operation}/{pass} runs on this adapter ({reasons})")]
    NoVariant {
        /// The device.
        device: String,
        /// The program.
        program: String,
        /// The operation.
        operation: &'static str,
        /// The pass.
        pass: &'static str,
        /// Why each was left out.
        reasons: String,
    },
    /// A program contradicts itself: always a bug of the caller.
    #[error("{device}: program {program}: {message}")]
    Program {
        /// The device.
        device: String,
        /// The program.
        program: String,
        /// What is wrong with it.
        message: String,
    },
    /// There is no room.
    #[error(
        "{device}: out of memory: {} more for {purpose} do not fit beside the {} in use; use a smaller batch, fewer \
         activation sets in flight or more stages", bytes(*wanted), bytes(*in_use)
    )]
    OutOfMemory {
        /// The device.
        device: String,
        /// What it was for.
        purpose: String,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes allocated already.
        in_use: u64,
    },
    /// The device has gone.
    #[error(
        "{device}: lost: {reason}. Look in the system's log for the driver's reset; training goes on from the last checkpoint with `--resume`"
    )]
    Lost {
        /// The device.
        device: String,
        /// What the driver says.
        reason: String,
    },
    /// The device did not finish in time.
    #[error(
        "{device}: {what} has not finished after {:.1} s; the device hangs or the work is too long",
        waited.as_secs_f64()
    )]
    Timeout {
        /// The device.
        device: String,
        /// What was waited for.
        what: String,
        /// For how long.
        waited: Duration,
    },
    /// wgpu refused something: always a bug, of Brigade or of the driver.
    #[error("{device}: {message}")]
    Validation {
        /// The device.
        device: String,
        /// What wgpu says.
        message: String,
    },
    /// Every variant of a kernel computes wrong numbers on this adapter.
    #[error(
        "{device}: kernel {operation}/{pass} computes wrong numbers in every variant ({detail}); update the driver or \
         leave this device out"
    )]
    WrongResults {
        /// The device.
        device: String,
        /// The operation.
        operation: &'static str,
        /// The pass.
        pass: &'static str,
        /// Variants, tensors and errors.
        detail: String,
    },
}

impl DeviceError {
    /// The name of the device that it is about, where it is about one.
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Ambiguous { .. } | Self::NoAdapter | Self::SoftwareOnly { .. } => None,
            Self::NotFound { wanted: device, .. }
            | Self::Open { device, .. }
            | Self::Limit { device, .. }
            | Self::Plan { device, .. }
            | Self::NoVariant { device, .. }
            | Self::Program { device, .. }
            | Self::OutOfMemory { device, .. }
            | Self::Lost { device, .. }
            | Self::Timeout { device, .. }
            | Self::Validation { device, .. }
            | Self::WrongResults { device, .. } => Some(device),
        }
    }
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} bytes"),
        10_240..10_485_760 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}
