//! One pipeline that is measured round by round.

use std::ops::ControlFlow;
use std::time::Instant;

use brigade::{Failure, LearningRate, Pipeline};
use brigade_pipeline::schedule::{Durations, Schedule as Rows, simulate};
use brigade_pipeline::{Samples, StageReport, Stretch, transfers};

use super::super::SCHEDULES;
use super::super::runs::Bytes;

/// One pipeline, being measured.
pub(super) struct Run {
    pipeline: Pipeline,
    batches: Vec<Samples>,
    pub(super) rounds: Vec<Round>,
}

/// What one round gave.
pub(super) struct Round {
    pub(super) seconds: f64,
    pub(super) stages: Vec<StageReport>,
}

/// The rounds of stages that ran by themselves, stage s in run s, as rounds of all of them.
pub(super) fn together(alone: &[Run]) -> Vec<Round> {
    let rounds = alone.iter().map(|run| run.rounds.len()).min().unwrap_or(0);
    let of_stages = |round: usize| {
        let own = move |(stage, run): (usize, &Run)| run.rounds[round].stages[stage].clone();
        alone.iter().enumerate().map(own).collect()
    };
    let seconds = |round: usize| alone.iter().map(|run| run.rounds[round].seconds).sum();
    (0..rounds).map(|round| Round { seconds: seconds(round), stages: of_stages(round) }).collect()
}

impl Round {
    /// Seconds of `steps` steps under layer-block-wise with the times of these stages' devices and of the links between them.
    pub(super) fn predict(&self, steps: usize) -> f64 {
        self.simulated(steps, StageReport::durations)
    }

    /// The same in wall time: with what the host takes for each action too.
    pub(super) fn predict_wall(&self, steps: usize) -> f64 {
        self.simulated(steps, StageReport::held)
    }

    fn simulated(&self, steps: usize, durations: impl Fn(&StageReport) -> Durations) -> f64 {
        let rows = Rows::new(SCHEDULES[0], self.stages.len());
        let durations: Vec<Durations> = self.stages.iter().map(durations).collect();
        let capacity = |link| rows.capacity(link, 1);
        let simulation = simulate(&rows, &vec![1; steps], &durations, &transfers(&self.stages), capacity);
        simulation.map_or(f64::NAN, |simulation| simulation.makespan())
    }

    /// Seconds that the slowest stage is busy with one step.
    pub(super) fn slowest(&self) -> f64 {
        let busy = |times: Durations| times.forward + times.backward + times.update;
        self.stages.iter().map(|stage| busy(stage.durations())).fold(0.0, f64::max)
    }

    /// Bytes in the ledgers of the stages.
    pub(super) fn memory_bytes(&self) -> u64 {
        Bytes::of(self.stages.iter().map(|stage| stage.bytes.as_slice())).total
    }
}

impl Run {
    pub(super) fn new(pipeline: Pipeline, samples: Samples, steps: usize) -> Result<Self, Failure> {
        let warm_up = steps.min(2 * pipeline.ranges().len() + 2);
        let mut run = Self { pipeline, batches: vec![samples; steps], rounds: Vec::new() };
        // The first steps prepare every program; they do not count.
        run.train(warm_up)?;
        Ok(run)
    }

    pub(super) fn round(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let stages = self.train(self.batches.len())?;
        self.rounds.push(Round { seconds: started.elapsed().as_secs_f64(), stages });
        Ok(())
    }

    fn train(&mut self, steps: usize) -> Result<Vec<StageReport>, Failure> {
        let fed: Vec<_> = self.batches[..steps].to_vec();
        let stretch = Stretch {
            samples: fed.iter().map(|samples| samples.labels.len()).sum(),
            first_step: 0,
            first_sample: 0,
            learning_rate: LearningRate::constant(1e-4),
            synchronous: false,
            left_out: Default::default(),
        };
        let batches = Box::new(fed.into_iter().map(Ok));
        Ok(self.pipeline.train(&stretch, batches, &mut |_, _| ControlFlow::Continue(()))?.stages)
    }

    pub(super) fn over(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }
}
