//! From a model, a placement and data to a running pipeline.

use brigade_devices::{DeviceInfo, Executor, OpenOptions};
use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{Entry, Precision};
use brigade_pipeline::model::Sequential;
use brigade_pipeline::schedule::Kind;
use brigade_pipeline::{Optimiser, Pipeline, PipelineOptions, Placement};

use crate::failure::Failure;

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
    precision: Precision,
    self_test: bool,
}

impl Trainer {
    /// A trainer of `model` over the stages of `placement`: layer-block-wise, batches of 32, momentum 0.9.
    pub fn new(model: Sequential, placement: Placement) -> Self {
        let options = PipelineOptions {
            schedule: Kind::LayerBlockWise,
            batch: 32,
            microbatches: 1,
            seed: 1,
            optimiser: Optimiser { momentum: 0.9, weight_decay: 0.0, nesterov: false },
            loss_scale: 1.0,
            record: false,
        };
        Self { model, placement, options, threads: None, precision: Precision::F32, self_test: true }
    }

    /// The schedule; one that flushes wants several microbatches.
    #[must_use]
    pub fn schedule(mut self, schedule: Kind, microbatches: usize) -> Self {
        (self.options.schedule, self.options.microbatches) = (schedule, microbatches);
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

    /// Opens the devices, holds the kernels of the model against the reference on each, and starts the stages.
    ///
    /// # Errors
    /// Where a device is not there, fails its self-test, or has no room.
    pub fn start(&self) -> Result<Pipeline, Failure> {
        let devices = resolve(&self.placement)?;
        let threads = self.threads.unwrap_or_else(|| threads_each(&devices));
        let options = OpenOptions { threads: Some(threads), precision: self.precision, ..OpenOptions::default() };
        let open = |device| brigade_devices::open(device, &options);
        let executors = devices.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let mut stages = Vec::with_capacity(executors.len());
        for ((_, range), mut executor) in self.placement.stages.iter().zip(executors) {
            if self.self_test {
                brigade_devices::self_test(executor.as_mut(), &self.operations(range.clone()))?;
            }
            stages.push((range.clone(), executor));
        }
        Ok(Pipeline::start(&self.model, stages, self.options)?)
    }

    /// The operations that a stage's device will run.
    fn operations(&self, range: std::ops::Range<usize>) -> Vec<&'static Entry> {
        let last = range.end == self.model.layers.len();
        let layers = &self.model.layers[range];
        let runs = |name: &str| layers.iter().any(|layer| layer.operation.name() == name);
        let wanted = |entry: &&Entry| match entry.name {
            "sgd" => true,
            "softmax_cross_entropy" => last,
            name => runs(name),
        };
        OPERATIONS.iter().copied().filter(wanted).collect()
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
