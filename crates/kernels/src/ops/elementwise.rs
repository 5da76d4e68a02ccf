//! Operations that treat every element alike: one float at a time, or four where elements come in whole vectors.
//! `shaders/shared/elementwise.wgsl` is their common part.

use super::items::whole_vectors;
use crate::{Kernel, Pass, PlanError, Requirements, Shader, Variant};

/// Elements that a workgroup of 256 takes: enough that its start does not count, and few enough to fill a device.
const A_WORKGROUP: usize = 1024;

/// Four floats at a time, then one.
pub(crate) fn variants(pass: Pass) -> Vec<Variant> {
    ["vectors", "elementwise"].map(|name| Variant { name, pass, requires: Requirements::PORTABLE }).to_vec()
}

/// Floats of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Width(usize);

impl Width {
    /// That of a variant, for `count` floats.
    ///
    /// # Errors
    /// Where they are not whole vectors.
    pub(crate) fn of(operation: &'static str, variant: &Variant, count: usize) -> Result<Self, PlanError> {
        if variant.name != "vectors" {
            return Ok(Self(1));
        }
        whole_vectors(operation, variant.name, count).map(|()| Self(4))
    }

    /// The entry point of a pass in elements of this width.
    pub(crate) fn kernel(self, shader: &'static Shader, pass: Pass) -> Kernel {
        let definitions = vec![("VECTOR", u32::from(self.0 == 4)), ("A_WORKGROUP", A_WORKGROUP as u32)];
        Kernel { shader, entry: pass.name(), definitions, constants: Vec::new() }
    }

    /// Workgroups that so many floats need.
    pub(crate) const fn groups(self, floats: usize) -> usize {
        floats.div_ceil(self.0 * A_WORKGROUP)
    }
}
