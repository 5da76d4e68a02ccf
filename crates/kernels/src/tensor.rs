//! The roles that tensors play in an operation.

use std::fmt;

/// The role of a buffer in an operation. Lower-case names are those of the shaders and of recorded cases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tensor {
    /// Input, N×C×H×W.
    X,
    /// Weights, in PyTorch's layout.
    W,
    /// Bias, K.
    B,
    /// Output, N×K×P×Q.
    Y,
    /// Gradient of the input, shaped as `X`.
    Dx,
    /// Gradient of the weights, accumulated, shaped as `W`.
    Dw,
    /// Gradient of the bias, accumulated, shaped as `B`.
    Db,
    /// Gradient of the output, shaped as `Y`.
    Dy,
    /// What the forward pass keeps for the backward pass besides `X` and `Y`.
    Saved,
    /// Class of each sample, N unsigned integers.
    Labels,
    /// Loss of each sample, then 1 or 0 for each sample's answer being right: 2·N.
    Metrics,
    /// Momentum buffer of the optimiser, shaped as `W`.
    V,
    /// What changes from step to step: see [`Scalars`](crate::Scalars).
    Scalars,
    /// Scratch memory of one pass; its content does not outlive the pass.
    Workspace,
}

impl Tensor {
    /// The name used in shaders, recorded cases and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::X => "x",
            Self::W => "w",
            Self::B => "b",
            Self::Y => "y",
            Self::Dx => "dx",
            Self::Dw => "dw",
            Self::Db => "db",
            Self::Dy => "dy",
            Self::Saved => "saved",
            Self::Labels => "labels",
            Self::Metrics => "metrics",
            Self::V => "v",
            Self::Scalars => "scalars",
            Self::Workspace => "workspace",
        }
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the 4 bytes of an element mean.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ElementType {
    /// IEEE single precision.
    F32,
    /// Unsigned integer.
    U32,
}

/// How a pass touches a tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Read only.
    Read,
    /// Every element is overwritten; what was there before does not matter.
    Write,
    /// Read and written.
    ReadWrite,
}

impl Access {
    /// Whether what the buffer held before the pass matters.
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Write)
    }

    /// Whether the pass changes the buffer.
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }
}

/// One tensor that a pass touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Use {
    /// Which.
    pub tensor: Tensor,
    /// How.
    pub access: Access,
}

impl Use {
    /// A tensor that is only read.
    pub const fn read(tensor: Tensor) -> Self {
        Self { tensor, access: Access::Read }
    }

    /// A tensor that is overwritten.
    pub const fn write(tensor: Tensor) -> Self {
        Self { tensor, access: Access::Write }
    }

    /// A tensor that is read and written.
    pub const fn update(tensor: Tensor) -> Self {
        Self { tensor, access: Access::ReadWrite }
    }
}
