//! Which buffers a stage needs, as plain data: allocated by `buffers`, added up by `plan`.

use std::ops::Range;

use brigade_devices::{Purpose, Slice};
use brigade_kernels::{Scalars, Shape, ShapeError, Tensor};

use super::fusion::{StageLayer, fuse};
use crate::model::Sequential;
use crate::staleness::StagePlan;

/// A buffer that a stage needs once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) purpose: Purpose,
    /// 4-byte elements.
    pub(crate) elements: usize,
}

/// Where a tensor lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In every activation set, at this index of `Layout::per_set`: a backward pass will read it.
    Set(usize),
    /// In one buffer for all, at this index of `Layout::shared`.
    Shared(usize),
}

/// A parameter's place in its stage's flat buffers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlacedParameter {
    /// `conv1.weight`.
    pub(crate) name: String,
    pub(crate) dims: Vec<usize>,
    /// Index of the layer within the stage.
    pub(crate) layer: usize,
    pub(crate) tensor: Tensor,
    /// Which of the flat groups.
    pub(crate) group: usize,
    /// First element within the group.
    pub(crate) start: usize,
    pub(crate) elements: usize,
}

/// Flat buffers of weights, gradients and momentum that the optimiser passes over as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) elements: usize,
    /// Indices into `Layout::shared`.
    pub(crate) weights: usize,
    pub(crate) gradients: usize,
    /// Absent where the update happens elsewhere.
    pub(crate) momentum: Option<usize>,
    /// Predicted weights, where there are any.
    pub(crate) predicted: Option<usize>,
    /// Older versions of the weights.
    pub(crate) kept: Vec<usize>,
    /// The moving average of what updates change, and the weights that it sets back.
    pub(crate) set_back: Option<[usize; 2]>,
}

/// Copies of its weights that a stage keeps besides the one that is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CopyNeeds {
    /// Older versions.
    pub(crate) kept: usize,
    /// Whether weights are predicted.
    pub(crate) predicted: bool,
    /// Whether weights are set back.
    pub(crate) set_back: bool,
}

impl CopyNeeds {
    /// What a stage with this plan keeps.
    pub(crate) fn of(plan: &StagePlan) -> Self {
        Self { kept: plan.kept, predicted: plan.predicts(), set_back: plan.set_back().is_some() }
    }
}

/// Every buffer of one stage.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) shared: Vec<Need>,
    /// Buffers that exist once in each activation set.
    pub(crate) per_set: Vec<Need>,
    pub(crate) sets: usize,
    /// The stage's input; what the rectifier behind it leaves, where the stage before computes that one.
    pub(crate) input: Place,
    /// Each layer's output. Where the layer behind is a rectifier that it computes too, that one's output.
    pub(crate) outputs: Vec<Place>,
    /// What each layer's forward keeps besides.
    pub(crate) saved: Vec<Option<Place>>,
    /// Gradient of layer l's input, and of the stage's output behind the last: in one of two buffers, which neighbours
    /// take turns in, or in the sets where the gradient of the weights is computed later. Where the layer behind a
    /// rectifier computes its backward too, both gradients are that of the rectifier's input.
    pub(crate) gradients: Vec<Place>,
    pub(crate) groups: Vec<Group>,
    pub(crate) copies: CopyNeeds,
    pub(crate) parameters: Vec<PlacedParameter>,
    pub(crate) scalars: usize,
    /// Labels and metrics, on the last stage.
    pub(crate) loss: Option<[usize; 2]>,
}

/// What shapes a layout besides the layers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    /// Most samples of a microbatch.
    pub(crate) samples: usize,
    /// Activation sets.
    pub(crate) sets: usize,
    /// Largest buffer of the device, in elements.
    pub(crate) buffer_elements: usize,
    /// Whether the loss is computed here.
    pub(crate) last: bool,
    /// Whether the gradients of weights are computed by themselves.
    pub(crate) splits: bool,
    /// Whether the weights are updated here, and momentum is kept.
    pub(crate) updates: bool,
    /// Copies of the weights.
    pub(crate) copies: CopyNeeds,
}

impl Layout {
    pub(crate) fn new(model: &Sequential, range: Range<usize>, extent: Extent) -> Result<Self, ShapeError> {
        let layers = fuse(&model.layers, range);
        let mut layout = Self {
            shared: Vec::new(),
            per_set: Vec::new(),
            sets: extent.sets,
            input: Place::Shared(0),
            outputs: Vec::new(),
            saved: Vec::new(),
            gradients: Vec::new(),
            groups: Vec::new(),
            copies: extent.copies,
            parameters: Vec::new(),
            scalars: 0,
            loss: None,
        };
        layout.place_activations(&layers, extent)?;
        layout.place_gradients(&layers, extent)?;
        layout.place_parameters(&layers, extent)?;
        layout.scalars = layout.share(Purpose::Small, Scalars::ELEMENTS);
        layout.loss = extent
            .last
            .then(|| [layout.share(Purpose::Small, extent.samples), layout.share(Purpose::Small, 2 * extent.samples)]);
        Ok(layout)
    }

    fn share(&mut self, purpose: Purpose, elements: usize) -> usize {
        self.shared.push(Need { purpose, elements });
        self.shared.len() - 1
    }

    fn place_activations(&mut self, layers: &[StageLayer], extent: Extent) -> Result<(), ShapeError> {
        let batch = |shape: Shape| shape.elements().map(|elements| extent.samples * elements);
        let input = batch(layers[0].layer.input)?;
        self.input = self.place_activation(input, is_read_backward(layers, 0, extent.last), None);
        let mut scratch = Scratch::default();
        let mut turn = 0;
        for (l, StageLayer { layer, rectified, .. }) in layers.iter().enumerate() {
            let before = self.outputs.last().copied().unwrap_or(self.input);
            let place = if *rectified {
                before
            } else {
                turn += 1;
                let kept = is_read_backward(layers, l + 1, extent.last);
                self.place_activation(batch(layer.output)?, kept, Some((&mut scratch, turn % 2)))
            };
            self.outputs.push(place);
            let saved = layer.operation.saved(layer.input)?;
            let saved = (saved > 0).then(|| self.keep(Purpose::Activations, extent.samples * saved));
            self.saved.push(saved);
        }
        Ok(())
    }

    fn keep(&mut self, purpose: Purpose, elements: usize) -> Place {
        self.per_set.push(Need { purpose, elements });
        Place::Set(self.per_set.len() - 1)
    }

    /// A place in the sets where a backward pass will read the tensor, else in scratch memory that grows to the
    /// largest of its parity: the neighbours of a layer in scratch memory are never in the same buffer.
    fn place_activation(&mut self, elements: usize, kept: bool, scratch: Option<(&mut Scratch, usize)>) -> Place {
        if kept {
            return self.keep(Purpose::Activations, elements);
        }
        let Some((scratch, parity)) = scratch else {
            return Place::Shared(self.share(Purpose::Activations, elements));
        };
        self.take_turns(Purpose::Activations, elements, scratch, parity)
    }

    fn take_turns(&mut self, purpose: Purpose, elements: usize, scratch: &mut Scratch, parity: usize) -> Place {
        let index = *scratch.0[parity].get_or_insert_with(|| self.share(purpose, 0));
        self.shared[index].elements = self.shared[index].elements.max(elements);
        Place::Shared(index)
    }

    fn place_gradients(&mut self, layers: &[StageLayer], extent: Extent) -> Result<(), ShapeError> {
        let mut scratch = Scratch::default();
        let before = |edge: usize| edge.checked_sub(1).map(|l| &layers[l]);
        let edges = std::iter::once(layers[0].layer.input).chain(layers.iter().map(|of| of.layer.output));
        let mut turn = 0;
        for (edge, shape) in edges.enumerate() {
            let elements = extent.samples * shape.elements()?;
            let trained = before(edge).is_some_and(|of| !of.layer.parameters.is_empty());
            let place = match self.gradients.last() {
                Some(&input) if before(edge).is_some_and(|of| of.masked) => input,
                _ if extent.splits && trained => self.keep(Purpose::ActivationGradients, elements),
                _ => {
                    turn += 1;
                    self.take_turns(Purpose::ActivationGradients, elements, &mut scratch, turn % 2)
                }
            };
            self.gradients.push(place);
        }
        Ok(())
    }

    /// Packs the parameters into as few flat groups as the largest buffer allows, each start aligned.
    fn place_parameters(&mut self, layers: &[StageLayer], extent: Extent) -> Result<(), ShapeError> {
        let mut sizes: Vec<usize> = Vec::new();
        for (layer, of) in layers.iter().enumerate() {
            for (name, parameter) in of.layer.named_parameters() {
                let elements = parameter.elements()?;
                let padded = elements.next_multiple_of(Slice::ALIGNMENT);
                if sizes.last().is_none_or(|&size| size + padded > extent.buffer_elements) {
                    sizes.push(0);
                }
                let group = sizes.len() - 1;
                let (dims, tensor, start) = (parameter.dims.clone(), parameter.tensor, sizes[group]);
                self.parameters.push(PlacedParameter { name, dims, layer, tensor, group, start, elements });
                sizes[group] += padded;
            }
        }
        for elements in sizes {
            let weights = self.share(Purpose::Weights, elements);
            let gradients = self.share(Purpose::Gradients, elements);
            let momentum = extent.updates.then(|| self.share(Purpose::Optimiser, elements));
            let mut group =
                Group { elements, weights, gradients, momentum, predicted: None, kept: Vec::new(), set_back: None };
            self.place_copies(&mut group);
            self.groups.push(group);
        }
        Ok(())
    }

    /// Adds the copies of its weights to a group.
    fn place_copies(&mut self, group: &mut Group) {
        let CopyNeeds { kept, predicted, set_back } = self.copies;
        let elements = group.elements;
        group.predicted = predicted.then(|| self.share(Purpose::WeightVersions, elements));
        group.kept = (0..kept).map(|_| self.share(Purpose::WeightVersions, elements)).collect();
        group.set_back = set_back
            .then(|| [Purpose::Optimiser, Purpose::WeightVersions].map(|purpose| self.share(purpose, elements)));
    }
}

/// Whether the backward reads what lies at `edge`, which is the input of the layer of this index, and the output of the
/// one before: rectifiers that were computed there share its place. The loss reads the stage's output when the backward
/// starts.
fn is_read_backward(layers: &[StageLayer], edge: usize, last: bool) -> bool {
    let end = edge + layers[edge..].iter().take_while(|of| of.rectified).count();
    let own = layers[edge.saturating_sub(1)..end].iter().any(|of| of.backward_reads(Tensor::Y));
    own || layers.get(end).map_or(last, |next| next.backward_reads(Tensor::X))
}

/// The two scratch buffers that tensors which nobody keeps take turns in.
#[derive(Default)]
struct Scratch([Option<usize>; 2]);
