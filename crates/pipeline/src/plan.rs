//! What a run will need, before it starts: layers, parameters, work, memory and transfers of every stage.

use std::ops::Range;

use brigade_devices::{CountingExecutor, Ledger, Purpose};
use brigade_kernels::ShapeError;
use serde::Serialize;

use crate::batch::step_sizes;
use crate::model::Sequential;
use crate::pipeline::{loss, stage_options};
use crate::placement::layer_costs;
use crate::schedule::{Kind, Schedule};
use crate::stage::Stage;
use crate::stage::foresight::Foreseen;
use crate::staleness::StalenessOptions;
use crate::{Optimiser, PipelineError, PipelineOptions};

/// The plan of a run.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    /// The model's name.
    pub model: String,
    /// The schedule's name.
    pub schedule: Kind,
    /// Samples of a step.
    pub batch: usize,
    /// Microbatches of a step.
    pub microbatches: usize,
    /// The stages.
    pub stages: Vec<StagePlan>,
    /// Bytes that pass each link in a step.
    pub links: Vec<LinkPlan>,
    /// Trainable elements of the whole model.
    pub parameters: usize,
    /// Floating-point operations of a step.
    pub flops: u64,
    /// Σ stages / slowest stage by floating-point operations: no pipeline over these cuts can be faster.
    pub speedup_bound: f64,
}

/// One stage of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct StagePlan {
    /// Which, from 0.
    pub stage: usize,
    /// Its layers.
    pub layers: Vec<LayerPlan>,
    /// Trainable elements.
    pub parameters: usize,
    /// Floating-point operations of a step.
    pub flops: u64,
    /// Share of the model's floating-point operations.
    pub share: f64,
    /// Activation sets held at most.
    pub activation_sets: usize,
    /// Updates between a microbatch's forward and its own update.
    pub staleness: usize,
    /// Bytes of memory.
    pub memory: MemoryPlan,
}

/// One layer of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct LayerPlan {
    /// Its name.
    pub name: String,
    /// Its operation.
    pub operation: &'static str,
    /// Shape of one output sample.
    pub output: String,
    /// Trainable elements.
    pub parameters: usize,
    /// Floating-point operations of a step, forward and backward.
    pub flops: u64,
}

/// Bytes of memory of a stage: what the ledger of its device will hold, see [`Plan::new`].
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MemoryPlan {
    /// Parameters.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Momentum, and what corrections keep.
    pub optimiser: u64,
    /// Copies of the parameters: older versions, predicted ones.
    pub weight_versions: u64,
    /// Activation sets.
    pub activations: u64,
    /// Gradients of activations.
    pub activation_gradients: u64,
    /// Slots that data and messages are copied through.
    pub staging: u64,
    /// Scratch memory of kernels.
    pub workspace: u64,
    /// Labels, metrics, scalars, uniforms.
    pub small: u64,
    /// The sum.
    pub total: u64,
    /// The most at any time: parameters are read through staging memory of the moment.
    pub peak: u64,
}

/// What passes a link in a step.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct LinkPlan {
    /// Sending stage of the activations.
    pub from: usize,
    /// Receiving stage of the activations.
    pub to: usize,
    /// Bytes of activations.
    pub activation_bytes: u64,
    /// Bytes of gradients.
    pub gradient_bytes: u64,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct PlanOptions {
    /// The schedule.
    pub schedule: Kind,
    /// Samples of a step.
    pub batch: usize,
    /// Microbatches of a step.
    pub microbatches: usize,
    /// What is done about staleness.
    pub staleness: StalenessOptions,
    /// How long the run is, where that is known. Else it is taken for one of many epochs of whole steps.
    pub run: Option<RunLength>,
}

/// How long a run is.
#[derive(Debug, Clone, Copy)]
pub struct RunLength {
    /// Epochs, those of a synchronous finish included.
    pub epochs: usize,
    /// Samples of an epoch; the last step may be smaller than the others.
    pub training: usize,
    /// Samples of an evaluation.
    pub evaluated: usize,
}

impl PlanOptions {
    /// As a pipeline is told; what says nothing about memory is as it may be.
    fn pipeline(&self) -> PipelineOptions {
        PipelineOptions {
            schedule: self.schedule,
            batch: self.batch,
            microbatches: self.microbatches,
            seed: 0,
            optimiser: Optimiser { momentum: 0.0, weight_decay: 0.0, nesterov: false },
            loss_scale: 1.0,
            staleness: self.staleness,
            record: false,
            link_checksums: false,
        }
    }
}

impl Plan {
    /// Adds up what each stage will need on the device that its executor counts for. The memory is what the device's
    /// ledger holds at the end of such a run to the byte, where kernels are chosen as the executor's selection says.
    ///
    /// # Errors
    /// Where sizes cannot be indexed, a stage does not fit a buffer, or a pipeline would not start with these options.
    pub fn new(
        model: &Sequential,
        ranges: &[Range<usize>],
        options: PlanOptions,
        devices: &[CountingExecutor],
    ) -> Result<Self, PipelineError> {
        let schedule = options.pipeline().checked(ranges.len())?;
        let costs: Vec<u64> = layer_costs(model)?.iter().map(|cost| cost * options.batch as u64).collect();
        let flops: u64 = costs.iter().sum();
        let planner = Planner { model, schedule, options, costs: &costs, flops };
        let stages = ranges.iter().zip(devices).enumerate();
        let stages: Vec<StagePlan> =
            stages.map(|(stage, (range, device))| planner.stage(stage, range, device)).collect::<Result<_, _>>()?;
        let slowest = stages.iter().map(|stage| stage.flops).max().unwrap_or(0);
        Ok(Self {
            model: model.name.clone(),
            schedule: options.schedule,
            batch: options.batch,
            microbatches: options.microbatches,
            links: planner.links(ranges)?,
            parameters: model.parameter_elements(),
            flops,
            speedup_bound: flops as f64 / slowest.max(1) as f64,
            stages,
        })
    }
}

impl MemoryPlan {
    /// What a replica of the whole model needs on its device where it is updated elsewhere: see
    /// [`crate::DataParallel`]. `samples` is its share of the batch.
    ///
    /// # Errors
    /// Where sizes cannot be indexed, or the model does not fit a buffer.
    pub fn replica(model: &Sequential, samples: usize, device: CountingExecutor) -> Result<Self, PipelineError> {
        crate::data_parallel::foreseen(model, samples, device).map(|ledger| Self::of(&ledger))
    }

    /// What the host needs that replicas of the model share.
    ///
    /// # Errors
    /// Where sizes cannot be indexed.
    pub fn shared_host(model: &Sequential) -> Result<Self, PipelineError> {
        crate::data_parallel::foreseen_host(model).map(|ledger| Self::of(&ledger))
    }

    /// From the contents of a ledger.
    fn of(ledger: &Ledger) -> Self {
        let bytes = |purpose| ledger.bytes(purpose);
        Self {
            weights: bytes(Purpose::Weights),
            gradients: bytes(Purpose::Gradients),
            optimiser: bytes(Purpose::Optimiser),
            weight_versions: bytes(Purpose::WeightVersions),
            activations: bytes(Purpose::Activations),
            activation_gradients: bytes(Purpose::ActivationGradients),
            staging: bytes(Purpose::Staging),
            workspace: bytes(Purpose::Workspace),
            small: bytes(Purpose::Small),
            total: ledger.live_bytes(),
            peak: ledger.peak_bytes(),
        }
    }
}

struct Planner<'a> {
    model: &'a Sequential,
    schedule: Schedule,
    options: PlanOptions,
    costs: &'a [u64],
    flops: u64,
}

impl Planner<'_> {
    fn stage(&self, stage: usize, range: &Range<usize>, device: &CountingExecutor) -> Result<StagePlan, PipelineError> {
        let options = stage_options(stage, &self.schedule, &self.options.pipeline(), &loss()?)?;
        let mut counted = Stage::allocated(self.model, range.clone(), Box::new(device.clone()), &options)?;
        counted.foresee_run(&self.run(&counted))?;
        let layers: Vec<LayerPlan> = range.clone().map(|index| self.layer(index)).collect();
        let flops = self.costs[range.clone()].iter().sum::<u64>();
        Ok(StagePlan {
            stage,
            parameters: layers.iter().map(|layer| layer.parameters).sum(),
            layers,
            flops,
            share: flops as f64 / self.flops.max(1) as f64,
            activation_sets: options.sets,
            staleness: options.plan.staleness,
            memory: MemoryPlan::of(counted.executor().ledger()),
        })
    }

    fn run(&self, stage: &Stage) -> Foreseen {
        let PlanOptions { batch, microbatches, staleness, run, .. } = self.options;
        let finish = staleness.corrections.synchronous_finish.unwrap_or(0);
        let (plan, epochs, steps, evaluated) = match run {
            Some(RunLength { epochs, training, evaluated }) => {
                (stage.plan(), epochs, step_sizes(training, batch), step_sizes(evaluated, batch))
            }
            None => {
                let plan = stage.plan().shortened(stage.sets());
                let steps = stage.steps_of_a_round(&self.schedule, plan, microbatches);
                (plan, usize::MAX, vec![batch; steps], vec![batch])
            }
        };
        let synchronous = finish.min(epochs) > 0;
        Foreseen {
            schedule: self.schedule,
            plan,
            microbatches,
            epochs: epochs.saturating_sub(finish),
            steps,
            evaluated,
            synchronous,
        }
    }

    fn layer(&self, index: usize) -> LayerPlan {
        let layer = &self.model.layers[index];
        LayerPlan {
            name: layer.name.clone(),
            operation: layer.operation.name(),
            output: layer.output.to_string(),
            parameters: layer.parameter_elements(),
            flops: self.costs[index],
        }
    }

    fn links(&self, ranges: &[Range<usize>]) -> Result<Vec<LinkPlan>, ShapeError> {
        let cuts = ranges.iter().enumerate().skip(1);
        cuts.map(|(to, range)| {
            let bytes = 4 * (self.options.batch * self.model.layers[range.start].input.elements()?) as u64;
            Ok(LinkPlan { from: to - 1, to, activation_bytes: bytes, gradient_bytes: bytes })
        })
        .collect()
    }
}
