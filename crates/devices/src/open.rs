//! Opening a device: an instance of its own, the same adapter again, everything it allows.

use std::time::Duration;

use brigade_kernels::{Limits, Precision};
use wgpu::{Backends, Features};

use crate::adapters::{USEFUL, enumerate};
use crate::door::alone;
use crate::fault::{self, Fault};
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
    /// Whether every command of a submission is timed by itself as well; costs something, for measuring only.
    pub profile: bool,
    /// Whether shaders check every index and bound every loop. For tests: it is slow.
    pub checked: bool,
    /// Plans as if no binding might be larger than this.
    pub binding_bytes: Option<u64>,
    /// What operands of products may be rounded to.
    pub precision: Precision,
    /// Whether variants are offered that are meant for another kind of adapter: for tests and measurements.
    pub every_variant: bool,
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
            profile: false,
            checked: false,
            binding_bytes: None,
            precision: Precision::F32,
            every_variant: false,
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
    #[cfg(feature = "faults")]
    {
        crate::fault::check_there(info)?;
        Ok(Box::new(crate::fault::Faulty::new(open_inner(info, options)?)))
    }
    #[cfg(not(feature = "faults"))]
    open_inner(info, options)
}

fn open_inner(info: &DeviceInfo, options: &OpenOptions) -> Result<Box<dyn Executor>, DeviceError> {
    if info.kind == Kind::Reference {
        return Ok(Box::new(ReferenceExecutor::new()));
    }
    let threads = options.threads.filter(|_| info.takes_threads());
    let (mut info, device, queue) = alone(threads, || connect(info, options))?;
    if let Some(bytes) = options.binding_bytes {
        info.limits.binding_bytes = info.limits.binding_bytes.min(bytes);
    }
    lack(&mut info.limits);
    info.limits.precision = options.precision;
    info.limits.every_variant = options.every_variant;
    tracing::debug!(device = %info, "opened");
    Ok(Box::new(GpuExecutor::new(Gpu::new(info, device, queue, options), options)?))
}

/// Takes away what a planted fault says that the adapter lacks: subgroups, or workgroups of a useful size.
fn lack(limits: &mut Limits) {
    if fault::at("device.features") == Some(Fault::Missing) {
        (limits.subgroup_min, limits.subgroup_max) = (0, 0);
    }
    if fault::at("device.limits") == Some(Fault::Missing) {
        limits.invocations = 16;
    }
}

/// The device behind an identity. To be called [`alone`].
pub(crate) fn connect(
    wanted: &DeviceInfo,
    options: &OpenOptions,
) -> Result<(DeviceInfo, wgpu::Device, wgpu::Queue), DeviceError> {
    let found = enumerate(Backends::PRIMARY);
    let names: Vec<_> = found.iter().map(|(info, _)| info.name.clone()).collect();
    let same = found.into_iter().find(|(info, _)| info.identity == wanted.identity);
    let (info, adapter) = same.ok_or_else(|| DeviceError::NotFound { wanted: wanted.name.clone(), found: names })?;
    let mut useful = USEFUL.into_iter().fold(Features::empty(), |all, (feature, _)| all | feature) & adapter.features();
    if !options.timestamps {
        useful.remove(Features::TIMESTAMP_QUERY);
    } else {
        let finer = if options.profile {
            Features::TIMESTAMP_QUERY_INSIDE_PASSES
        } else {
            Features::TIMESTAMP_QUERY_INSIDE_ENCODERS
        };
        useful |= adapter.features() & finer;
    }
    // An experimental feature is asked for only where some variant may use it.
    if options.precision == Precision::F32 && info.limits.cooperative_matrix_f32 == 0 {
        useful.remove(Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    }
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("brigade"),
        experimental_features: experimental(useful),
        required_features: useful,
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..Default::default()
    };
    let (device, queue) = pollster::block_on(adapter.request_device(&descriptor))
        .map_err(|error| DeviceError::Open { device: info.name.clone(), reason: error.to_string() })?;
    Ok((info, device, queue))
}

/// Leave to use the experimental features among `features`.
#[allow(unsafe_code, reason = "cooperative matrices are experimental in wgpu")]
fn experimental(features: Features) -> wgpu::ExperimentalFeatures {
    if features.contains(Features::EXPERIMENTAL_COOPERATIVE_MATRIX) {
        // SAFETY: wgpu warns of undefined behaviour where an experimental feature is misused. Only Brigade's own modules
        // use it; they pass naga's validator, and no result counts before it has been held against the reference.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}
