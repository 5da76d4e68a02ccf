//! The programs that a stage will submit in a run, prepared without one: what a plan counts.

use std::cmp::Reverse;

use super::Stage;
use super::programs::Key;
use crate::PipelineError;
use crate::batch::microbatches;
use crate::schedule::{Action, Schedule, Verb};
use crate::staleness::{Course, StagePlan, Versions, WeightCopy};

/// A run, as far as it decides about programs.
#[derive(Debug, Clone)]
pub(crate) struct Foreseen {
    pub(crate) schedule: Schedule,
    /// What the stage does about staleness.
    pub(crate) plan: StagePlan,
    /// Microbatches of a whole step.
    pub(crate) microbatches: usize,
    /// Epochs under the schedule.
    pub(crate) epochs: usize,
    /// Samples of each step of an epoch.
    pub(crate) steps: Vec<usize>,
    /// Samples of each step of an evaluation.
    pub(crate) evaluated: Vec<usize>,
    /// Whether epochs of a synchronous finish come after them.
    pub(crate) synchronous: bool,
}

impl Foreseen {
    fn cut(&self, steps: &[usize]) -> Vec<Vec<usize>> {
        let sizes =
            |&samples: &usize| microbatches(samples, self.microbatches).into_iter().map(|range| range.len()).collect();
        steps.iter().map(sizes).collect()
    }
}

/// An epoch of a [`Foreseen`] run.
struct Epoch {
    course: Course,
    first_step: usize,
}

impl Stage {
    /// Prepares what an epoch, an evaluation and the next epochs submit, in their order.
    pub(crate) fn foresee_run(&mut self, run: &Foreseen) -> Result<(), PipelineError> {
        let course = Course::new(run.schedule, run.plan, false);
        // Versions of the weights count over epochs, and come round after as many as are kept; the first has none before it.
        for epoch in 0..run.epochs.min(1 + run.plan.kept) {
            let first_step = epoch * run.steps.len();
            self.foresee_epoch(run, &Epoch { course, first_step })?;
            for samples in run.cut(&run.evaluated).into_iter().flatten() {
                self.foresee(Key::Evaluate { samples })?;
            }
        }
        if run.synchronous {
            self.foresee_synchronous(run)?;
        }
        self.read_largest()
    }

    fn foresee_synchronous(&mut self, run: &Foreseen) -> Result<(), PipelineError> {
        let course = Course::new(run.schedule, run.plan, true);
        self.foresee_epoch(run, &Epoch { course, first_step: 0 })
    }

    /// What a replica submits that is updated elsewhere; larger pieces first, so that the smaller share their slots.
    pub(crate) fn foresee_replica(&mut self, samples: usize) -> Result<(), PipelineError> {
        let weights = WeightCopy::Current;
        self.foresee(Key::Forward { set: 0, samples, weights })?;
        self.foresee(Key::Backward { set: 0, samples, weights })?;
        let mut pieces = self.pieces();
        pieces.sort_by_key(|piece| Reverse(piece.elements));
        for piece in pieces {
            self.foresee(Key::SendGradients(piece))?;
            self.foresee(Key::ReceiveWeights(piece))?;
        }
        Ok(())
    }

    /// Steps of a run with `plan` that lasts until every activation set has met every version of the weights.
    pub(crate) fn steps_of_a_round(&self, schedule: &Schedule, plan: StagePlan, microbatches: usize) -> usize {
        // Where every step flushes, sets meet microbatches as before once a step begins with the same set again.
        let common = if schedule.kind.flushes() { greatest_common_divisor(self.sets(), microbatches) } else { 1 };
        let round = self.sets() / common * plan.kept.max(1) * plan.accumulation;
        round + 2 * round.div_ceil(microbatches)
    }

    fn foresee_epoch(&mut self, run: &Foreseen, epoch: &Epoch) -> Result<(), PipelineError> {
        let steps = run.cut(&run.steps);
        let counts: Vec<usize> = steps.iter().map(Vec::len).collect();
        let samples = steps.concat();
        let Course { schedule, plan, drops_gradients, .. } = epoch.course;
        let row = schedule.row(self.index, &counts);
        let versions = Versions::new(plan, &row, &counts, epoch.first_step);
        self.foresee_copies()?;
        if drops_gradients {
            self.foresee(Key::LeaveOut { keep: None })?;
        }
        row.into_iter()
            .filter_map(|action| self.key(action, &samples, &versions, epoch))
            .collect::<Vec<_>>()
            .into_iter()
            .try_for_each(|key| self.foresee(key))
    }

    fn foresee_copies(&mut self) -> Result<(), PipelineError> {
        let copies = self.layout().copies;
        if copies.predicted || copies.set_back {
            self.foresee(Key::Refresh)?;
        }
        if copies.kept > 0 { self.foresee(Key::KeepEverywhere) } else { Ok(()) }
    }

    /// What an action of a row submits; nothing where a step ends without an update.
    fn key(&self, action: Action, samples: &[usize], versions: &Versions, epoch: &Epoch) -> Option<Key> {
        let Action { verb, index } = action;
        let microbatch = || (index % self.sets(), samples[index]);
        Some(match verb {
            Verb::Forward => {
                let (set, samples) = microbatch();
                Key::Forward { set, samples, weights: versions.forward(index) }
            }
            Verb::Backward => {
                let (set, samples) = microbatch();
                Key::Backward { set, samples, weights: versions.backward(index) }
            }
            Verb::InputGradient => {
                let (set, samples) = microbatch();
                Key::InputGradient { set, samples }
            }
            Verb::WeightGradient => {
                let (set, samples) = microbatch();
                Key::WeightGradient { set, samples }
            }
            Verb::Update if epoch.course.finishes => Key::PlainUpdate,
            Verb::Update if epoch.course.plan.updates_after(epoch.first_step + index) => {
                Key::Update { keep: versions.kept_by_update(index) }
            }
            Verb::Update => return None,
        })
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a.max(1) } else { greatest_common_divisor(b, a % b) }
}
