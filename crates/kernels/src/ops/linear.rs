//! Linear layer: y\[n,o\] = b\[o\] + Σ over i of w\[o,i\] · x\[n,i\].
//!
//! # Shapes
//! `x`, `dx`: N×C×H×W, of which the C·H·W elements of a sample are taken as one row of inputs. `w`, `dw`:
//! outputs×inputs. `b`, `db`: outputs. `y`, `dy`: N×outputs. The gradients of the parameters are added to `dw` and
//! `db`.

mod direct;
mod plan;
mod tiles;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{attributes, gemm};
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, Entry, Fusion, HostTensors, Init, Limits, Operation, Parameter, Pass, Plan,
    PlanError, Problem, Random, Requirements, Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "linear";

uniform! {
    /// What a dispatch is told; see the shader.
    struct LinearParams {
        samples: u32,
        inputs: u32,
        outputs: u32,
        first: u32,
        rows: u32,
        x_skip: u32,
        y_skip: u32,
        w_skip: u32,
        b_skip: u32,
        has_bias: u32,
        accumulate: u32,
        slice: u32,
        slices: u32,
    }
}

uniform! {
    /// What a dispatch of a product in tiles is told; see the shader.
    struct LinearTilesParams {
        rows: u32,
        columns: u32,
        depth: u32,
        slice: u32,
        slices: u32,
        left_skip: u32,
        left_row: u32,
        left_depth: u32,
        right_skip: u32,
        right_column: u32,
        right_depth: u32,
        result_skip: u32,
        result_row: u32,
        b_skip: u32,
        has_bias: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/block.wgsl"),
        include_str!("../../shaders/shared/block_sum.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/stored.wgsl"),
        include_str!("../../shaders/linear/params.wgsl"),
        include_str!("../../shaders/linear.wgsl"),
    ],
    uniform: LinearParams::LAYOUT,
};

/// The members of the family in tiles.
static TILES: [Shader; 2] = gemm::family!(NAME, LinearTilesParams, "linear/tiles.wgsl");

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y[n,o] = b[o] + Σ_i w[o,i] · x[n,i]",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Linear::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// The linear layer with its attributes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(skip)]
    fusion: Fusion,
}

const fn yes() -> bool {
    true
}

/// All sides of one problem, checked.
#[derive(Debug, Clone, Copy)]
struct Sides {
    n: usize,
    inputs: usize,
    outputs: usize,
}

impl Linear {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        attributes::parse::<Self>(NAME, attributes)?.checked()
    }

    fn checked(self) -> Result<Self, AttributeError> {
        if (1..=Shape::MAX_ELEMENTS).contains(&self.out_features) {
            return Ok(self);
        }
        let (found, most) = (self.out_features, Shape::MAX_ELEMENTS);
        Err(AttributeError::new(NAME, format!("`out_features` is {found}; wanted a number from 1 to {most}")))
    }

    fn sides(&self, Problem { n, input }: Problem) -> Result<Sides, ShapeError> {
        let sides = Sides { n, inputs: input.elements()?, outputs: self.out_features };
        crate::shape::elements(&[n, sides.inputs])?;
        crate::shape::elements(&[n, sides.outputs])?;
        crate::shape::elements(&[sides.outputs, sides.inputs])?;
        Ok(sides)
    }
}

impl Operation for Linear {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| Shape::vector(self.out_features))
    }

    fn parameters(&self, input: Shape) -> Result<Vec<Parameter>, ShapeError> {
        let inputs = input.elements()?;
        let dims = vec![self.out_features, inputs];
        crate::shape::elements(&dims)?;
        let init = Init::KaimingUniform { fan_in: inputs };
        let mut parameters = vec![Parameter { name: "weight", tensor: Tensor::W, dims, init }];
        if self.bias {
            let dims = vec![self.out_features];
            parameters.push(Parameter { name: "bias", tensor: Tensor::B, dims, init: Init::Zeros });
        }
        Ok(parameters)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        let mut uses = match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::read(Tensor::W), Use::write(Tensor::Y)],
            Pass::BackwardInput => vec![Use::read(Tensor::W), Use::read(Tensor::Dy), Use::write(Tensor::Dx)],
            Pass::BackwardWeight => vec![Use::read(Tensor::X), Use::read(Tensor::Dy), Use::update(Tensor::Dw)],
            Pass::Update => Vec::new(),
        };
        match pass {
            Pass::Forward if self.bias => uses.push(Use::read(Tensor::B)),
            Pass::BackwardWeight if self.bias => uses.push(Use::update(Tensor::Db)),
            _ => {}
        }
        uses.extend(self.fusion.uses(pass));
        uses
    }

    fn fusion(&self) -> Fusion {
        self.fusion
    }

    fn fused(&self, fusion: Fusion) -> Option<Arc<dyn Operation>> {
        Some(Arc::new(Self { fusion, ..*self }))
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        let everywhere = ["registers", "naive"].map(|name| Variant { name, pass, requires: Requirements::PORTABLE });
        direct::Direct::variants(pass).chain(gemm::variants(pass)).chain(everywhere).collect()
    }

    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        plan::plan(self, pass, variant, self.sides(problem)?, limits)
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let Sides { n, inputs, outputs } = self.sides(problem)?;
        let mut elements = 0;
        for Use { tensor, access } in self.tensors(pass) {
            let times = u64::from(access.reads()) + u64::from(access.writes());
            elements += times * self.elements(tensor, problem)? as u64;
        }
        Ok(Work { flops: 2 * n as u64 * inputs as u64 * outputs as u64, bytes: 4 * elements })
    }

    fn additions(&self, tensor: Tensor, problem: Problem) -> usize {
        let Ok(Sides { n, inputs, outputs }) = self.sides(problem) else { return 1 };
        match tensor {
            Tensor::Y => inputs + usize::from(self.bias),
            Tensor::Dx => outputs,
            Tensor::Dw | Tensor::Db => n,
            _ => 1,
        }
    }

    fn reference(&self, pass: Pass, problem: Problem, host: &mut HostTensors) {
        let Ok(sides) = self.sides(problem) else { return };
        match pass {
            Pass::Forward => self.forward(sides, host),
            Pass::BackwardInput => backward_input(sides, host),
            Pass::BackwardWeight => self.backward_weight(sides, host),
            Pass::Update => {}
        }
        self.fusion.reference(pass, host);
    }
}

impl Linear {
    fn forward(&self, Sides { inputs, outputs, .. }: Sides, host: &mut HostTensors) {
        let mut y = host.take(Tensor::Y);
        let w = host.read(Tensor::W);
        for (y, x) in y.chunks_exact_mut(outputs).zip(host.read(Tensor::X).chunks_exact(inputs)) {
            for (o, (y, w)) in y.iter_mut().zip(w.chunks_exact(inputs)).enumerate() {
                let bias = if self.bias { host.read(Tensor::B)[o] } else { 0.0 };
                *y = bias + w.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
            }
        }
        host.put(Tensor::Y, y);
    }

    fn backward_weight(&self, Sides { inputs, outputs, .. }: Sides, host: &mut HostTensors) {
        let mut dw = host.take(Tensor::Dw);
        let dy = host.read(Tensor::Dy);
        for (dy, x) in dy.chunks_exact(outputs).zip(host.read(Tensor::X).chunks_exact(inputs)) {
            for (dy, dw) in dy.iter().zip(dw.chunks_exact_mut(inputs)) {
                for (dw, x) in dw.iter_mut().zip(x) {
                    *dw += dy * x;
                }
            }
        }
        host.put(Tensor::Dw, dw);
        if self.bias {
            let mut db = host.take(Tensor::Db);
            for dy in host.read(Tensor::Dy).chunks_exact(outputs) {
                for (db, dy) in db.iter_mut().zip(dy) {
                    *db += dy;
                }
            }
            host.put(Tensor::Db, db);
        }
    }
}

fn backward_input(Sides { inputs, outputs, .. }: Sides, host: &mut HostTensors) {
    let mut dx = host.take(Tensor::Dx);
    let w = host.read(Tensor::W);
    for (dx, dy) in dx.chunks_exact_mut(inputs).zip(host.read(Tensor::Dy).chunks_exact(outputs)) {
        dx.fill(0.0);
        for (dy, w) in dy.iter().zip(w.chunks_exact(inputs)) {
            for (dx, w) in dx.iter_mut().zip(w) {
                *dx += dy * w;
            }
        }
    }
    host.put(Tensor::Dx, dx);
}

/// As in PyTorch the last side of a recorded input may be what `w` takes, and all others count samples; else the
/// first counts samples and the others are flattened.
fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    attributes::none(NAME, attributes)?;
    let &[out_features, inputs] = attributes::dims(NAME, shapes, "w")? else {
        return Err(AttributeError::new(NAME, "`w` must have 2 sides"));
    };
    let product = |sides: &[usize]| sides.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
    let n = match attributes::dims(NAME, shapes, "x")? {
        [samples @ .., last] if *last == inputs => product(samples),
        [n, rest @ ..] if product(rest) == Some(inputs) => Some(*n),
        other => return Err(AttributeError::new(NAME, format!("`x` is {other:?} and `w` takes {inputs} inputs"))),
    };
    let n = n.ok_or_else(|| AttributeError::new(NAME, "`x` has too many elements"))?;
    let linear = Linear { out_features, bias: shapes.contains_key("b"), fusion: Fusion::NONE }.checked()?;
    Ok(case(linear, Problem { n, input: Shape::vector(inputs) }))
}

fn generate(random: &mut Random) -> Case {
    let input = match random.integer(0, 2) {
        0 => Shape::vector(random.integer(1, 700)),
        1 => Shape::vector(random.integer(1, 12)),
        _ => Shape::new(random.integer(1, 9), random.integer(1, 9), random.integer(1, 9)),
    };
    // Many outputs now and then: sums over them are worth slicing.
    let most = if random.chance(0.2) { 300 } else { 80 };
    let mut linear =
        Linear { out_features: random.integer(1, most), bias: random.chance(0.7), fusion: Fusion::generate(random) };
    if random.chance(0.5) {
        // Sides that vectors divide: some variants want them.
        linear.out_features = linear.out_features.next_multiple_of(4);
        let input = Shape::vector(random.integer(1, 150) * 4);
        return case(linear, Problem { n: random.integer(1, 40), input });
    }
    case(linear, Problem { n: random.integer(1, 20), input })
}

fn case(linear: Linear, problem: Problem) -> Case {
    Case { operation: Arc::new(linear), problem, scalars: Scalars::new() }
}
