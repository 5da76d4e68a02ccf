//! A layer: an operation with a name, the shapes around it and its parameters.

use std::sync::Arc;

use brigade_kernels::{Operation, Parameter, Pass, Problem, Shape, ShapeError, Work};

/// One layer of a [`Sequential`](super::Sequential) model, its shapes checked.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Unique name, such as `conv1`; parameters are `conv1.weight` and `conv1.bias`.
    pub name: String,
    /// What it computes.
    pub operation: Arc<dyn Operation>,
    /// Shape of one input sample.
    pub input: Shape,
    /// Shape of one output sample.
    pub output: Shape,
    /// Its parameters in the order of a state dict; empty where it has none.
    pub parameters: Vec<Parameter>,
}

impl Layer {
    /// Names of parameters and their sizes, `conv1.weight` style.
    pub fn named_parameters(&self) -> impl Iterator<Item = (String, &Parameter)> {
        self.parameters.iter().map(|parameter| (format!("{}.{}", self.name, parameter.name), parameter))
    }

    /// Number of trainable elements.
    pub fn parameter_elements(&self) -> usize {
        self.parameters.iter().filter_map(|parameter| parameter.elements().ok()).sum()
    }

    /// Cost of one pass over `n` samples.
    ///
    /// # Errors
    /// Where n·C·H·W is beyond what can be indexed.
    pub fn work(&self, pass: Pass, n: usize) -> Result<Work, ShapeError> {
        if self.operation.tensors(pass).is_empty() {
            return Ok(Work::default());
        }
        self.operation.work(pass, Problem { n, input: self.input })
    }

    /// Floating-point operations of forward and backward for `n` samples.
    ///
    /// # Errors
    /// As [`Layer::work`].
    pub fn training_flops(&self, n: usize) -> Result<u64, ShapeError> {
        let passes = [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight];
        passes.iter().map(|&pass| self.work(pass, n).map(|work| work.flops)).sum()
    }
}
