//! Rectifier: y = max(x, 0).
//!
//! # Shapes
//! `x`, `y`, `dx`, `dy`: N×C×H×W. The backward pass reads `y` only: dx = dy where y > 0, else 0.
//! NaN passes both ways, as in PyTorch, so that it shows. Operations beside it can compute its passes as well; see
//! [`Fusion`](crate::Fusion).

use serde_json::Value;

use super::attributes;
use super::elementwise::{self, Width};
use super::items::Items;
use crate::fusion::{masked, rectified};
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, Entry, HostTensors, Limits, Operation, Pass, Plan, PlanError, Problem, Random,
    Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "relu";

uniform! {
    /// What a dispatch is told.
    struct ReluParams {
        /// Elements of the dispatch.
        elements: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/elementwise.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/relu.wgsl"),
    ],
    uniform: ReluParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y = max(x, 0)",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Relu::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// The rectifier. It has no attributes.
#[derive(Debug, Clone, Copy)]
pub struct Relu;

impl Relu {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        attributes::none(NAME, attributes).map(|()| Self)
    }
}

impl Operation for Relu {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::write(Tensor::Y)],
            Pass::BackwardInput => vec![Use::read(Tensor::Y), Use::read(Tensor::Dy), Use::write(Tensor::Dx)],
            Pass::BackwardWeight | Pass::Update => Vec::new(),
        }
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        elementwise::variants(pass)
    }

    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        let cut: Vec<_> = self.tensors(pass).into_iter().map(|used| (used, 1)).collect();
        let count = self.elements(Tensor::X, problem)?;
        let width = Width::of(NAME, variant, count)?;
        let kernel = width.kernel(&SHADER, pass);
        let items = Items { kernel, count, cut: &cut, whole: &[] };
        let dispatches = items.dispatches(
            limits,
            |floats| width.groups(floats),
            |range| ReluParams { elements: range.len() as u32 },
        )?;
        Ok(Plan { dispatches, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::X, problem)? as u64;
        let tensors = self.tensors(pass).len() as u64;
        Ok(Work { flops: elements, bytes: 4 * tensors * elements })
    }

    fn reference(&self, pass: Pass, _: Problem, host: &mut HostTensors) {
        match pass {
            Pass::Forward => {
                let mut y = host.take(Tensor::Y);
                for (y, x) in y.iter_mut().zip(host.read(Tensor::X)) {
                    *y = rectified(*x);
                }
                host.put(Tensor::Y, y);
            }
            Pass::BackwardInput => {
                let mut dx = host.take(Tensor::Dx);
                for ((dx, y), dy) in dx.iter_mut().zip(host.read(Tensor::Y)).zip(host.read(Tensor::Dy)) {
                    *dx = masked(*y, *dy);
                }
                host.put(Tensor::Dx, dx);
            }
            Pass::BackwardWeight | Pass::Update => {}
        }
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let relu = Relu::from_attributes(attributes)?;
    let (n, input) = attributes::batch(NAME, shapes, "x")?;
    Ok(case(relu, Problem { n, input }))
}

fn generate(random: &mut Random) -> Case {
    let input = Shape::new(random.integer(1, 9), random.integer(1, 17), random.integer(1, 17));
    case(Relu, Problem { n: random.integer(1, 5), input })
}

fn case(relu: Relu, problem: Problem) -> Case {
    Case { operation: std::sync::Arc::new(relu), problem, scalars: Scalars::new() }
}
