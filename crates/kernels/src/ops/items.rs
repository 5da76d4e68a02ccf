//! What operations on planes, rows or samples have in common: a batch is cut between items, never within one.

use std::ops::Range;

use bytemuck::Pod;

use super::slots::slot;
use crate::{Binding, Dispatch, Kernel, Limits, PlanError, Use, chunks_together, workgroups};

/// One dispatch for each range of items that fits a binding.
pub(crate) struct Items<'a> {
    pub(crate) kernel: Kernel,
    /// Items in the batch.
    pub(crate) count: usize,
    /// Tensors that are cut with the items, and how many elements of them an item has.
    pub(crate) cut: &'a [(Use, usize)],
    /// Tensors that every dispatch sees whole, and their elements.
    pub(crate) whole: &'a [(Use, usize)],
}

impl Items<'_> {
    /// `groups` tells how many workgroups a number of items needs, `uniform` what a range of items is told.
    pub(crate) fn dispatches<U: Pod>(
        &self,
        limits: &Limits,
        groups: impl Fn(usize) -> usize,
        uniform: impl Fn(&Range<usize>) -> U,
    ) -> Result<Vec<Dispatch>, PlanError> {
        let operation = self.kernel.shader.name;
        for (used, elements) in self.whole {
            fits(operation, *used, *elements, limits)?;
        }
        let cut: Vec<_> = self.cut.iter().map(|(used, stride)| (used.tensor.name(), *stride)).collect();
        chunks_together(operation, self.count, &cut, limits)?
            .into_iter()
            .map(|range| {
                Ok(Dispatch {
                    kernel: self.kernel.clone(),
                    bindings: self.bindings(&range),
                    uniform: bytemuck::bytes_of(&uniform(&range)).to_vec(),
                    workgroups: workgroups(operation, groups(range.len()), limits)?,
                })
            })
            .collect()
    }

    fn bindings(&self, range: &Range<usize>) -> Vec<Binding> {
        let bind =
            |used: &Use, range| Binding { slot: slot(used.tensor), tensor: used.tensor, access: used.access, range };
        let cut = self.cut.iter().map(|(used, stride)| bind(used, range.start * stride..range.end * stride));
        let whole = self.whole.iter().map(|(used, elements)| bind(used, 0..*elements));
        cut.chain(whole).collect()
    }
}

/// Refuses a number of elements that vectors of 4 do not divide.
///
/// # Errors
/// Where there is a remainder.
pub(crate) fn whole_vectors(operation: &'static str, variant: &'static str, elements: usize) -> Result<(), PlanError> {
    if elements.is_multiple_of(4) {
        return Ok(());
    }
    Err(PlanError::Unsuited { operation, variant, why: format!("{elements} elements are not whole vectors of 4") })
}

fn fits(operation: &'static str, used: Use, elements: usize, limits: &Limits) -> Result<(), PlanError> {
    let needed = 4 * elements as u64;
    if needed <= limits.binding_bytes {
        return Ok(());
    }
    Err(PlanError::Limit {
        operation,
        what: format!("one binding of {}", used.tensor),
        needed: format!("{needed} bytes"),
        allowed: format!("{} bytes", limits.binding_bytes),
    })
}
