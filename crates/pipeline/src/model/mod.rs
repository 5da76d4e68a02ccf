//! Models: a chain of layers whose shapes are checked once.

mod built_in;
mod layer;
mod spec;

use brigade_kernels::{Random, Shape};
use thiserror::Error;

pub use built_in::{BUILT_IN, built_in};
pub use layer::Layer;
pub use spec::{LayerSpec, ModelSpec};

/// A model that cannot be built.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No built-in model has this name.
    #[error("there is no model `{name}`; built in are: {}", BUILT_IN.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// No operation has this name.
    #[error("layer `{layer}`: there is no operation `{operation}`; known are: {known}")]
    UnknownOperation {
        /// The layer.
        layer: String,
        /// Its operation.
        operation: String,
        /// What there is.
        known: String,
    },
    /// Attributes are wrong.
    #[error("layer `{layer}`: {source}")]
    Attributes {
        /// The layer.
        layer: String,
        /// Why.
        source: brigade_kernels::AttributeError,
    },
    /// The shape does not fit.
    #[error("layer `{layer}` with an input of {input}: {source}")]
    Shape {
        /// The layer.
        layer: String,
        /// What the layer before gives.
        input: Shape,
        /// Why.
        source: brigade_kernels::ShapeError,
    },
    /// The optimiser's and the loss's operations are no layers.
    #[error("layer `{layer}`: `{operation}` cannot be a layer of a model")]
    NotALayer {
        /// The layer.
        layer: String,
        /// Its operation.
        operation: String,
    },
    /// Two layers of the same name.
    #[error("two layers are called `{name}`; give each its own name")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// No layer at all.
    #[error("the model has no layers")]
    Empty,
}

/// A chain of layers.
#[derive(Debug, Clone)]
pub struct Sequential {
    /// What it is called.
    pub name: String,
    /// Shape of one input sample.
    pub input: Shape,
    /// The layers in order.
    pub layers: Vec<Layer>,
    /// What it was built from, for checkpoints.
    pub spec: ModelSpec,
}

impl Sequential {
    /// Checks the shapes of `spec`, layer by layer.
    ///
    /// # Errors
    /// Names the first layer that does not fit, with what was wanted and found.
    pub fn new(spec: &ModelSpec) -> Result<Self, ModelError> {
        let mut shape = spec.input;
        let mut layers: Vec<Layer> = Vec::with_capacity(spec.layers.len());
        for (index, (name, layer)) in spec.named_layers().into_iter().enumerate() {
            if layers.iter().any(|other| other.name == name) {
                return Err(ModelError::Duplicate { name });
            }
            let layer = layer.build(name, index, shape)?;
            shape = layer.output;
            layers.push(layer);
        }
        if layers.is_empty() {
            return Err(ModelError::Empty);
        }
        fit_initial_values(&mut layers);
        Ok(Self { name: spec.name.clone(), input: spec.input, layers, spec: spec.clone() })
    }

    /// Shape of one output sample; its elements are the classes.
    pub fn output(&self) -> Shape {
        self.layers.last().map_or(self.input, |layer| layer.output)
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        let Shape { c, h, w } = self.output();
        c * h * w
    }

    /// Number of trainable elements.
    pub fn parameter_elements(&self) -> usize {
        self.layers.iter().map(Layer::parameter_elements).sum()
    }

    /// Index of the layer called `name`.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.layers.iter().position(|layer| layer.name == name)
    }

    /// First values of every parameter of layer `index`. They depend on the seed and the layer's place alone, so
    /// that every partition starts from the same weights.
    pub fn initial_values(&self, index: usize, seed: u64) -> Vec<Vec<f32>> {
        let stream = seed ^ (index as u64 + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let mut random = Random::new(stream);
        self.layers[index]
            .parameters
            .iter()
            .map(|parameter| parameter.init.values(parameter.elements().unwrap_or(0), &mut random))
            .collect()
    }
}

/// Gives layers that no rectifier follows before the next weights the start that suits them.
fn fit_initial_values(layers: &mut [Layer]) {
    for index in 0..layers.len() {
        let following = layers[index + 1..].iter().take_while(|layer| layer.parameters.is_empty());
        let rectified = following.into_iter().any(|layer| layer.operation.name() == "relu");
        if !rectified {
            for parameter in &mut layers[index].parameters {
                parameter.init = parameter.init.without_rectifier();
            }
        }
    }
}
