//! One pipeline that is run turn by turn.

use std::ops::ControlFlow;
use std::time::Instant;

use brigade::{Failure, LearningRate, Pipeline};
use brigade_pipeline::{Samples, StageReport, Stretch};

use super::super::runs::Bytes;

/// One pipeline, and what it is fed.
pub(super) struct Run {
    pipeline: Pipeline,
    samples: Samples,
}

/// What one turn gave.
pub(super) struct Turn {
    pub(super) steps: usize,
    pub(super) seconds: f64,
    pub(super) stages: Vec<StageReport>,
}

impl Run {
    /// A pipeline whose turns have `steps` steps at most.
    pub(super) fn new(pipeline: Pipeline, samples: Samples, steps: usize) -> Result<Self, Failure> {
        let warm_up = steps.min(2 * pipeline.ranges().len() + 2);
        let mut run = Self { pipeline, samples };
        // The first steps prepare every program; they do not count.
        run.turn(warm_up)?;
        Ok(run)
    }

    pub(super) fn turn(&mut self, steps: usize) -> Result<Turn, Failure> {
        let fed = vec![self.samples.clone(); steps];
        let stretch = Stretch::new(steps * self.samples.labels.len(), LearningRate::constant(1e-4));
        let started = Instant::now();
        let batches = Box::new(fed.into_iter().map(Ok));
        let report = self.pipeline.train(&stretch, batches, &mut |_, _| ControlFlow::Continue(()))?;
        Ok(Turn { steps, seconds: started.elapsed().as_secs_f64(), stages: report.stages })
    }
}

impl Turn {
    /// The turns of stages that ran by themselves, stage s in turn s, as one of all of them. A single turn is left as it is.
    pub(super) fn together(turns: Vec<Self>) -> Self {
        let seconds = turns.iter().map(|turn| turn.seconds).sum();
        let steps = turns.first().map_or(0, |turn| turn.steps);
        let alone = turns.len() > 1;
        let own = |(stage, turn): (usize, Self)| turn.stages.into_iter().filter(move |of| !alone || of.stage == stage);
        Self { steps, seconds, stages: turns.into_iter().enumerate().flat_map(own).collect() }
    }

    /// Seconds of a step.
    pub(super) fn step(&self) -> f64 {
        self.seconds / self.steps as f64
    }

    /// Bytes in the ledgers of the stages.
    pub(super) fn memory_bytes(&self) -> u64 {
        Bytes::of(self.stages.iter().map(|stage| stage.bytes.as_slice())).total
    }
}
