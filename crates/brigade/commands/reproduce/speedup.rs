//! Speed-up over one stage: measured where the machine has a core for each stage, else simulated from measured times.
//!
//! Every number of stages is run in turn, several rounds, so that a machine whose speed drifts slows all alike; each
//! figure is the median over the rounds. Adapters have one driver thread each. The stages' times for the simulation
//! come from runs of each stage by itself, with neighbours that take no time: it works without a pause, as it would in
//! the pipeline, and stages beyond the machine's cores do not disturb each other.

use std::ops::ControlFlow;
use std::time::Instant;

use brigade::{DeviceInfo, Failure, LearningRate, Pipeline, Placement, Schedule, Trainer, Tuning, built_in};
use brigade_pipeline::schedule::{Durations, Schedule as Rows, simulate};
use brigade_pipeline::{Samples, StageReport, Stretch};
use serde::Serialize;

use super::memory::Memory;
use super::runs::samples;
use super::{MODEL, SCHEDULES, WORKERS};
use crate::commands::bench::median;

/// What is measured, with the batch, and the steps of a round: enough that filling and draining two stages takes a
/// thirtieth of it at most.
const SUBJECTS: [(&str, usize, usize); 2] = [("plain-8", 4, 128), (MODEL, 2, 32)];

/// Stages over which speed-ups are told.
const STAGES: [usize; 3] = [2, 4, 8];

/// One of so many steps of a round is done by a stage that runs by itself.
const FEWER_ALONE: usize = 4;

/// The speed-ups of all subjects.
#[derive(Debug, Serialize)]
pub(super) struct Speedup {
    pub(super) schedule: Schedule,
    pub(super) rounds: usize,
    pub(super) threads_each: usize,
    pub(super) models: Vec<OfModel>,
}

/// One model.
#[derive(Debug, Serialize)]
pub(super) struct OfModel {
    pub(super) model: &'static str,
    batch: usize,
    steps: usize,
    /// Of one stage, median over the rounds.
    images_per_second: f64,
    pub(super) stages: Vec<OfStages>,
}

/// One number of stages, cut such that floating-point operations are balanced.
#[derive(Debug, Serialize)]
pub(super) struct OfStages {
    pub(super) stages: usize,
    pub(super) simulated: Figure,
    /// Where the machine has a core for each stage.
    pub(super) measured: Option<Measured>,
}

/// A speed-up beside what the stages' times allow.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figure {
    pub(super) speedup: f64,
    /// Time of one microbatch on one stage over that on the slowest of these.
    pub(super) bound: f64,
    /// `speedup` / `bound`.
    pub(super) efficiency: f64,
}

/// A speed-up of a real run.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) figure: Figure,
    /// Least and most over the rounds.
    spread: [f64; 2],
    /// Seconds of a round.
    seconds: f64,
    /// The same by the simulator, from the durations of that round's actions.
    predicted_seconds: f64,
    /// |predicted − measured| / measured, the median over the rounds.
    pub(super) prediction_error: f64,
}

impl Speedup {
    pub(super) fn measure(device: &DeviceInfo, rounds: usize) -> Result<Self, Failure> {
        let models = SUBJECTS
            .iter()
            .map(|&(model, batch, steps)| Bench::new(device, model, batch, steps)?.measure(rounds))
            .collect::<Result<_, Failure>>()?;
        Ok(Self { schedule: SCHEDULES[0], rounds, threads_each: 1, models })
    }
}

/// Speed-up per gigabyte (10⁹ bytes) of memory, four workers.
#[derive(Debug, Serialize)]
pub(super) struct PerGigabyte {
    /// The pipeline: simulated, over its ledger.
    pub(super) pipeline: f64,
    /// The baseline at best: as many times one device as there are workers, no time for the bus, over its ledger.
    pub(super) shared_bus_at_best: f64,
}

impl PerGigabyte {
    pub(super) fn new(speedup: &Speedup, memory: &Memory) -> Option<Self> {
        let (pipeline, baseline) = memory.totals(SCHEDULES[0])?;
        let model = speedup.models.iter().find(|model| model.model == MODEL)?;
        let four = model.stages.iter().find(|of| of.stages == WORKERS)?;
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        Some(Self {
            pipeline: four.simulated.speedup / gigabytes(pipeline),
            shared_bus_at_best: WORKERS as f64 / gigabytes(baseline),
        })
    }
}

/// One model's pipelines.
struct Bench {
    name: &'static str,
    batch: usize,
    steps: usize,
    one: Run,
    /// For each of [`STAGES`], each stage by itself.
    alone: Vec<Vec<Run>>,
    /// The first few of [`STAGES`].
    side_by_side: Vec<Run>,
}

impl Bench {
    fn new(device: &DeviceInfo, name: &'static str, batch: usize, steps: usize) -> Result<Self, Failure> {
        let model = built_in(name)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let trainer = |stages: usize| {
            let placement = Placement::balanced(&model, &vec![device.name.as_str(); stages])?;
            let trainer = Trainer::new(model.clone(), placement).schedule(SCHEDULES[0], 1).batch(batch);
            Ok::<_, Failure>(trainer.threads(Some(1)).tune(Tuning::Quick))
        };
        let whole = |stages| Run::new(trainer(stages)?.start()?, samples(&model, batch), steps);
        let each_alone = |stages| {
            let trainer = trainer(stages)?;
            let fed = samples(&model, batch);
            let alone = |stage| Run::new(trainer.start_alone(stage)?, fed.clone(), steps / FEWER_ALONE);
            (0..stages).map(alone).collect::<Result<Vec<_>, Failure>>()
        };
        let measured = STAGES.iter().filter(|&&stages| stages <= cores);
        Ok(Self {
            name,
            batch,
            steps,
            one: whole(1)?,
            alone: STAGES.iter().map(|&stages| each_alone(stages)).collect::<Result<_, _>>()?,
            side_by_side: measured.map(|&stages| whole(stages)).collect::<Result<_, _>>()?,
        })
    }

    fn measure(mut self, rounds: usize) -> Result<OfModel, Failure> {
        for round in 0..rounds {
            eprintln!("speed-up of {}: round {} of {rounds}", self.name, round + 1);
            let alone = self.alone.iter_mut().flatten();
            let all = std::iter::once(&mut self.one).chain(alone).chain(&mut self.side_by_side);
            all.into_iter().try_for_each(Run::round)?;
        }
        let each = STAGES.iter().zip(&self.alone).enumerate();
        let stages = each.map(|(index, (&stages, alone))| OfStages {
            stages,
            simulated: self.simulated(&together(alone)),
            measured: self.side_by_side.get(index).map(|run| self.measured(run)),
        });
        Ok(OfModel {
            model: self.name,
            batch: self.batch,
            steps: self.steps,
            images_per_second: median(self.one.over(|round| (self.batch * self.steps) as f64 / round.seconds)),
            stages: stages.collect(),
        })
    }

    fn simulated(&self, rounds: &[Round]) -> Figure {
        self.figure(rounds, median(self.pairs(rounds, |one, round| one.seconds / round.predict(self.steps))))
    }

    fn measured(&self, run: &Run) -> Measured {
        let speedups = self.pairs(&run.rounds, |one, round| one.seconds / round.seconds);
        let error = |round: &Round| (round.predict(self.steps) - round.seconds).abs() / round.seconds;
        Measured {
            spread: [
                speedups.iter().copied().fold(f64::INFINITY, f64::min),
                speedups.iter().copied().fold(0.0, f64::max),
            ],
            figure: self.figure(&run.rounds, median(speedups)),
            seconds: median(run.over(|round| round.seconds)),
            predicted_seconds: median(run.over(|round| round.predict(self.steps))),
            prediction_error: median(run.over(error)),
        }
    }

    fn figure(&self, rounds: &[Round], speedup: f64) -> Figure {
        let bound = median(self.pairs(rounds, |one, round| one.slowest() / round.slowest()));
        Figure { speedup, bound, efficiency: speedup / bound }
    }

    /// What each of `rounds` gives beside the same round of one stage.
    fn pairs(&self, rounds: &[Round], figure: impl Fn(&Round, &Round) -> f64) -> Vec<f64> {
        self.one.rounds.iter().zip(rounds).map(|(one, round)| figure(one, round)).collect()
    }
}

/// The rounds of stages that ran by themselves, stage s in run s, as rounds of all of them.
fn together(alone: &[Run]) -> Vec<Round> {
    let rounds = alone.iter().map(|run| run.rounds.len()).min().unwrap_or(0);
    let of_stages = |round: usize| alone.iter().enumerate().map(move |(stage, run)| run.rounds[round].durations[stage]);
    let seconds = |round: usize| alone.iter().map(|run| run.rounds[round].seconds).sum();
    (0..rounds).map(|round| Round { seconds: seconds(round), durations: of_stages(round).collect() }).collect()
}

/// One pipeline, being measured.
struct Run {
    pipeline: Pipeline,
    batches: Vec<Samples>,
    rounds: Vec<Round>,
}

/// What one round gave.
struct Round {
    seconds: f64,
    durations: Vec<Durations>,
}

impl Round {
    /// Seconds of `steps` steps under layer-block-wise with these durations. Transfers are part of the actions: a
    /// submission ends with its copy into staging memory.
    fn predict(&self, steps: usize) -> f64 {
        let rows = Rows::new(SCHEDULES[0], self.durations.len());
        let timeline = simulate(&rows, &vec![1; steps], &self.durations, &[], |link| rows.capacity(link, 1));
        timeline.map_or(f64::NAN, |timeline| timeline.makespan())
    }

    /// Seconds of one step on the slowest stage.
    fn slowest(&self) -> f64 {
        self.durations.iter().map(|times| times.forward + times.backward + times.update).fold(0.0, f64::max)
    }
}

impl Run {
    fn new(pipeline: Pipeline, samples: Samples, steps: usize) -> Result<Self, Failure> {
        let warm_up = steps.min(2 * pipeline.ranges().len() + 2);
        let mut run = Self { pipeline, batches: vec![samples; steps], rounds: Vec::new() };
        // The first steps prepare every program; they do not count.
        run.train(warm_up)?;
        Ok(run)
    }

    fn round(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let stages = self.train(self.batches.len())?;
        self.rounds.push(Round {
            seconds: started.elapsed().as_secs_f64(),
            durations: stages.iter().map(durations).collect(),
        });
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

    fn over(&self, figure: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(figure).collect()
    }
}

fn durations(stage: &StageReport) -> Durations {
    let [forward, backward, update] = [stage.forward, stage.backward, stage.update].map(|tally| tally.mean_seconds());
    Durations::whole(forward, backward, update)
}
