//! Parameters with their names, as they are saved.

use crate::stage::Parameter;

/// A parameter and its momentum, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    /// `conv1.weight`, as in a PyTorch state dict.
    pub name: String,
    /// Sides, outermost first: K×C×R×S for filters, out×in for linear weights.
    pub dims: Vec<usize>,
    /// The values.
    pub weights: Vec<f32>,
    /// The momentum buffer of the optimiser; zeros before the first step.
    pub momentum: Vec<f32>,
}

impl From<Parameter> for NamedTensor {
    fn from(Parameter { name, dims, weights, momentum }: Parameter) -> Self {
        Self { name, dims, weights, momentum }
    }
}

impl From<NamedTensor> for Parameter {
    fn from(NamedTensor { name, dims, weights, momentum }: NamedTensor) -> Self {
        Self { name, dims, weights, momentum }
    }
}
