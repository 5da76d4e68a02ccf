//! Speed-up over one stage: measured where the machine has a core for each stage, else simulated from measured times.
//!
//! Every number of stages is run in turn, several rounds, so that a machine whose speed drifts slows all alike; each
//! figure is the median over the rounds. Adapters have one driver thread each. The stages' times for the simulation
//! come from runs of each stage by itself, with neighbours that take no time: it works without a pause, as it would in
//! the pipeline, and stages beyond the machine's cores do not disturb each other.
//!
//! Each speed-up has one basis: a simulated one divides simulated times by simulated times, both made of the devices'
//! times; a measured one wall time by wall time. So none can exceed its bound.

mod round;

use brigade::{DeviceInfo, Failure, Placement, Schedule, Trainer, Tuning, built_in};
use brigade_devices::CountingExecutor;
use brigade_pipeline::plan::MemoryPlan;
use serde::Serialize;

use self::round::{Round, Run, together};
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
    pub(super) batch: usize,
    steps: usize,
    /// Of one stage, median over the rounds.
    images_per_second: f64,
    pub(super) stages: Vec<OfStages>,
}

/// One number of stages, cut such that floating-point operations are balanced.
#[derive(Debug, Serialize)]
pub(super) struct OfStages {
    pub(super) stages: usize,
    /// By the ledgers of the stages that ran by themselves.
    pub(super) memory_bytes: u64,
    pub(super) simulated: Figure,
    /// Where the machine has a core for each stage.
    pub(super) measured: Option<Measured>,
}

/// A speed-up beside what the stages' times allow.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Figure {
    pub(super) speedup: f64,
    /// What it would be if the slowest of the stages never waited: the time of a step on one stage, of the same basis, over
    /// the time that the slowest is busy with it.
    pub(super) bound: f64,
    /// `speedup` / `bound`, round by round.
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
    /// The same by the simulator, from the durations of that round's actions and transfers.
    predicted_seconds: f64,
    /// |predicted − measured| / measured, the median over the rounds: whether the simulator replays a run whose times it
    /// is given.
    pub(super) prediction_error: f64,
    /// The same where it is given the times of the round before: whether it foresees one. Absent with a single round.
    pub(super) prediction_error_of_next_round: Option<f64>,
    /// The same where it is given the times of the stages that ran by themselves: how far what the simulated speed-ups rest
    /// on is from stages that share a machine's caches and memory.
    pub(super) prediction_error_from_stages_alone: f64,
}

impl Speedup {
    pub(super) fn measure(device: &DeviceInfo, rounds: usize) -> Result<Self, Failure> {
        let models = SUBJECTS
            .iter()
            .map(|&(model, batch, steps)| Bench::over(device, model, batch, steps, &STAGES)?.measure(rounds))
            .collect::<Result<_, Failure>>()?;
        Ok(Self { schedule: SCHEDULES[0], rounds, threads_each: 1, models })
    }
}

/// Speed-up per gigabyte (10⁹ bytes) of memory, four workers: all of one configuration, the one whose speed-up was
/// simulated (its batch, cuts balanced by floating-point operations, layer-block-wise).
#[derive(Debug, Serialize)]
pub(super) struct PerGigabyte {
    /// Of the pipeline, and of each worker of the baseline.
    pub(super) batch: usize,
    /// By the ledgers of the stages.
    pipeline_bytes: u64,
    /// By plan, which is what ledgers hold to the byte: workers and host.
    shared_bus_bytes: u64,
    /// The simulated speed-up over its memory.
    pub(super) pipeline: f64,
    /// The baseline at best: as many times one device as there are workers, no time for the bus, over its memory.
    pub(super) shared_bus_at_best: f64,
}

impl PerGigabyte {
    pub(super) fn new(speedup: &Speedup, counting: &CountingExecutor) -> Result<Option<Self>, Failure> {
        let Some(of) = speedup.models.iter().find(|of| of.model == MODEL) else { return Ok(None) };
        let Some(four) = of.stages.iter().find(|of| of.stages == WORKERS) else { return Ok(None) };
        let model = built_in(MODEL)?;
        let replica = MemoryPlan::replica(&model, of.batch, counting.clone())?;
        let shared_bus_bytes = WORKERS as u64 * replica.total + MemoryPlan::shared_host(&model)?.total;
        let gigabytes = |bytes: u64| bytes as f64 / 1e9;
        Ok(Some(Self {
            batch: of.batch,
            pipeline_bytes: four.memory_bytes,
            shared_bus_bytes,
            pipeline: four.simulated.speedup / gigabytes(four.memory_bytes),
            shared_bus_at_best: WORKERS as f64 / gigabytes(shared_bus_bytes),
        }))
    }
}

/// One model's pipelines.
struct Bench {
    name: &'static str,
    batch: usize,
    steps: usize,
    numbers: Vec<usize>,
    one: Run,
    /// For each of the numbers of stages, each stage by itself.
    alone: Vec<Vec<Run>>,
    /// The first few of these numbers.
    side_by_side: Vec<Run>,
}

impl Bench {
    /// `numbers` of stages, from the fewest on.
    fn over(
        device: &DeviceInfo,
        name: &'static str,
        batch: usize,
        steps: usize,
        numbers: &[usize],
    ) -> Result<Self, Failure> {
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
        let measured = numbers.iter().filter(|&&stages| stages <= cores);
        Ok(Self {
            name,
            batch,
            steps,
            numbers: numbers.to_vec(),
            one: whole(1)?,
            alone: numbers.iter().map(|&stages| each_alone(stages)).collect::<Result<_, _>>()?,
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
        let each = self.numbers.iter().zip(&self.alone).enumerate();
        let stages = each.map(|(index, (&stages, alone))| {
            let alone = together(alone);
            OfStages {
                stages,
                memory_bytes: alone.last().map_or(0, Round::memory_bytes),
                simulated: self.simulated(&alone),
                measured: self.side_by_side.get(index).map(|run| self.measured(run, &alone)),
            }
        });
        Ok(OfModel {
            model: self.name,
            batch: self.batch,
            steps: self.steps,
            images_per_second: median(self.one.over(|round| (self.batch * self.steps) as f64 / round.seconds)),
            stages: stages.collect(),
        })
    }

    /// Both of the devices' times, by the simulator.
    fn simulated(&self, rounds: &[Round]) -> Figure {
        let speedups = self.pairs(rounds, |one, round| one.predict(self.steps) / round.predict(self.steps));
        let bounds = self.pairs(rounds, |one, round| one.predict(self.steps) / self.busy(round));
        figure(speedups, bounds)
    }

    /// Both of wall time.
    fn measured(&self, run: &Run, alone: &[Round]) -> Measured {
        let speedups = self.pairs(&run.rounds, |one, round| one.seconds / round.seconds);
        let bounds = self.pairs(&run.rounds, |one, round| one.seconds / self.busy(round));
        let error =
            |given: &Round, round: &Round| (given.predict_wall(self.steps) - round.seconds).abs() / round.seconds;
        let next: Vec<f64> = run.rounds.windows(2).map(|pair| error(&pair[0], &pair[1])).collect();
        Measured {
            spread: [
                speedups.iter().copied().fold(f64::INFINITY, f64::min),
                speedups.iter().copied().fold(0.0, f64::max),
            ],
            figure: figure(speedups, bounds),
            seconds: median(run.over(|round| round.seconds)),
            predicted_seconds: median(run.over(|round| round.predict_wall(self.steps))),
            prediction_error: median(run.over(|round| error(round, round))),
            prediction_error_of_next_round: (!next.is_empty()).then(|| median(next)),
            prediction_error_from_stages_alone: median(
                alone.iter().zip(&run.rounds).map(|(alone, round)| error(alone, round)).collect(),
            ),
        }
    }

    /// Seconds of a round in which the slowest stage is busy.
    fn busy(&self, round: &Round) -> f64 {
        self.steps as f64 * round.slowest()
    }

    /// What each of `rounds` gives beside the same round of one stage.
    fn pairs(&self, rounds: &[Round], figure: impl Fn(&Round, &Round) -> f64) -> Vec<f64> {
        self.one.rounds.iter().zip(rounds).map(|(one, round)| figure(one, round)).collect()
    }
}

/// Medians over the rounds; the efficiency is that of each round by itself.
fn figure(speedups: Vec<f64>, bounds: Vec<f64>) -> Figure {
    let efficiency = median(speedups.iter().zip(&bounds).map(|(speedup, bound)| speedup / bound).collect());
    Figure { speedup: median(speedups), bound: median(bounds), efficiency }
}

#[cfg(test)]
mod tests;
