//! What a device allows, and what a variant asks for.

use crate::Pass;

/// The limits of a device that plans must respect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest storage binding in bytes.
    pub binding_bytes: u64,
    /// Largest buffer in bytes.
    pub buffer_bytes: u64,
    /// Invocations of one workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Storage buffers of one shader stage.
    pub storage_buffers: u32,
    /// Workgroups of one dispatch in each dimension.
    pub workgroups_per_dimension: u32,
    /// Smallest subgroup the device runs compute with; 0 where subgroups are not offered.
    pub subgroup_min: u32,
    /// Largest subgroup; 0 where subgroups are not offered.
    pub subgroup_max: u32,
    /// Whether `f16` can be used in shaders.
    pub f16: bool,
    /// Whether the adapter computes on the host's cores.
    pub software: bool,
}

impl Limits {
    /// What every adapter that Brigade supports offers: WebGPU's defaults.
    pub const PORTABLE: Self = Self {
        binding_bytes: 128 << 20,
        buffer_bytes: 256 << 20,
        invocations: 256,
        workgroup_bytes: 16 << 10,
        storage_buffers: 8,
        workgroups_per_dimension: 65535,
        subgroup_min: 0,
        subgroup_max: 0,
        f16: false,
        software: false,
    };
}

/// What a variant needs of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirements {
    /// Invocations of one workgroup.
    pub invocations: u32,
    /// Bytes of workgroup memory.
    pub workgroup_bytes: u32,
    /// Least subgroup size; 0 where subgroups are not used.
    pub subgroup_min: u32,
    /// Whether `f16` is used.
    pub f16: bool,
    /// Whether it is meant for adapters that compute on the host's cores alone.
    pub software: bool,
}

impl Requirements {
    /// What every adapter offers.
    pub const PORTABLE: Self =
        Self { invocations: 256, workgroup_bytes: 16 << 10, subgroup_min: 0, f16: false, software: false };

    /// Whether `limits` offer it.
    pub const fn hold(&self, limits: &Limits) -> bool {
        self.invocations <= limits.invocations
            && self.workgroup_bytes <= limits.workgroup_bytes
            && self.subgroup_min <= limits.subgroup_min
            && (!self.f16 || limits.f16)
            && (!self.software || limits.software)
    }
}

/// One way to compute a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Unique within the operation and pass.
    pub name: &'static str,
    /// The pass it computes.
    pub pass: Pass,
    /// What it needs.
    pub requires: Requirements,
}
