//! What a device allows, and what a variant asks for.

use std::fmt;
use std::str::FromStr;

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
    /// Side of the square matrices of `f16`, summed in `f32`, that a subgroup multiplies together; 0 where it cannot.
    pub cooperative_matrix: u32,
    /// The same of matrices of `f32`.
    pub cooperative_matrix_f32: u32,
    /// Whether the adapter computes on the host's cores.
    pub software: bool,
    /// What the operands of products may be rounded to: not the adapter's property but the user's choice.
    pub precision: Precision,
    /// Whether variants are offered that are meant for another kind of adapter: for tests and measurements.
    pub every_variant: bool,
}

/// What operands of products may be rounded to before they are multiplied. Sums are always in `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Not at all.
    #[default]
    F32,
    /// 11 bits, as in IEEE half precision.
    F16,
}

impl Precision {
    /// What the loss is multiplied with where nothing is said: gradients of a mean over a batch lie around 1e-5, and `f16`
    /// thins out below 6e-5.
    pub const fn loss_scale(self) -> f32 {
        match self {
            Self::F32 => 1.0,
            Self::F16 => 1024.0,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::F32 { "f32" } else { "f16" })
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Self::F32, Self::F16].into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| format!("a precision is `f32` or `f16`, not `{text}`"))
    }
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
        cooperative_matrix: 0,
        cooperative_matrix_f32: 0,
        software: false,
        precision: Precision::F32,
        every_variant: false,
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
    /// Largest subgroup it works with.
    pub subgroup_max: u32,
    /// Whether operands are rounded to `f16`.
    pub f16: bool,
    /// Side of the matrices that subgroups multiply, of `f16` where operands are rounded, else of `f32`; 0 where they do
    /// not.
    pub cooperative_matrix: u32,
    /// Whether it is meant for adapters that compute on the host's cores alone.
    pub software: bool,
    /// Whether it is meant for all adapters but those.
    pub gpu: bool,
}

impl Requirements {
    /// What every adapter offers.
    pub const PORTABLE: Self = Self {
        invocations: 256,
        workgroup_bytes: 16 << 10,
        subgroup_min: 0,
        subgroup_max: u32::MAX,
        f16: false,
        cooperative_matrix: 0,
        software: false,
        gpu: false,
    };

    /// Whether `limits` offer it.
    pub fn hold(&self, limits: &Limits) -> bool {
        self.invocations <= limits.invocations
            && self.workgroup_bytes <= limits.workgroup_bytes
            && self.subgroup_min <= limits.subgroup_min
            && self.subgroup_max >= limits.subgroup_max
            && (!self.f16 || (limits.f16 && limits.precision == Precision::F16))
            && (self.cooperative_matrix == 0 || self.cooperative_matrix == self.matrices_of(limits))
            && (limits.every_variant || !self.is_foreign(limits))
    }

    /// Side of the matrices that `limits` offer of its kind of operands.
    const fn matrices_of(&self, limits: &Limits) -> u32 {
        if self.f16 { limits.cooperative_matrix } else { limits.cooperative_matrix_f32 }
    }

    /// Whether it is meant for another kind of adapter.
    pub const fn is_foreign(&self, limits: &Limits) -> bool {
        if limits.software { self.gpu } else { self.software }
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
