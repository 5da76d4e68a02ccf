//! A stage's buffers on its executor, and where each tensor of a layer is.

use brigade_devices::{BufferId, DeviceError, Executor, Slice};
use brigade_kernels::{Problem, Scalars, Tensor};

use super::layout::{Layout, Place, PlacedParameter};
use crate::Carried;
use crate::model::Layer;
use crate::staleness::{StagePlan, WeightCopy, WeightPolicy};

/// The buffers of a [`Layout`], allocated.
pub(crate) struct Buffers {
    pub(crate) layout: Layout,
    shared: Vec<BufferId>,
    /// `sets[i][j]` is buffer j of activation set i.
    sets: Vec<Vec<BufferId>>,
}

impl Buffers {
    pub(crate) fn allocate(layout: Layout, executor: &mut dyn Executor) -> Result<Self, DeviceError> {
        let mut allocate = |needs: &[super::layout::Need]| -> Result<Vec<BufferId>, DeviceError> {
            needs.iter().map(|need| executor.allocate(need.elements, need.purpose)).collect()
        };
        let shared = allocate(&layout.shared)?;
        let sets = (0..layout.sets).map(|_| allocate(&layout.per_set)).collect::<Result<_, _>>()?;
        Ok(Self { layout, shared, sets })
    }

    /// The stage's input of `elements` elements.
    pub(crate) fn input(&self, set: usize, elements: usize) -> Slice {
        self.at(self.layout.input, set, elements)
    }

    /// The output of layer `l`.
    pub(crate) fn output(&self, set: usize, l: usize, elements: usize) -> Slice {
        self.at(self.layout.outputs[l], set, elements)
    }

    /// The gradient of layer `l`'s input; that of the stage's output is the one of `l` = number of layers.
    pub(crate) fn gradient(&self, set: usize, l: usize, elements: usize) -> Slice {
        self.at(self.layout.gradients[l], set, elements)
    }

    /// What changes from step to step.
    pub(crate) fn scalars(&self) -> Slice {
        self.whole(self.layout.scalars, Scalars::ELEMENTS)
    }

    /// Labels of `samples` samples; only the last stage has them.
    pub(crate) fn labels(&self, samples: usize) -> Option<Slice> {
        self.layout.loss.map(|[labels, _]| self.whole(labels, samples))
    }

    /// Metrics of `samples` samples; only the last stage has them.
    pub(crate) fn metrics(&self, samples: usize) -> Option<Slice> {
        self.layout.loss.map(|[_, metrics]| self.whole(metrics, 2 * samples))
    }

    /// A parameter's weights or gradients.
    pub(crate) fn parameter(&self, parameter: &PlacedParameter, tensor: Tensor) -> Slice {
        let group = &self.layout.groups[parameter.group];
        let buffer = match tensor {
            Tensor::Dw | Tensor::Db => group.gradients,
            _ => group.weights,
        };
        Slice { buffer: self.shared[buffer], start: parameter.start, elements: parameter.elements }
    }

    /// A parameter's momentum, where the stage keeps it.
    pub(crate) fn momentum(&self, parameter: &PlacedParameter) -> Option<Slice> {
        let buffer = self.shared[self.layout.groups[parameter.group].momentum?];
        Some(Slice { buffer, start: parameter.start, elements: parameter.elements })
    }

    /// What a stage of this plan carries from step to step for a parameter.
    pub(crate) fn carried(&self, parameter: &PlacedParameter, plan: StagePlan) -> Vec<(Carried, Slice)> {
        let group = &self.layout.groups[parameter.group];
        let part =
            |buffer: usize| Slice { buffer: self.shared[buffer], start: parameter.start, elements: parameter.elements };
        let drift = group.set_back.map(|[average, _]| (Carried::Drift, part(average)));
        let gradient = (plan.accumulation > 1).then(|| (Carried::Gradient, part(group.gradients)));
        let double_buffered = plan.weights() == WeightPolicy::DoubleBuffered;
        let version = group.kept.first().filter(|_| double_buffered).map(|&kept| (Carried::Version, part(kept)));
        [drift, gradient, version].into_iter().flatten().collect()
    }

    /// Weights, gradients and momentum of one flat group.
    pub(crate) fn group(&self, index: usize) -> impl Iterator<Item = (Tensor, Slice)> {
        let group = &self.layout.groups[index];
        let momentum = group.momentum.map(|buffer| (Tensor::V, buffer));
        [(Tensor::W, group.weights), (Tensor::Dw, group.gradients)]
            .into_iter()
            .chain(momentum)
            .map(move |(tensor, buffer)| (tensor, self.whole(buffer, group.elements)))
    }

    /// A copy of the weights of one flat group.
    pub(crate) fn copy(&self, index: usize, copy: WeightCopy) -> Slice {
        let group = &self.layout.groups[index];
        self.whole(self.copy_buffer(index, copy), group.elements)
    }

    /// Where a copy of the weights lies. A policy asks for no copy that its layout has not.
    fn copy_buffer(&self, index: usize, copy: WeightCopy) -> usize {
        let group = &self.layout.groups[index];
        let found = match copy {
            WeightCopy::Current => None,
            WeightCopy::Predicted => group.predicted,
            WeightCopy::SetBack => group.set_back.map(|[_, weights]| weights),
            WeightCopy::Kept(slot) => group.kept.get(slot).copied(),
        };
        found.unwrap_or(group.weights)
    }

    /// The velocity of one flat group, where the stage keeps it.
    pub(crate) fn velocity(&self, index: usize) -> Option<Slice> {
        let group = &self.layout.groups[index];
        group.momentum.map(|buffer| self.whole(buffer, group.elements))
    }

    /// The moving average of what updates change in one flat group.
    pub(crate) fn drift(&self, index: usize) -> Option<Slice> {
        let group = &self.layout.groups[index];
        group.set_back.map(|[average, _]| self.whole(average, group.elements))
    }

    /// A parameter in a copy of the weights.
    pub(crate) fn parameter_in(&self, parameter: &PlacedParameter, copy: WeightCopy) -> Slice {
        let buffer = self.shared[self.copy_buffer(parameter.group, copy)];
        Slice { buffer, start: parameter.start, elements: parameter.elements }
    }

    /// Where `tensor` of layer `l` is, for a problem on activation set `set` with these weights.
    pub(crate) fn tensor(
        &self,
        layer: &Layer,
        l: usize,
        tensor: Tensor,
        (set, weights): (usize, WeightCopy),
        problem: Problem,
    ) -> Option<Slice> {
        let elements = layer.operation.elements(tensor, problem).ok()?;
        match tensor {
            Tensor::X if l == 0 => Some(self.input(set, elements)),
            Tensor::X => Some(self.output(set, l - 1, elements)),
            Tensor::Y => Some(self.output(set, l, elements)),
            Tensor::Dx => Some(self.gradient(set, l, elements)),
            Tensor::Dy => Some(self.gradient(set, l + 1, elements)),
            Tensor::Saved => self.layout.saved[l].map(|place| self.at(place, set, elements)),
            Tensor::W | Tensor::B => self.placed(l, tensor).map(|placed| self.parameter_in(placed, weights)),
            Tensor::Dw => self.placed(l, Tensor::W).map(|placed| self.parameter(placed, tensor)),
            Tensor::Db => self.placed(l, Tensor::B).map(|placed| self.parameter(placed, tensor)),
            Tensor::Scalars => Some(self.scalars()),
            Tensor::Labels | Tensor::Metrics | Tensor::V | Tensor::Workspace => None,
        }
    }

    fn placed(&self, layer: usize, tensor: Tensor) -> Option<&PlacedParameter> {
        self.layout.parameters.iter().find(|placed| placed.layer == layer && placed.tensor == tensor)
    }

    fn at(&self, place: Place, set: usize, elements: usize) -> Slice {
        match place {
            Place::Set(index) => Slice { buffer: self.sets[set][index], start: 0, elements },
            Place::Shared(index) => self.whole(index, elements),
        }
    }

    fn whole(&self, index: usize, elements: usize) -> Slice {
        Slice { buffer: self.shared[index], start: 0, elements }
    }
}
