//! The words of a schedule.

use std::fmt;

/// What an action does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Verb {
    /// Forward of a microbatch.
    Forward,
    /// Backward of a microbatch: gradient of the input and of the weights.
    Backward,
    /// Update of the weights at the end of a step.
    Update,
}

/// One action of a stage's row. `index` is a microbatch for `F` and `B`, a step for `U`; both count from the start
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
            Self::Update => "U",
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.verb, self.index)
    }
}
