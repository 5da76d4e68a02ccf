//! Parameters with their names, as they are saved.

use std::collections::BTreeMap;

/// A parameter and its state, on the host.
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
    /// What policy and corrections carry from step to step, as many values each.
    pub carried: BTreeMap<Carried, Vec<f32>>,
}

/// What a weight policy or a correction carries from step to step, beside the weights and their momentum. Without it a run
/// that goes on from a checkpoint would not have the bits of one that was not interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carried {
    /// The moving average δ of what updates change: `discrepancy`.
    Drift,
    /// The gradients since the last update: `accumulation`.
    Gradient,
    /// The weights before the last update: `double-buffered`.
    Version,
}

impl Carried {
    /// All there is.
    pub const ALL: [Self; 3] = [Self::Drift, Self::Gradient, Self::Version];

    /// The word in a checkpoint.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drift => "drift",
            Self::Gradient => "gradient",
            Self::Version => "version",
        }
    }
}
