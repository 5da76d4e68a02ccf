//! The end of a step on a stage: new weights, and the copies of them that a policy or a correction keeps.

use std::sync::Arc;

use brigade_devices::{Command, Program, Run, Slice};
use brigade_kernels::{Operation, Pass, Problem, Shape, Tensor};
use serde_json::json;

use super::buffers::Buffers;
use crate::PipelineError;
use crate::pipeline::{Optimiser, operation};
use crate::staleness::{StagePlan, WeightCopy};

/// The operations at the end of a step.
#[derive(Debug, Clone)]
pub(crate) struct Updates {
    /// Holds the update where a gradient is no number.
    guard: Arc<dyn Operation>,
    /// The optimiser with what the corrections make of it.
    optimiser: Arc<dyn Operation>,
    /// The optimiser where nothing is stale. Gradients enter the velocity as they do otherwise: a velocity that holds
    /// discounted ones would else jump where a synchronous finish begins, and steps with it.
    plain: Arc<dyn Operation>,
    /// Predicted weights from weights and velocity.
    predict: Option<Arc<dyn Operation>>,
    /// The moving average of what updates change, and the weights that it sets back.
    set_back: Option<[Arc<dyn Operation>; 2]>,
}

impl Updates {
    /// The optimiser of a stage with its `plan`.
    ///
    /// # Errors
    /// Where the optimiser's numbers are not possible.
    pub(crate) fn new(optimiser: Optimiser, plan: &StagePlan) -> Result<Self, PipelineError> {
        let Optimiser { momentum, weight_decay, nesterov } = optimiser;
        let sgd = |dampening: f64, delay: f64| {
            let attributes = json!({
                "learning_rate": 0.0, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov,
                "dampening": dampening, "spike_compensation": delay,
            });
            operation("sgd", &attributes)
        };
        let momentum = f64::from(momentum);
        let extrapolate = |steps: f64, rated: bool| operation("extrapolate", &json!({"steps": steps, "rated": rated}));
        let set_back = |[decay, steps]: [f64; 2]| -> Result<_, PipelineError> {
            Ok([operation("drift", &json!({"decay": decay}))?, extrapolate(steps, false)?])
        };
        Ok(Self {
            guard: operation("non_finite", &json!({}))?,
            optimiser: sgd(plan.dampening(momentum), plan.compensated_delay())?,
            plain: sgd(plan.dampening(momentum), 0.0)?,
            predict: plan.predicted_steps(momentum).map(|steps| extrapolate(steps, true)).transpose()?,
            set_back: plan.set_back().map(set_back).transpose()?,
        })
    }

    /// The optimiser where nothing is stale.
    pub(crate) fn into_plain(self) -> Arc<dyn Operation> {
        self.plain
    }

    /// Every operation.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<dyn Operation>> {
        let always = [&self.guard, &self.optimiser, &self.plain].into_iter();
        always.chain(&self.predict).chain(self.set_back.iter().flatten())
    }
}

impl Updates {
    /// New weights; the version that they replace is kept in slot `keep` where one is given.
    pub(super) fn update(&self, keep: Option<usize>, buffers: &Buffers) -> Program {
        let group = |index: usize| {
            let kept = keep.map(|slot| self.keep(index, slot, buffers));
            let before = self.set_back.as_ref().map(|_| Command::Copy {
                from: buffers.copy(index, WeightCopy::Current),
                to: buffers.copy(index, WeightCopy::SetBack),
            });
            let update = optimise(&self.optimiser, index, buffers);
            let drift = self.averaged(index, buffers);
            let derived = self.derived(index, buffers);
            kept.into_iter().chain(before).chain([update]).chain(drift).chain(derived)
        };
        self.guarded((0..buffers.layout.groups.len()).flat_map(group).collect(), buffers)
    }

    /// New weights where nothing is stale.
    pub(super) fn plain_update(&self, buffers: &Buffers) -> Program {
        let groups = 0..buffers.layout.groups.len();
        self.guarded(groups.map(|index| optimise(&self.plain, index, buffers)).collect(), buffers)
    }

    /// The update's commands behind a guard over the gradients of all groups, which holds every one of them; whether it
    /// does is told with the scalars that come back.
    fn guarded(&self, commands: Vec<Command>, buffers: &Buffers) -> Program {
        let guard = |index: usize| {
            let gradients = buffers.group(index).filter(|(tensor, _)| *tensor == Tensor::Dw);
            let tensors: Vec<_> = gradients.chain([(Tensor::Y, buffers.scalars())]).collect();
            let problem = Problem { n: 1, input: Shape::vector(tensors[0].1.elements) };
            Command::Run(Run { operation: Arc::clone(&self.guard), pass: Pass::Update, problem, tensors })
        };
        let guards = (0..buffers.layout.groups.len()).map(guard);
        let commands = guards.chain(commands).collect();
        Program { downloads: vec![buffers.scalars()], ..program("U", commands, buffers) }
    }

    /// A step's end without its update: the gradients go, and what an update would keep is kept.
    pub(super) fn leave_out(&self, keep: Option<usize>, buffers: &Buffers) -> Program {
        let group = |index: usize| {
            let kept = keep.map(|slot| self.keep(index, slot, buffers));
            let gradients = buffers.group(index).filter(|(tensor, _)| *tensor == Tensor::Dw);
            kept.into_iter().chain(gradients.map(|(_, slice)| Command::Clear(slice)))
        };
        program("no update", (0..buffers.layout.groups.len()).flat_map(group).collect(), buffers)
    }

    /// The copies that follow from weights and optimiser state, afresh.
    pub(super) fn refresh(&self, buffers: &Buffers) -> Program {
        let groups = 0..buffers.layout.groups.len();
        program("refresh", groups.flat_map(|index| self.derived(index, buffers)).collect(), buffers)
    }

    /// Fills every slot of older versions with what forwards read now.
    pub(super) fn keep_everywhere(&self, buffers: &Buffers) -> Program {
        let slots = 0..buffers.layout.copies.kept;
        let groups = 0..buffers.layout.groups.len();
        let commands = groups.flat_map(|index| slots.clone().map(move |slot| self.keep(index, slot, buffers)));
        program("keep", commands.collect(), buffers)
    }

    fn keep(&self, index: usize, slot: usize, buffers: &Buffers) -> Command {
        let read = if self.predict.is_some() { WeightCopy::Predicted } else { WeightCopy::Current };
        Command::Copy { from: buffers.copy(index, read), to: buffers.copy(index, WeightCopy::Kept(slot)) }
    }

    /// Predicted weights, and weights set back.
    fn derived(&self, index: usize, buffers: &Buffers) -> Vec<Command> {
        let predict = self.predict.as_ref().zip(buffers.velocity(index));
        let predicted =
            predict.map(|(operation, along)| extrapolated(operation, along, WeightCopy::Predicted, index, buffers));
        let set_back = self.set_back.as_ref().zip(buffers.drift(index));
        let back = set_back.map(|([_, back], along)| extrapolated(back, along, WeightCopy::SetBack, index, buffers));
        predicted.into_iter().chain(back).collect()
    }

    /// The moving average takes in what the last update changed: the set-back copy still holds the weights before it.
    fn averaged(&self, index: usize, buffers: &Buffers) -> Option<Command> {
        let ([drift, _], average) = self.set_back.as_ref().zip(buffers.drift(index))?;
        let weights = buffers.copy(index, WeightCopy::Current);
        let before = buffers.copy(index, WeightCopy::SetBack);
        Some(run(drift, vec![(Tensor::W, weights), (Tensor::Y, before), (Tensor::V, average)]))
    }
}

fn extrapolated(
    operation: &Arc<dyn Operation>,
    along: Slice,
    into: WeightCopy,
    index: usize,
    buffers: &Buffers,
) -> Command {
    let tensors = vec![
        (Tensor::W, buffers.copy(index, WeightCopy::Current)),
        (Tensor::V, along),
        (Tensor::Y, buffers.copy(index, into)),
        (Tensor::Scalars, buffers.scalars()),
    ];
    run(operation, tensors)
}

fn optimise(optimiser: &Arc<dyn Operation>, index: usize, buffers: &Buffers) -> Command {
    run(optimiser, buffers.group(index).chain([(Tensor::Scalars, buffers.scalars())]).collect())
}

/// An update of a flat group, whose first tensor is the weights.
fn run(operation: &Arc<dyn Operation>, tensors: Vec<(Tensor, Slice)>) -> Command {
    let problem = Problem { n: 1, input: Shape::vector(tensors[0].1.elements) };
    Command::Run(Run { operation: Arc::clone(operation), pass: Pass::Update, problem, tensors })
}

fn program(label: &str, commands: Vec<Command>, buffers: &Buffers) -> Program {
    Program { label: label.into(), uploads: vec![buffers.scalars()], commands, ..Program::default() }
}
