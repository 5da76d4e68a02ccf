//! Learning rates that change with the steps.

use serde::{Deserialize, Serialize};

/// Learning rate by step: `initial`, multiplied with `factor` at each of the `milestones` that has been reached
/// (PyTorch's `MultiStepLR`, with steps in place of epochs).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearningRate {
    /// Rate of step 0.
    pub initial: f32,
    /// Steps at which the rate changes.
    pub milestones: Vec<usize>,
    /// What it is multiplied with.
    pub factor: f32,
}

impl LearningRate {
    /// The same rate at every step.
    pub const fn constant(rate: f32) -> Self {
        Self { initial: rate, milestones: Vec::new(), factor: 1.0 }
    }

    /// The rate of a step of the run, from 0.
    pub fn at(&self, step: usize) -> f32 {
        let reached = self.milestones.iter().filter(|&&milestone| step >= milestone).count();
        self.initial * self.factor.powi(reached as i32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_falls_at_each_milestone() {
        let rate = LearningRate { initial: 0.5, milestones: vec![10, 20], factor: 0.5 };
        assert_eq!([0, 9, 10, 19, 20, 1000].map(|step| rate.at(step)), [0.5, 0.5, 0.25, 0.25, 0.125, 0.125]);
    }
}
