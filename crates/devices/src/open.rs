//! Opening a device: an instance of its own, the same adapter again, everything it allows.

use std::time::Duration;

use wgpu::{Backends, Features};

use crate::adapters::{USEFUL, door, enumerate};
use crate::gpu::{Gpu, GpuExecutor};
use crate::{DeviceError, DeviceInfo, Executor, Kind, ReferenceExecutor};

/// How to open a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Driver threads of a software adapter; as many as the driver likes where nothing is said. Only llvmpipe
    /// listens.
    pub threads: Option<usize>,
    /// Whether submissions are timed on the device.
    pub timestamps: bool,
    /// Whether shaders check every index and bound every loop. For tests: it is slow.
    pub checked: bool,
    /// Plans as if no binding might be larger than this.
    pub binding_bytes: Option<u64>,
    /// The most that may be allocated on the device.
    pub budget_bytes: Option<u64>,
    /// How long set-up transfers and free slots are waited for.
    pub patience: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            threads: None,
            timestamps: true,
            checked: false,
            binding_bytes: None,
            budget_bytes: None,
            patience: Duration::from_secs(60),
        }
    }
}

/// Opens the device, found again by its identity, in an instance of its own. The same device can be opened several
/// times.
///
/// # Errors
/// Where it is not there any more, or its driver refuses.
pub fn open(info: &DeviceInfo, options: &OpenOptions) -> Result<Box<dyn Executor>, DeviceError> {
    if info.kind == Kind::Reference {
        return Ok(Box::new(ReferenceExecutor::new()));
    }
    let guard = door();
    let threads = info.driver.contains("llvmpipe").then_some(options.threads).flatten();
    let opened = with_threads(threads, || connect(info, options));
    drop(guard);
    let (mut info, device, queue) = opened?;
    if let Some(bytes) = options.binding_bytes {
        info.limits.binding_bytes = info.limits.binding_bytes.min(bytes);
    }
    tracing::debug!(device = %info, "opened");
    Ok(Box::new(GpuExecutor::new(Gpu::new(info, device, queue, options), options)?))
}

fn connect(wanted: &DeviceInfo, options: &OpenOptions) -> Result<(DeviceInfo, wgpu::Device, wgpu::Queue), DeviceError> {
    let found = enumerate(Backends::PRIMARY);
    let names: Vec<_> = found.iter().map(|(info, _)| info.name.clone()).collect();
    let same = found.into_iter().find(|(info, _)| info.identity == wanted.identity);
    let (info, adapter) = same.ok_or_else(|| DeviceError::NotFound { wanted: wanted.name.clone(), found: names })?;
    let mut useful = USEFUL.into_iter().fold(Features::empty(), |all, (feature, _)| all | feature) & adapter.features();
    if !options.timestamps {
        useful.remove(Features::TIMESTAMP_QUERY);
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("brigade"),
        required_features: useful,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|error| DeviceError::Open { device: info.name.clone(), reason: error.to_string() })?;
    Ok((info, device, queue))
}

/// Runs `open` while the environment tells llvmpipe its number of threads, which it reads as its instance is made.
/// The caller holds the [`door`].
fn with_threads<T>(threads: Option<usize>, open: impl FnOnce() -> T) -> T {
    const VARIABLE: &str = "LP_NUM_THREADS";
    let Some(threads) = threads else { return open() };
    let before = std::env::var_os(VARIABLE);
    set(VARIABLE, Some(threads.to_string().as_ref()));
    let result = open();
    set(VARIABLE, before.as_deref());
    result
}

#[allow(unsafe_code, reason = "llvmpipe takes its number of threads from the environment only")]
fn set(variable: &str, value: Option<&std::ffi::OsStr>) {
    match value {
        // SAFETY: Brigade changes the environment here only, under a process-wide lock, and reads it through std,
        // which has a lock of its own. Drivers read it under the same process-wide lock, as they are loaded.
        Some(value) => unsafe { std::env::set_var(variable, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(variable) },
    }
}
