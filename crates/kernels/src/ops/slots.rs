//! Where each tensor is bound, in every shader alike.

use crate::Tensor;

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

/// The slot of a fused rectifier's output in kernels that have something else in that of `x`; behind all parts of the
/// scratch memory.
pub(crate) const MASK: u32 = 17;
