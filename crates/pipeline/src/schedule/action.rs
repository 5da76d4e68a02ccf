//! The words of a schedule.

use std::fmt;

/// What an action does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verb {
    /// Forward of a microbatch.
    Forward,
    /// Backward of a microbatch: gradient of the input and of the weights.
    Backward,
    /// The part of a backward that the previous stage waits for: the gradient of the input.
    InputGradient,
    /// The rest of it: the gradient of the weights.
    WeightGradient,
    /// Update of the weights at the end of a step.
    Update,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 5] = [Self::Forward, Self::Backward, Self::InputGradient, Self::WeightGradient, Self::Update];

    /// Whether the action starts with a gradient from the next stage, or with labels, and ends with one for the
    /// previous stage.
    pub const fn passes_gradients(self) -> bool {
        matches!(self, Self::Backward | Self::InputGradient)
    }
}

/// One action of a stage's row. `index` is a step for `U` and a microbatch for all others; both count from the start
/// of the segment that the row covers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Action {
    /// What.
    pub verb: Verb,
    /// Of which microbatch, or at the end of which step.
    pub index: usize,
}

impl Action {
    /// Forward of microbatch `index`.
    pub const fn forward(index: usize) -> Self {
        Self { verb: Verb::Forward, index }
    }

    /// Backward of microbatch `index`.
    pub const fn backward(index: usize) -> Self {
        Self { verb: Verb::Backward, index }
    }

    /// Gradient of the input of microbatch `index`.
    pub const fn input_gradient(index: usize) -> Self {
        Self { verb: Verb::InputGradient, index }
    }

    /// Gradient of the weights of microbatch `index`.
    pub const fn weight_gradient(index: usize) -> Self {
        Self { verb: Verb::WeightGradient, index }
    }

    /// Update at the end of step `index`.
    pub const fn update(index: usize) -> Self {
        Self { verb: Verb::Update, index }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forward => "F",
            Self::Backward => "B",
            Self::InputGradient => "I",
            Self::WeightGradient => "W",
            Self::Update => "U",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.verb, self.index)
    }
}
