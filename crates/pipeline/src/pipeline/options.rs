//! How a pipeline runs.

use crate::PipelineError;
use crate::schedule::{Kind, Schedule};
use crate::staleness::StalenessOptions;

/// The optimiser, stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimiser {
    /// μ of v ← μ·v + g.
    pub momentum: f32,
    /// λ of g ← g + λ·w.
    pub weight_decay: f32,
    /// Whether the step looks ahead: g + μ·v in place of v.
    pub nesterov: bool,
}

/// How a pipeline runs.
#[derive(Debug, Clone, Copy)]
pub struct PipelineOptions {
    /// The schedule.
    pub schedule: Kind,
    /// Samples of a step.
    pub batch: usize,
    /// Microbatches that a step is cut into.
    pub microbatches: usize,
    /// Seed of weights and dropout.
    pub seed: u64,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// What the loss is multiplied with until the gradients are used, so that small ones survive in `f16`. 1 for
    /// none.
    pub loss_scale: f32,
    /// What is done about staleness, where the schedule never flushes.
    pub staleness: StalenessOptions,
    /// Whether every action is recorded with its times.
    pub record: bool,
    /// Whether what passes between stages carries a checksum, and is sent again where it does not arrive as it left.
    pub link_checksums: bool,
}

impl PipelineOptions {
    /// The schedule over so many stages, where these options are possible with them: what a pipeline and its plan ask
    /// before anything else.
    pub(crate) fn checked(&self, stages: usize) -> Result<Schedule, PipelineError> {
        let Self { batch, microbatches, staleness, .. } = *self;
        let schedule = Schedule::new(self.schedule, stages);
        schedule.check()?;
        if microbatches == 0 || microbatches > batch {
            return Err(PipelineError::Microbatches { microbatches, batch });
        }
        staleness.corrections.check(staleness.weights, self.optimiser.nesterov)?;
        Ok(schedule)
    }
}
