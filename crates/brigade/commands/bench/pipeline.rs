//! `brigade bench pipeline`: speed-up over stages, beside the bound that the stages' own times give.
//!
//! All stage counts are measured in turn, several rounds of each, so that a machine whose speed drifts slows them
//! alike; every figure is the median over the rounds.

use std::ops::ControlFlow;
use std::time::Instant;

use brigade::{
    Balance, Data, DataKind, DeviceInfo, Failure, LearningRate, Pipeline, Placement, Schedule, Spec, Trainer, Tuning,
    built_in, check_stages, choose_interleaved, whole_names,
};
use brigade_pipeline::schedule::{Durations, simulate};
use brigade_pipeline::{Source, StageReport, Stretch, transfers};
use serde::Serialize;

use super::statistics::median;
use crate::output;

/// The flags of `bench pipeline`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Built-in model
    #[arg(long, default_value = "plain-8")]
    model: String,
    /// Numbers of stages; speed-ups are over the first
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2])]
    stages: Vec<usize>,
    /// One device, opened once for each stage, or as many as the most stages; with interleaved=V a V-th of that
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    /// What the cuts even out: flops, or measured, the times of the layers on each device
    #[arg(long, default_value_t)]
    balance: Balance,
    /// Schedule
    #[arg(long, default_value = "layer-block-wise")]
    schedule: String,
    /// Samples of a step
    #[arg(long, default_value_t = 4)]
    batch: usize,
    /// Microbatches of a step
    #[arg(long, default_value_t = 1)]
    microbatches: usize,
    /// Steps of a round; filling and draining the pipeline once a round is part of its time
    #[arg(long, default_value_t = 128)]
    steps: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Driver threads of each software adapter
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Tuning of kernels: off, quick or full
    #[arg(long, default_value_t)]
    tune: Tuning,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    balance: Balance,
    schedule: String,
    batch: usize,
    microbatches: usize,
    steps: usize,
    rounds: usize,
    threads: usize,
    tune: Tuning,
    runs: Vec<Run>,
    /// Images per second of the last number of stages over those of the first: the median over the rounds.
    speedup: f64,
    /// Sum of the stages' times over the longest of them, at the last number of stages, over the same at the first.
    bound: f64,
    /// `speedup` / `bound`.
    efficiency: f64,
}

/// One number of stages.
#[derive(Debug, Serialize)]
struct Run {
    stages: usize,
    devices: Vec<String>,
    /// Median over the rounds.
    images_per_second: f64,
    /// Least and most over the rounds.
    spread: [f64; 2],
    /// Milliseconds on the device for one microbatch, forward, backward and update, of each stage.
    stage_milliseconds: Vec<f64>,
    speedup: f64,
    bound: f64,
    efficiency: f64,
    /// Fraction of the devices' time in which they do nothing: as measured, and simulated with the measured times of
    /// the actions and of the transfers; medians over the rounds.
    bubble: Bubble,
    /// Time of a round in the simulation over the measured one; median over the rounds.
    predicted: f64,
}

/// Fractions of the devices' time, 0 to 1.
#[derive(Debug, Clone, Copy, Serialize)]
struct Bubble {
    measured: f64,
    simulated: f64,
    /// By the published formula ([`brigade_pipeline::schedule::Schedule::bubble`]), as if every stage took the mean of the
    /// measured times; absent where nothing is flushed.
    formula: Option<f64>,
    /// Whether the formula's conditions hold for these times; else it is the least that the bubble can be.
    formula_is_exact: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.steps == 0 || args.rounds == 0 || args.stages.is_empty() {
        return Err(Failure::usage("bench pipeline: steps, rounds and stages are at least one"));
    }
    let mut benches = args.stages.iter().map(|&stages| Bench::new(args, stages)).collect::<Result<Vec<_>, _>>()?;
    for round in 0..args.rounds {
        for bench in &mut benches {
            output::tell(format_args!("round {} of {}: {} stages", round + 1, args.rounds, bench.devices.len()));
            bench.round()?;
        }
    }
    let base = Base { rates: benches[0].rates.clone(), bound: benches[0].bound() };
    let runs: Vec<Run> = benches.iter().map(|bench| bench.result(&base)).collect();
    let Some(last) = runs.last() else { return Ok(()) };
    let report = Report {
        model: args.model.clone(),
        balance: args.balance,
        schedule: args.schedule.clone(),
        batch: args.batch,
        microbatches: args.microbatches,
        steps: args.steps,
        rounds: args.rounds,
        threads: args.threads,
        tune: args.tune,
        speedup: last.speedup,
        bound: last.bound,
        efficiency: last.efficiency,
        runs,
    };
    if args.json { output::json(&report) } else { report.runs.iter().try_for_each(print) }
}

fn print(run: &Run) -> Result<(), Failure> {
    let times: Vec<_> = run.stage_milliseconds.iter().map(|time| format!("{time:.1}")).collect();
    output::line(format!(
        "{} stages: {:.1} images/s ({:.1} to {:.1}), stages {} ms, speed-up {:.2} of at most {:.2}, efficiency {:.3}; idle {:.1} %, simulated {:.1} %",
        run.stages,
        run.images_per_second,
        run.spread[0],
        run.spread[1],
        times.join(" "),
        run.speedup,
        run.bound,
        run.efficiency,
        100.0 * run.bubble.measured,
        100.0 * run.bubble.simulated
    ))
}

/// What speed-ups are measured against: the first number of stages.
struct Base {
    rates: Vec<f64>,
    bound: f64,
}

/// One number of stages, being measured.
struct Bench {
    pipeline: Pipeline,
    data: Data,
    batch: usize,
    samples: usize,
    devices: Vec<DeviceInfo>,
    rates: Vec<f64>,
    stage_seconds: Vec<Vec<f64>>,
    steps: usize,
    microbatches: usize,
    /// Of each round: the bubble as measured and simulated, and the simulated time over the measured one.
    simulations: Vec<[f64; 3]>,
    /// Of every stage and round.
    durations: Vec<Durations>,
}

impl Bench {
    fn new(args: &Args, stages: usize) -> Result<Self, Failure> {
        let model = built_in(&args.model)?;
        check_stages(&model, stages)?;
        let schedule: Schedule = args.schedule.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let rows = brigade_pipeline::schedule::Schedule::new(schedule, stages);
        rows.check().map_err(|misfit| Failure::usage(misfit.to_string()))?;
        let named = whole_names(&args.devices);
        let named = &named[..rows.devices().min(named.len())];
        let devices = choose_interleaved(named, Some(stages), schedule.blocks(), false)?;
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        let samples = args.batch.saturating_mul(args.steps);
        let mut spec = Spec::new(DataKind::Synthetic);
        spec.shape = Some(brigade_data::Shape::new(model.input.c, model.input.h, model.input.w)?);
        (spec.classes, spec.train, spec.test) = (Some(model.classes()), Some(samples), Some(args.batch));
        let placement = Placement::balanced(&model, &names)?;
        let trainer = Trainer::new(model, placement)
            .schedule(schedule, args.microbatches)
            .batch(args.batch)
            .threads(Some(args.threads))
            .tune(args.tune);
        let trainer = if args.balance == Balance::Measured { trainer.measured()? } else { trainer };
        let data = Data::open(&spec, 1)?;
        let mut bench = Self {
            pipeline: trainer.start()?,
            data,
            batch: args.batch,
            samples,
            stage_seconds: vec![Vec::new(); devices.len()],
            devices,
            rates: Vec::new(),
            steps: args.steps,
            microbatches: args.microbatches,
            simulations: Vec::new(),
            durations: Vec::new(),
        };
        // The first round prepares every program; it does not count.
        bench.train()?;
        Ok(bench)
    }

    fn train(&mut self) -> Result<(f64, Vec<StageReport>), Failure> {
        let stretch = Stretch::new(self.samples, LearningRate::constant(1e-4));
        let batches = self.data.training(0, self.batch, 0).map_err(brigade_pipeline::PipelineError::Data)?;
        let started = Instant::now();
        let report = self.pipeline.train(&stretch, batches, &mut |_, _| ControlFlow::Continue(()))?;
        Ok((started.elapsed().as_secs_f64(), report.stages))
    }

    fn round(&mut self) -> Result<(), Failure> {
        let (seconds, stages) = self.train()?;
        self.rates.push(self.samples as f64 / seconds);
        self.simulations.push(self.simulated(seconds, &stages)?);
        self.durations.extend(stages.iter().map(StageReport::durations));
        for (times, stage) in self.stage_seconds.iter_mut().zip(stages) {
            times.push(stage.busy().as_secs_f64() / stage.forward.count.max(1) as f64);
        }
        Ok(())
    }

    /// What the simulator makes of a round with the times of its actions, beside what was measured.
    fn simulated(&self, seconds: f64, stages: &[StageReport]) -> Result<[f64; 3], Failure> {
        let schedule = self.pipeline.schedule();
        let durations: Vec<_> = stages.iter().map(StageReport::durations).collect();
        let capacity = |link| schedule.capacity(link, self.microbatches);
        let steps = vec![self.microbatches; self.steps];
        let simulation = simulate(&schedule, &steps, &durations, &transfers(stages), capacity)?;
        let busy: f64 = stages.iter().map(|stage| stage.busy().as_secs_f64()).sum();
        let measured = 1.0 - busy / (schedule.devices() as f64 * seconds);
        Ok([measured, simulation.bubble, simulation.makespan() / seconds])
    }

    fn bubble(&self) -> Bubble {
        let (schedule, alike) = (self.pipeline.schedule(), Durations::mean(&self.durations));
        Bubble {
            measured: self.median_of(0),
            simulated: self.median_of(1),
            formula: schedule.bubble(self.microbatches, &alike),
            formula_is_exact: schedule.bubble_is_exact(self.microbatches, &alike),
        }
    }

    fn median_of(&self, place: usize) -> f64 {
        median(self.simulations.iter().map(|round| round[place]).collect())
    }

    /// Seconds of one microbatch on each stage.
    fn times(&self) -> Vec<f64> {
        self.stage_seconds.iter().map(|times| median(times.clone())).collect()
    }

    /// How much faster than one stage these stages could be: their sum over the longest.
    fn bound(&self) -> f64 {
        let times = self.times();
        times.iter().sum::<f64>() / times.iter().copied().fold(f64::MIN_POSITIVE, f64::max)
    }

    fn result(&self, base: &Base) -> Run {
        let images_per_second = median(self.rates.clone());
        let times = self.times();
        let bound = self.bound() / base.bound;
        // Round by round: the machine's speed may drift between rounds more than within one.
        let speedup = median(self.rates.iter().zip(&base.rates).map(|(mine, first)| mine / first).collect());
        Run {
            stages: self.devices.len(),
            devices: self.devices.iter().map(|device| device.name.clone()).collect(),
            images_per_second,
            spread: [
                self.rates.iter().copied().fold(f64::INFINITY, f64::min),
                self.rates.iter().copied().fold(0.0, f64::max),
            ],
            stage_milliseconds: times.iter().map(|time| 1e3 * time).collect(),
            speedup,
            bound,
            efficiency: speedup / bound,
            bubble: self.bubble(),
            predicted: self.median_of(2),
        }
    }
}
