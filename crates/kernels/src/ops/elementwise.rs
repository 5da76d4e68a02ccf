//! What operations on single elements have in common.

use std::ops::Range;

use bytemuck::Pod;

use crate::{Binding, Dispatch, Kernel, Limits, PlanError, Shader, Tensor, Use, chunks, workgroups};

/// Invocations of a workgroup of every elementwise kernel.
pub(crate) const LANES: usize = 256;

/// One dispatch for each range of elements that fits a binding. Every tensor in `uses` has `elements` elements and
/// is bound to the given slot; `whole` tensors are bound as they are. `uniform` gives the uniform of a range;
/// each invocation takes `per_lane` elements.
pub(crate) struct Elementwise<'a> {
    pub(crate) shader: &'static Shader,
    pub(crate) entry: &'static str,
    pub(crate) elements: usize,
    pub(crate) per_lane: usize,
    /// Tensors that are cut with the elements, by slot.
    pub(crate) uses: &'a [(u32, Use)],
    /// Tensors that every dispatch sees whole: slot, use, elements.
    pub(crate) whole: &'a [(u32, Use, usize)],
}

impl Elementwise<'_> {
    pub(crate) fn dispatches<U: Pod>(
        &self,
        limits: &Limits,
        uniform: impl Fn(&Range<usize>) -> U,
    ) -> Result<Vec<Dispatch>, PlanError> {
        chunks(self.shader.name, "a tensor", self.elements, 1, limits)?
            .into_iter()
            .map(|range| self.dispatch(limits, &range, bytemuck::bytes_of(&uniform(&range)).to_vec()))
            .collect()
    }

    fn dispatch(&self, limits: &Limits, range: &Range<usize>, uniform: Vec<u8>) -> Result<Dispatch, PlanError> {
        let bind = |slot, Use { tensor, access }, range| Binding { slot, tensor, access, range };
        let cut = self.uses.iter().map(|&(slot, used)| bind(slot, used, range.clone()));
        let whole = self.whole.iter().map(|&(slot, used, elements)| bind(slot, used, 0..elements));
        Ok(Dispatch {
            kernel: Kernel { shader: self.shader, entry: self.entry, constants: Vec::new() },
            bindings: cut.chain(whole).collect(),
            uniform,
            workgroups: workgroups(self.shader.name, range.len().div_ceil(LANES * self.per_lane), limits)?,
        })
    }
}

/// The slot of a tensor among an operation's bindings: the shader declares them in this order.
pub(crate) const fn slot(tensor: Tensor) -> u32 {
    match tensor {
        Tensor::X => 1,
        Tensor::W => 2,
        Tensor::B => 3,
        Tensor::Y => 4,
        Tensor::Dx => 5,
        Tensor::Dw => 6,
        Tensor::Db => 7,
        Tensor::Dy => 8,
        Tensor::Saved => 9,
        Tensor::Labels => 10,
        Tensor::Metrics => 11,
        Tensor::V => 12,
        Tensor::Scalars => 13,
        Tensor::Workspace => 14,
    }
}
