//! From a model, a placement and data to a running pipeline.

mod measure;
mod open;

use std::ops::Range;

use brigade_devices::{DeviceInfo, Executor, OpenOptions, Tuning, TuningMemory, TuningReport};
use brigade_kernels::Precision;
use brigade_pipeline::model::Sequential;
use brigade_pipeline::schedule::{Kind, Schedule};
use brigade_pipeline::staleness::StalenessOptions;
use brigade_pipeline::{DataParallel, DataParallelOptions, Optimiser, Pipeline, PipelineOptions, Placement};

use crate::failure::Failure;
pub use open::watched;

/// Gathers what a pipeline needs, and starts it.
///
/// ```
/// # use brigade::{Trainer, Placement, built_in};
/// let model = built_in("lenet5")?;
/// let placement = Placement::balanced(&model, &["reference", "reference"])?;
/// let pipeline = Trainer::new(model, placement).batch(8).start()?;
/// assert_eq!(pipeline.ranges().len(), 2);
/// # Ok::<(), brigade::Failure>(())
/// ```
#[derive(Debug, Clone)]
pub struct Trainer {
    model: Sequential,
    placement: Placement,
    options: PipelineOptions,
    threads: Option<usize>,
    memory_budget: Option<u64>,
    tune: Tuning,
    /// What tuning has found for this run, shared by the trainers that are made of this one.
    tuned: TuningMemory,
    precision: Precision,
    profile: bool,
}

impl Trainer {
    /// A trainer of `model` over the stages of `placement`: layer-block-wise, batches of 32, momentum 0.9, not tuned.
    pub fn new(model: Sequential, placement: Placement) -> Self {
        let options = PipelineOptions {
            schedule: Kind::LayerBlockWise,
            batch: 32,
            microbatches: 1,
            seed: 1,
            optimiser: Optimiser { momentum: 0.9, weight_decay: 0.0, nesterov: false },
            loss_scale: 1.0,
            staleness: StalenessOptions::default(),
            record: false,
            link_checksums: false,
        };
        let (tune, precision) = (Tuning::Off, Precision::F32);
        Self {
            model,
            placement,
            options,
            threads: None,
            memory_budget: None,
            tune,
            tuned: TuningMemory::default(),
            precision,
            profile: false,
        }
    }

    /// The schedule; one that flushes wants several microbatches.
    #[must_use]
    pub fn schedule(mut self, schedule: Kind, microbatches: usize) -> Self {
        (self.options.schedule, self.options.microbatches) = (schedule, microbatches);
        self
    }

    /// What is done about staleness under a schedule that never flushes; at first one copy of the weights and no correction.
    #[must_use]
    pub fn staleness(mut self, staleness: StalenessOptions) -> Self {
        self.options.staleness = staleness;
        self
    }

    /// Samples of a step.
    #[must_use]
    pub fn batch(mut self, batch: usize) -> Self {
        self.options.batch = batch;
        self
    }

    /// Seed of weights and dropout.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.options.seed = seed;
        self
    }

    /// The optimiser.
    #[must_use]
    pub fn optimiser(mut self, optimiser: Optimiser) -> Self {
        self.options.optimiser = optimiser;
        self
    }

    /// Driver threads of each software adapter; by default they share the cores.
    #[must_use]
    pub fn threads(mut self, threads: Option<usize>) -> Self {
        self.threads = threads;
        self
    }

    /// The most bytes that each device may hold.
    #[must_use]
    pub fn memory_budget(mut self, bytes: Option<u64>) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// What operands of products may be rounded to, and what the loss is multiplied with meanwhile, so that small
    /// gradients survive it.
    #[must_use]
    pub fn precision(mut self, precision: Precision, loss_scale: f32) -> Self {
        (self.precision, self.options.loss_scale) = (precision, loss_scale);
        self
    }

    /// Records every action with its times.
    #[must_use]
    pub fn record(mut self, record: bool) -> Self {
        self.options.record = record;
        self
    }

    /// Checks what passes between stages by checksums, and sends it again where it does not arrive as it left.
    #[must_use]
    pub fn link_checksums(mut self, link_checksums: bool) -> Self {
        self.options.link_checksums = link_checksums;
        self
    }

    /// How much is tried to find the fastest kernels.
    #[must_use]
    pub fn tune(mut self, tune: Tuning) -> Self {
        self.tune = tune;
        self
    }

    /// Times every pass of an operation by itself, for measuring: see [`brigade_pipeline::StageReport::laps`].
    #[must_use]
    pub fn profile(mut self, profile: bool) -> Self {
        self.profile = profile;
        self
    }

    /// Which device has which layers.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The device of each stage, as the placement names it.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        self.placement.stages.iter().map(|(name, _)| name.as_str())
    }

    /// The same run without a device, a stage on each that is left, cut anew. Where links have slack of their own, that of
    /// the links to the device goes.
    ///
    /// # Errors
    /// Where no device is left.
    pub fn without(&self, device: &str) -> Result<Self, Failure> {
        let left = self.devices().enumerate().filter(|(_, name)| *name != device);
        let (kept, names): (Vec<_>, Vec<_>) = left.unzip();
        let schedule = self.options.schedule.between(&kept);
        let options = PipelineOptions { schedule, ..self.options };
        Ok(Self { placement: self.placement.over(&self.model, &names)?, options, ..self.clone() })
    }

    /// Opens the devices, holds the kernels of the model against the reference on each, and starts the stages.
    ///
    /// # Errors
    /// Where a device is not there, fails its self-test, or has no room.
    pub fn start(&self) -> Result<Pipeline, Failure> {
        Ok(self.start_with_report()?.0)
    }

    /// As [`Trainer::start`]; also says what tuning did.
    ///
    /// # Errors
    /// As [`Trainer::start`].
    pub fn start_with_report(&self) -> Result<(Pipeline, TuningReport), Failure> {
        self.check_shared()?;
        let ranges = self.ranges();
        let (executors, report) = self.executors(&ranges, &self.options, None)?;
        let stages = ranges.into_iter().zip(executors).collect();
        Ok((Pipeline::start(&self.model, stages, self.options)?, report))
    }

    /// The pipeline with only one stage on its device, from 0, and its neighbours on stand-ins, which give zeros at once:
    /// to find out how fast that stage is by itself. What such a pipeline trains is worth nothing.
    ///
    /// # Errors
    /// As [`Trainer::start`].
    pub fn start_alone(&self, stage: usize) -> Result<Pipeline, Failure> {
        self.check_shared()?;
        let ranges = self.ranges();
        let (executors, _) = self.executors(&ranges, &self.options, Some(stage))?;
        Ok(Pipeline::start(&self.model, ranges.into_iter().zip(executors).collect(), self.options)?)
    }

    /// In place of a pipeline, a replica of the whole model on the device of each stage, its share of the batch to
    /// each: the baseline over a shared bus. The cuts and the schedule have no part in it.
    ///
    /// # Errors
    /// As [`Trainer::start`].
    pub fn start_replicas(&self) -> Result<DataParallel, Failure> {
        let PipelineOptions { batch, seed, optimiser, .. } = self.options;
        let count = self.placement.stages.len();
        let (share, staleness) = (batch.div_ceil(count.max(1)), StalenessOptions::default());
        let share = PipelineOptions { batch: share, microbatches: 1, staleness, ..self.options };
        let (executors, _) = self.executors(&vec![0..self.model.layers.len(); count], &share, None)?;
        Ok(DataParallel::start(&self.model, executors, DataParallelOptions { batch, seed, optimiser })?)
    }

    /// Whether layer-blocks that take turns on a device are on one.
    fn check_shared(&self) -> Result<(), Failure> {
        let schedule = Schedule::new(self.options.schedule, self.placement.stages.len());
        if schedule.kind.blocks() < 2 {
            Ok(())
        } else {
            crate::devices::check_shared(&schedule, &resolve(&self.placement)?)
        }
    }

    fn ranges(&self) -> Vec<Range<usize>> {
        self.placement.stages.iter().map(|(_, range)| range.clone()).collect()
    }
}

/// The device of each stage.
fn resolve(placement: &Placement) -> Result<Vec<DeviceInfo>, Failure> {
    let names: Vec<_> = placement.stages.iter().map(|(name, _)| name.clone()).collect();
    crate::devices::named(&names)
}

/// Opens a device of the list.
///
/// # Errors
/// Where the driver refuses.
pub fn open(device: &DeviceInfo, threads: usize) -> Result<Box<dyn Executor>, Failure> {
    let options = OpenOptions { threads: Some(threads), ..OpenOptions::default() };
    Ok(brigade_devices::open(device, &options)?)
}

/// The cores shared among the software adapters, at least one each.
pub fn threads_each(devices: &[DeviceInfo]) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let software = devices.iter().filter(|device| device.kind == brigade_devices::Kind::Software).count();
    (cores / software.max(1)).max(1)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
