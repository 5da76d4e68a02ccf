//! Staleness under the schedules that never flush, and what is done about it, as plain data.
//!
//! [`WeightPolicy`] says which version of the weights a microbatch meets, [`Corrections`] what is done besides;
//! `StagePlan` is both worked out for one stage, and `Versions` says which copy of the weights each action reads.
//! The formulas stand in `docs/staleness.md`.

mod correction;
mod course;
mod policy;
mod stability;
mod stage;
mod versions;

use thiserror::Error;

pub use correction::{Correction, Corrections, Prediction};
pub(crate) use course::Course;
pub use policy::WeightPolicy;
pub use stability::{DEEP, stable_rate};
pub(crate) use stage::StagePlan;
pub(crate) use versions::{Versions, WeightCopy};

use crate::Carried;
use crate::schedule::Schedule;

/// How the schedules that never flush treat weights that change under way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct StalenessOptions {
    /// Which version of the weights a microbatch meets.
    pub weights: WeightPolicy,
    /// What is done about staleness besides.
    pub corrections: Corrections,
}

impl StalenessOptions {
    /// What stages carry from step to step beside weights and momentum, at most.
    pub fn carried(&self) -> Vec<Carried> {
        let Corrections { discrepancy, accumulation, .. } = self.corrections;
        let carries = |what: &Carried| match what {
            Carried::Drift => discrepancy,
            Carried::Gradient => accumulation.is_some(),
            Carried::Version => self.weights == WeightPolicy::DoubleBuffered,
        };
        Carried::ALL.into_iter().filter(carries).collect()
    }
}

/// Weights or corrections that are not possible.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StalenessError {
    /// A word that means nothing here.
    #[error("there is no {what} `{word}`; known: {known}")]
    Unknown {
        /// Weight policy or correction.
        what: &'static str,
        /// What was given.
        word: String,
        /// What could have been.
        known: String,
    },
    /// A correction with a number that it cannot have.
    #[error("`{word}`: {wanted}")]
    Number {
        /// What was given.
        word: String,
        /// What could have been.
        wanted: String,
    },
    /// Two things that do not go together.
    #[error("{first} does not go with {second}: {why}; leave one out")]
    Combination {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// The reason.
        why: &'static str,
    },
    /// More than one update between forward and backward.
    #[error(
        "double-buffered weights keep one older version, and at stage {stage} a microbatch is overtaken by {staleness} \
         updates: use at least {microbatches} microbatches a step, or `accumulation`"
    )]
    TooFewMicrobatches {
        /// The stage, from 0.
        stage: usize,
        /// Its staleness.
        staleness: usize,
        /// Microbatches of an update that would do.
        microbatches: usize,
    },
}

/// Microbatches whose forwards `stage` has run ahead of its oldest backward: the cause of staleness. None where the
/// schedule flushes.
pub fn run_ahead(schedule: &Schedule, stage: usize) -> usize {
    if schedule.kind.flushes() { 0 } else { schedule.warmup(stage, usize::MAX) - 1 }
}

/// Updates between the forward of a microbatch and its own update, at most, with an update every `microbatches`.
///
/// With d = [`run_ahead`], microbatch r of an update (from 0) meets ⌈(d − r)/M⌉ of them: the forward of microbatch b
/// comes after the backward of b − d − 1, by when ⌊(b − d)/M⌋ updates are done, and its own is number ⌊b/M⌋.
pub fn staleness(schedule: &Schedule, stage: usize, microbatches: usize) -> usize {
    run_ahead(schedule, stage).div_ceil(microbatches)
}

/// The stage with the stalest weights and its staleness with `options`; `None` where the policy is not possible.
pub fn worst_staleness(schedule: &Schedule, options: &StalenessOptions, microbatches: usize) -> Option<(usize, usize)> {
    let of = |stage: usize| StagePlan::new(options, schedule, stage, microbatches).ok().map(|plan| plan.staleness);
    let all: Option<Vec<usize>> = (0..schedule.stages).map(of).collect();
    all?.into_iter().enumerate().rev().max_by_key(|&(_, updates)| updates)
}

#[cfg(test)]
mod tests;
