//! What an operation must say of itself.

use std::fmt;
use std::sync::Arc;

use crate::{
    ElementType, Fusion, HostTensors, Limits, Plan, PlanError, Random, Scalars, Shape, ShapeError, Tensor, Use, Variant,
};

/// The passes of an operation: the schedule's verbs, and the names of the shaders' entry points.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Pass {
    /// `F`: outputs from inputs.
    Forward,
    /// `I`: gradient of the input.
    BackwardInput,
    /// `W`: gradients of the parameters.
    BackwardWeight,
    /// `U`: new weights.
    Update,
}

impl Pass {
    /// All passes, in the order of a training step.
    pub const ALL: [Self; 4] = [Self::Forward, Self::BackwardInput, Self::BackwardWeight, Self::Update];

    /// The name of the entry point.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::BackwardInput => "backward_input",
            Self::BackwardWeight => "backward_weight",
            Self::Update => "update",
        }
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The size of one pass: N samples of the input's shape.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Problem {
    /// Samples.
    pub n: usize,
    /// Shape of one input sample.
    pub input: Shape,
}

/// What a pass costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    /// Floating-point operations; a multiply-add counts two.
    pub flops: u64,
    /// Bytes that must be read and written at least once.
    pub bytes: u64,
}

/// How a parameter starts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Init {
    /// Uniform in ±√(6 / fan_in), which keeps the variance through rectifiers (He et al. 2015).
    KaimingUniform {
        /// Inputs of one output element.
        fan_in: usize,
    },
    /// Uniform in ±√(3 / fan_in), which keeps the variance where no rectifier follows (LeCun et al. 1998).
    LecunUniform {
        /// Inputs of one output element.
        fan_in: usize,
    },
    /// Zero.
    Zeros,
}

impl Init {
    /// The first values of `count` elements.
    pub fn values(self, count: usize, random: &mut Random) -> Vec<f32> {
        let bound = match self {
            Self::Zeros => return vec![0.0; count],
            Self::KaimingUniform { fan_in } => (6.0 / fan_in as f64).sqrt(),
            Self::LecunUniform { fan_in } => (3.0 / fan_in as f64).sqrt(),
        };
        (0..count).map(|_| random.between(-bound, bound) as f32).collect()
    }

    /// The same start where no rectifier follows the layer.
    #[must_use]
    pub const fn without_rectifier(self) -> Self {
        match self {
            Self::KaimingUniform { fan_in } => Self::LecunUniform { fan_in },
            other => other,
        }
    }
}

/// A parameter of an operation.
#[derive(Clone, PartialEq, Debug)]
pub struct Parameter {
    /// `weight` or `bias`, as in PyTorch's state dicts.
    pub name: &'static str,
    /// Its role.
    pub tensor: Tensor,
    /// Its sides, outermost first, in PyTorch's layout.
    pub dims: Vec<usize>,
    /// Its first values.
    pub init: Init,
}

impl Parameter {
    /// The product of the sides.
    ///
    /// # Errors
    /// Where it is zero or cannot be indexed.
    pub fn elements(&self) -> Result<usize, ShapeError> {
        crate::shape::elements(&self.dims)
    }
}

/// An operation with its attributes, as a layer or an optimiser uses it.
pub trait Operation: fmt::Debug + Send + Sync {
    /// The name in the list of operations, of the shader and of the Rust file.
    fn name(&self) -> &'static str;

    /// Shape of one output sample.
    ///
    /// # Errors
    /// Where the input does not fit.
    fn output(&self, input: Shape) -> Result<Shape, ShapeError>;

    /// Parameters in the order of a state dict.
    ///
    /// # Errors
    /// Where the input does not fit.
    fn parameters(&self, input: Shape) -> Result<Vec<Parameter>, ShapeError> {
        let _ = input;
        Ok(Vec::new())
    }

    /// Elements that the forward pass keeps of one sample in `saved`.
    ///
    /// # Errors
    /// Where the input does not fit.
    fn saved(&self, input: Shape) -> Result<usize, ShapeError> {
        let _ = input;
        Ok(0)
    }

    /// What the elements of a tensor are.
    fn element_type(&self, tensor: Tensor) -> ElementType {
        match tensor {
            Tensor::Labels => ElementType::U32,
            _ => ElementType::F32,
        }
    }

    /// What a pass reads and writes; empty where the operation has no such pass. Scratch memory is not listed.
    fn tensors(&self, pass: Pass) -> Vec<Use>;

    /// Tells the operation its place in the network, so that its random numbers differ from another layer's.
    fn set_layer(&mut self, layer: u32) {
        let _ = layer;
    }

    /// The rectifiers whose passes it computes besides its own.
    fn fusion(&self) -> Fusion {
        Fusion::NONE
    }

    /// The same operation with these rectifiers in place of those of [`Operation::fusion`]; none where it cannot compute
    /// them. It has the same variants, and each plans for the same sizes.
    fn fused(&self, fusion: Fusion) -> Option<Arc<dyn Operation>> {
        let _ = fusion;
        None
    }

    /// The cost of a pass.
    ///
    /// # Errors
    /// Where the input does not fit.
    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError>;

    /// The cost of a pass with one of [`Operation::variants`], which may need fewer operations than the definition.
    ///
    /// # Errors
    /// Where the input does not fit.
    fn work_of(&self, pass: Pass, variant: &Variant, problem: Problem) -> Result<Work, ShapeError> {
        let _ = variant;
        self.work(pass, problem)
    }

    /// Additions that make up one element of an output, from which a tolerance follows.
    fn additions(&self, tensor: Tensor, problem: Problem) -> usize {
        let _ = (tensor, problem);
        1
    }

    /// The ways to compute a pass, best first where nothing is known of the device.
    fn variants(&self, pass: Pass) -> Vec<Variant>;

    /// The dispatches of a pass, with one of [`Operation::variants`].
    ///
    /// # Errors
    /// Where shapes do not fit, or the limits do not allow it however it is split.
    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError>;

    /// The meaning of a pass, in plain f64 loops. Reads and writes the tensors that [`Operation::tensors`] lists.
    fn reference(&self, pass: Pass, problem: Problem, host: &mut HostTensors);

    /// Elements of a tensor.
    ///
    /// # Errors
    /// Where the input does not fit, or the operation has no such tensor.
    fn elements(&self, tensor: Tensor, problem: Problem) -> Result<usize, ShapeError> {
        let Problem { n, input } = problem;
        let batch = |shape: Shape| crate::shape::elements(&[n, shape.c, shape.h, shape.w]);
        match tensor {
            Tensor::X | Tensor::Dx => batch(input),
            Tensor::Y | Tensor::Dy => batch(self.output(input)?),
            Tensor::W | Tensor::Dw | Tensor::V => self.parameter_elements(Tensor::W, input),
            Tensor::B | Tensor::Db => self.parameter_elements(Tensor::B, input),
            Tensor::Saved => crate::shape::elements(&[n, self.saved(input)?]),
            Tensor::Labels => Ok(n),
            Tensor::Metrics => crate::shape::elements(&[2, n]),
            Tensor::Scalars => Ok(Scalars::ELEMENTS),
            Tensor::Workspace => Ok(0),
        }
    }

    /// Elements of the parameter with role `tensor`.
    ///
    /// # Errors
    /// Where the input does not fit, or the operation has no such parameter.
    fn parameter_elements(&self, tensor: Tensor, input: Shape) -> Result<usize, ShapeError> {
        match self.parameters(input)?.iter().find(|parameter| parameter.tensor == tensor) {
            Some(parameter) => parameter.elements(),
            None => Err(ShapeError::Mismatch {
                operation: self.name(),
                wanted: "one of its parameters".into(),
                found: tensor.to_string(),
            }),
        }
    }
}
