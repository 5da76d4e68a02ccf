//! Windows onto tensors, and workgroup counts: what the plans of matrix products have in common.

use std::ops::Range;

use super::slots::slot;
use crate::{Access, Binding, Limits, PlanError, Tensor, window, workgroups};

/// Rows and columns of the block that an invocation holds in registers; see `shaders/shared/block.wgsl`.
pub(crate) const BLOCK: usize = 8;
/// Invocations of a workgroup of the kernels that hold blocks.
pub(crate) const BLOCK_LANES: usize = 64;
/// Invocations of a workgroup of the kernels with an invocation for each element.
const FLAT_LANES: usize = 256;

/// The `override` constant of `shaders/shared/block_sum.wgsl`: on the host's cores a workgroup is no wider than their
/// vectors, since nothing hides there behind anything else.
pub(crate) fn lanes(limits: &Limits) -> Vec<(&'static str, f64)> {
    vec![("lanes", if limits.software { 8.0 } else { BLOCK_LANES as f64 })]
}

/// A window onto a tensor, ready to be bound, and how many of its elements lie before the first one that is meant.
pub(crate) struct Bound {
    pub(crate) binding: Binding,
    pub(crate) skip: u32,
}

/// Bound to the tensor's own slot.
pub(crate) fn bound(tensor: Tensor, access: Access, elements: Range<usize>) -> Bound {
    bound_to(slot(tensor), tensor, access, elements)
}

pub(crate) fn bound_to(slot: u32, tensor: Tensor, access: Access, elements: Range<usize>) -> Bound {
    let (range, skip) = window(elements);
    Bound { binding: Binding { slot, tensor, access, range }, skip }
}

/// The elements of a range of items of `stride` elements each.
pub(crate) const fn scaled(range: &Range<usize>, stride: usize) -> Range<usize> {
    range.start * stride..range.end * stride
}

/// Elements that a binding may have.
pub(crate) fn allowed(limits: &Limits) -> usize {
    usize::try_from(limits.binding_bytes / 4).unwrap_or(usize::MAX)
}

/// Whether scratch memory of `elements` fits a binding.
///
/// # Errors
/// Where it does not.
pub(crate) fn fits(operation: &'static str, elements: usize, limits: &Limits) -> Result<(), PlanError> {
    if elements <= allowed(limits) {
        return Ok(());
    }
    Err(PlanError::Limit {
        operation,
        what: "one binding of scratch memory".into(),
        needed: format!("{} bytes", elements.saturating_mul(4)),
        allowed: format!("{} bytes", limits.binding_bytes),
    })
}

/// Workgroups with one invocation for each of `elements`.
pub(crate) fn flat(operation: &'static str, elements: usize, limits: &Limits) -> Result<[u32; 3], PlanError> {
    workgroups(operation, elements.div_ceil(FLAT_LANES), limits)
}

/// `count` workgroups in one dimension.
pub(crate) fn dimension(operation: &'static str, count: usize, limits: &Limits) -> Result<u32, PlanError> {
    match u32::try_from(count) {
        Ok(count) if count <= limits.workgroups_per_dimension => Ok(count),
        _ => Err(PlanError::Limit {
            operation,
            what: "one dimension of a dispatch".into(),
            needed: format!("{count} workgroups"),
            allowed: limits.workgroups_per_dimension.to_string(),
        }),
    }
}
