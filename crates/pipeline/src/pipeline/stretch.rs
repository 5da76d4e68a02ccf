//! A stretch of training: what a pipeline is asked for, and what it gave.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Metrics;
use crate::report::StageReport;
use crate::schedule::Schedule;
use crate::train::LearningRate;

/// A stretch of training: `samples` samples in steps of the batch, the last one smaller where they do not divide.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Samples in all.
    pub samples: usize,
    /// The run's step that it starts with.
    pub first_step: usize,
    /// Samples that the run had seen before.
    pub first_sample: u64,
    /// Learning rate by step of the run.
    pub learning_rate: LearningRate,
    /// Whether nothing is to be stale in it: under a schedule that never flushes it runs under `1f1b`, uncorrected.
    pub synchronous: bool,
    /// Steps of the run that end without their update.
    pub left_out: Arc<BTreeSet<usize>>,
}

impl Stretch {
    /// The first `samples` samples of a run.
    pub fn new(samples: usize, learning_rate: LearningRate) -> Self {
        let left_out = Arc::default();
        Self { samples, first_step: 0, first_sample: 0, learning_rate, synchronous: false, left_out }
    }
}

/// What a stretch of training gave.
#[derive(Debug, Clone)]
pub struct StretchReport {
    /// Steps that were done.
    pub steps: usize,
    /// Loss and right answers of its samples, each at the weights of its own forward, but for steps that were left out.
    pub metrics: Metrics,
    /// What each stage counted.
    pub stages: Vec<StageReport>,
    /// Whose rows the stages walked.
    pub walked: Walked,
}

/// What decides about the rows of a stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// The schedule.
    pub schedule: Schedule,
    /// Microbatches of each step.
    pub steps: Vec<usize>,
}
