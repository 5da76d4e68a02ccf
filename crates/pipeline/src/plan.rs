//! What a run will need, before it starts: layers, parameters, work, memory and transfers of every stage.

use std::ops::Range;

use brigade_devices::Purpose;
use brigade_kernels::ShapeError;
use serde::Serialize;

use crate::PipelineError;
use crate::batch::microbatches;
use crate::model::Sequential;
use crate::placement::layer_costs;
use crate::schedule::{Kind, Schedule};
use crate::stage::layout::{CopyNeeds, Extent, Layout};
use crate::staleness::StalenessOptions;

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

/// Bytes of memory of a stage, without staging and scratch memory.
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
    /// Labels, metrics, scalars.
    pub small: u64,
    /// The sum.
    pub total: u64,
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
    /// Largest buffer of the devices in bytes.
    pub buffer_bytes: u64,
}

impl Plan {
    /// Adds up what each stage will need.
    ///
    /// # Errors
    /// Where sizes cannot be indexed, or the weight policy is not possible.
    pub fn new(model: &Sequential, ranges: &[Range<usize>], options: PlanOptions) -> Result<Self, PipelineError> {
        let schedule = Schedule::new(options.schedule, ranges.len());
        let costs: Vec<u64> = layer_costs(model)?.iter().map(|cost| cost * options.batch as u64).collect();
        let flops: u64 = costs.iter().sum();
        let planner = Planner { model, schedule, options, costs: &costs, flops };
        let stages: Vec<StagePlan> =
            ranges.iter().enumerate().map(|(stage, range)| planner.stage(stage, range)).collect::<Result<_, _>>()?;
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
    /// Where sizes cannot be indexed.
    pub fn replica(model: &Sequential, samples: usize, buffer_bytes: u64) -> Result<Self, ShapeError> {
        let buffer_elements = usize::try_from(buffer_bytes / 4).unwrap_or(usize::MAX);
        let copies = CopyNeeds::default();
        let extent = Extent { samples, sets: 1, buffer_elements, last: true, updates: false, splits: false, copies };
        Ok(memory(&Layout::new(model, 0..model.layers.len(), extent)?))
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
    fn stage(&self, stage: usize, range: &Range<usize>) -> Result<StagePlan, PipelineError> {
        let PlanOptions { batch, microbatches: count, buffer_bytes, .. } = self.options;
        let sets = self.schedule.activation_sets(stage, count);
        let plan = crate::staleness::StagePlan::new(&self.options.staleness, &self.schedule, stage, count)?;
        let extent = Extent {
            samples: microbatches(batch, count).first().map_or(0, ExactSizeIterator::len),
            sets,
            buffer_elements: usize::try_from(buffer_bytes / 4).unwrap_or(usize::MAX),
            last: stage + 1 == self.schedule.stages,
            splits: self.schedule.kind.splits(),
            updates: true,
            copies: CopyNeeds::of(&plan),
        };
        let layout = Layout::new(self.model, range.clone(), extent)?;
        let layers: Vec<LayerPlan> = range.clone().map(|index| self.layer(index)).collect();
        let flops = self.costs[range.clone()].iter().sum::<u64>();
        Ok(StagePlan {
            stage,
            parameters: layers.iter().map(|layer| layer.parameters).sum(),
            layers,
            flops,
            share: flops as f64 / self.flops.max(1) as f64,
            activation_sets: sets,
            staleness: plan.staleness,
            memory: memory(&layout),
        })
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

fn memory(layout: &Layout) -> MemoryPlan {
    let [weights, gradients, optimiser, weight_versions, activations, activation_gradients, small] = [
        Purpose::Weights,
        Purpose::Gradients,
        Purpose::Optimiser,
        Purpose::WeightVersions,
        Purpose::Activations,
        Purpose::ActivationGradients,
        Purpose::Small,
    ]
    .map(|purpose| layout.bytes(purpose));
    let total = weights + gradients + optimiser + weight_versions + activations + activation_gradients + small;
    MemoryPlan { weights, gradients, optimiser, weight_versions, activations, activation_gradients, small, total }
}
