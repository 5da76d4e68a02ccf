//! What a run gave.

use super::Position;
use crate::pipeline::{Metrics, Walked};
use crate::report::StageReport;

/// What a run gave.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// Where it ended.
    pub position: Position,
    /// Seconds of training, evaluation and checkpoints not counted.
    pub seconds: f64,
    /// Samples trained on in this run.
    pub samples: usize,
    /// The last evaluation.
    pub test: Option<Metrics>,
    /// What each stage counted in all training.
    pub stages: Vec<StageReport>,
    /// Whether the observer ended it early.
    pub stopped: bool,
    /// What the last stretch of training walked; the records of [`StageReport`] end with it.
    pub walked: Option<Walked>,
}

impl From<Position> for RunReport {
    fn from(position: Position) -> Self {
        Self { position, seconds: 0.0, samples: 0, test: None, stages: Vec::new(), stopped: false, walked: None }
    }
}

impl RunReport {
    /// Adds what a later part of the same run gave.
    pub fn absorb(&mut self, later: Self) {
        self.position = later.position;
        self.seconds += later.seconds;
        self.samples += later.samples;
        self.test = later.test;
        self.stopped |= later.stopped;
        self.walked = later.walked.or(self.walked.take());
        absorb(&mut self.stages, later.stages);
    }
}

/// Adds what stages counted later; over other stages than before, counting starts anew. Of a part without a step there is
/// nothing to add.
pub(super) fn absorb(total: &mut Vec<StageReport>, later: Vec<StageReport>) {
    if later.is_empty() {
        return;
    }
    if total.len() != later.len() {
        *total = later;
        return;
    }
    for (total, stage) in total.iter_mut().zip(later) {
        total.absorb(stage);
    }
}
