//! Which copy of its weights each action of a stage reads, as a pure function of its row.

use super::{StagePlan, WeightPolicy};
use crate::schedule::{Action, Verb};

/// A copy of a stage's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum WeightCopy {
    /// Those that the optimiser updates.
    Current,
    /// Those predicted from them.
    Predicted,
    /// Those that the backward's are set back to.
    SetBack,
    /// An older version of what forwards read, in this slot.
    Kept(usize),
}

/// How many updates are done at each action of a row. Versions of the weights are numbered by the updates of the run
/// that made them, so that a row may start anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    plan: StagePlan,
    first_step: usize,
    /// Updates done at the forward of each microbatch.
    at_forward: Vec<usize>,
    /// Updates done at the backward of each microbatch.
    at_backward: Vec<usize>,
    /// The update that each microbatch belongs to.
    own: Vec<usize>,
}

impl Versions {
    /// For a row over `steps`, the first of which is the run's step `first_step`.
    pub(crate) fn new(plan: StagePlan, row: &[Action], steps: &[usize], first_step: usize) -> Self {
        let own = (first_step..).zip(steps).flat_map(|(step, &count)| vec![plan.updates_before(step); count]).collect();
        let microbatches = steps.iter().sum();
        let (mut at_forward, mut at_backward) = (vec![0; microbatches], vec![0; microbatches]);
        let mut done = plan.updates_before(first_step);
        for action in row {
            match action.verb {
                Verb::Forward => at_forward[action.index] = done,
                Verb::Backward | Verb::InputGradient | Verb::WeightGradient => at_backward[action.index] = done,
                Verb::Update => done = plan.updates_before(first_step + action.index + 1),
            }
        }
        Self { plan, first_step, at_forward, at_backward, own }
    }

    /// What the forward of `microbatch` reads.
    pub(crate) fn forward(&self, microbatch: usize) -> WeightCopy {
        let done = self.at_forward[microbatch];
        self.copy_of(self.wanted(microbatch).unwrap_or(done), done)
    }

    /// What the backward of `microbatch` reads.
    pub(crate) fn backward(&self, microbatch: usize) -> WeightCopy {
        let done = self.at_backward[microbatch];
        match self.wanted(microbatch) {
            Some(version) => self.copy_of(version, done),
            None if self.plan.set_back().is_some() => WeightCopy::SetBack,
            None if self.plan.looks_ahead() => WeightCopy::Predicted,
            None => WeightCopy::Current,
        }
    }

    /// Where the update at the end of `step` of the segment keeps the version that it replaces.
    pub(crate) fn kept_by_update(&self, step: usize) -> Option<usize> {
        let version = self.plan.updates_before(self.first_step + step);
        (self.plan.kept > 0).then(|| version % self.plan.kept)
    }

    /// The version that both passes of a microbatch read; `None` with one copy, where each reads that of its moment.
    fn wanted(&self, microbatch: usize) -> Option<usize> {
        match self.plan.weights() {
            WeightPolicy::Single => None,
            WeightPolicy::Stashed => Some(self.at_forward[microbatch]),
            WeightPolicy::DoubleBuffered => Some(self.own[microbatch].saturating_sub(1)),
        }
    }

    /// Where a version lies while `done` is the newest.
    fn copy_of(&self, version: usize, done: usize) -> WeightCopy {
        if version < done {
            return WeightCopy::Kept(version % self.plan.kept.max(1));
        }
        if self.plan.predicts() { WeightCopy::Predicted } else { WeightCopy::Current }
    }
}
