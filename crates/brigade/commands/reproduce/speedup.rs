//! Speed-up over one stage: measured where the machine has a core for each stage, else simulated from measured times.
//!
//! A speed-up is a ratio, and a machine's speed may drift by a factor of two within a minute. So what a ratio is made of
//! is run close together, in many short turns, and the ratio is formed within each turn: one stage has a turn just before
//! each of the others, as long as theirs, and what these took is told in units of what one stage took. Medians are taken
//! over the turns, action by action, and only then the simulator sees them: in every single turn some stage is slower than
//! usual, and the slowest sets the pace.
//!
//! Adapters have one driver thread each. The stages' times for the simulation come from runs of each stage by itself, with
//! neighbours that take no time: it works without a pause, as it would in the pipeline, and stages beyond the machine's
//! cores do not disturb each other.
//!
//! Each speed-up has one basis: a simulated one divides simulated times by simulated times, both made of the devices'
//! times; a measured one wall time by wall time. So none can exceed its bound.

mod bench;
mod run;
mod times;

use brigade::{DeviceInfo, Failure, Schedule, built_in};
use brigade_devices::CountingExecutor;
use brigade_pipeline::plan::MemoryPlan;
use serde::Serialize;

use self::bench::Bench;
use super::{MODEL, SCHEDULES, WORKERS};

/// What is measured, and how.
#[derive(Debug, Clone, Copy)]
struct Subject {
    model: &'static str,
    batch: usize,
    /// Steps of a simulated run, a short epoch: filling and draining eight stages takes little of it.
    steps: usize,
    /// Turns of a round.
    turns: usize,
    /// How often in a turn every stage is run by itself: more often than the others, since these turns are shorter, and the
    /// slowest of many medians is not one that is slow by chance.
    turns_alone: usize,
    /// Steps of one stage beside stages by themselves.
    alone: usize,
    /// Steps of one stage beside several in one pipeline, which fills and drains: more, since that is part of what is
    /// measured.
    side_by_side: usize,
}

/// On two cores a turn takes some twenty seconds of `plain-8`, and most of a minute of the larger one. A step of some
/// milliseconds a stage would be a sixteenth dispatches and updates, which every stage has and one stage has once.
const SUBJECTS: [Subject; 2] = [
    Subject { model: "plain-8", batch: 16, steps: 1024, turns: 4, turns_alone: 3, alone: 2, side_by_side: 32 },
    Subject { model: MODEL, batch: 2, steps: 1024, turns: 2, turns_alone: 1, alone: 1, side_by_side: 8 },
];

/// Stages over which speed-ups are told.
const STAGES: [usize; 3] = [2, 4, 8];

/// The speed-ups of all subjects.
#[derive(Debug, Serialize)]
pub(super) struct Speedup {
    pub(super) schedule: Schedule,
    /// Each of several turns.
    pub(super) rounds: usize,
    pub(super) threads_each: usize,
    pub(super) models: Vec<OfModel>,
}

/// One model.
#[derive(Debug, Serialize)]
pub(super) struct OfModel {
    pub(super) model: &'static str,
    pub(super) batch: usize,
    /// Of a simulated run.
    steps: usize,
    /// Over all rounds.
    turns: usize,
    /// Of one stage, median over its turns.
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
    /// What each stage's device is busy for with a step, by itself, in steps of one stage: these are simulated, and the
    /// largest is the bound.
    stage_times: Vec<f64>,
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
    /// `speedup` / `bound`; of a measured one turn by turn.
    pub(super) efficiency: f64,
    /// Least and most over the rounds of `speedup`, made of a round's turns alone. A single round has no spread.
    pub(super) spread: [f64; 2],
}

/// A speed-up of a real run.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    #[serde(flatten)]
    pub(super) figure: Figure,
    /// Seconds of a turn.
    seconds: f64,
    /// The same by the simulator, from the durations of that turn's actions and transfers.
    predicted_seconds: f64,
    /// |predicted − measured| / measured, the median over the turns: whether the simulator replays a run whose times it
    /// is given.
    pub(super) prediction_error: f64,
    /// The same where it is given the times of the round before, in steps of one stage: whether it foresees a run. Absent
    /// with a single round.
    pub(super) prediction_error_of_next_round: Option<f64>,
    /// The same where it is given the times of the stages that ran by themselves, in steps of one stage, against the median
    /// over the turns: how far what the simulated speed-ups rest on is from stages that share a machine's caches and memory.
    pub(super) prediction_error_from_stages_alone: f64,
}

impl Speedup {
    pub(super) fn measure(device: &DeviceInfo, rounds: usize) -> Result<Self, Failure> {
        let models = SUBJECTS
            .iter()
            .map(|&subject| Bench::over(device, subject, &STAGES)?.measure(rounds))
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

#[cfg(test)]
mod tests;
