//! What an adapter can do at most: a pure multiply-add kernel and a copy kernel, which benchmarks hold every other
//! kernel against. They have the shape of operations, so that they run and are verified like any, but no network
//! uses them: they are not in the list of operations, and their shaders lie in `shaders/bench/`.

use std::sync::Arc;

use crate::ops::items::Items;
use crate::uniform::uniform;
use crate::{
    Case, HostTensors, Kernel, Limits, Operation, Pass, Plan, PlanError, Problem, Requirements, Scalars, Shader, Shape,
    ShapeError, Tensor, Use, Variant, Work,
};

uniform! {
    /// What a dispatch is told.
    struct MultiplyAddParams {
        elements: u32,
        /// Turns of the loop.
        rounds: u32,
        factor: f32,
    }
}

uniform! {
    /// What a dispatch is told.
    struct CopyParams {
        /// Vectors of four elements.
        quads: u32,
    }
}

static MULTIPLY_ADD: Shader = Shader {
    name: "multiply_add",
    parts: &[include_str!("../shaders/shared/index.wgsl"), include_str!("../shaders/bench/multiply_add.wgsl")],
    uniform: MultiplyAddParams::LAYOUT,
};

static COPY: Shader = Shader {
    name: "copy",
    parts: &[include_str!("../shaders/shared/index.wgsl"), include_str!("../shaders/bench/copy.wgsl")],
    uniform: CopyParams::LAYOUT,
};

/// Every shader of this module; one file each.
pub static SHADERS: &[&Shader] = &[&MULTIPLY_ADD, &COPY];

/// As the shader says: invocations of a workgroup, chains of an invocation, multiply-adds of a chain in a round.
const INVOCATIONS: usize = 64;
const CHAINS: usize = 12;
const TURNS: usize = 8;
/// As the shader says: elements of a workgroup.
const COPIED: usize = 4096;

/// Multiply-adds on registers; the number is that of the loop's rounds.
#[derive(Debug, Clone, Copy)]
struct MultiplyAdd {
    rounds: u32,
}

/// Every element read once and written once.
#[derive(Debug, Clone, Copy)]
struct Copy;

/// Of every chain, so that it comes to rest and stays far from the ends of the numbers.
const FACTOR: f32 = 0.75;

/// `elements` invocations of the multiply-add kernel with `rounds` rounds each.
pub fn multiply_add(elements: usize, rounds: u32) -> Case {
    case(Arc::new(MultiplyAdd { rounds }), elements)
}

/// A copy of `elements` elements, a multiple of four.
pub fn copy(elements: usize) -> Case {
    case(Arc::new(Copy), elements.next_multiple_of(4))
}

fn case(operation: Arc<dyn Operation>, elements: usize) -> Case {
    Case { operation, problem: Problem { n: elements, input: Shape::vector(1) }, scalars: Scalars::new() }
}

fn forward_only(pass: Pass) -> Vec<Use> {
    if pass == Pass::Forward { vec![Use::read(Tensor::X), Use::write(Tensor::Y)] } else { Vec::new() }
}

fn only_variant(pass: Pass) -> Vec<Variant> {
    vec![Variant { name: "ceiling", pass, requires: Requirements::PORTABLE }]
}

impl Operation for MultiplyAdd {
    fn name(&self) -> &'static str {
        MULTIPLY_ADD.name
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        forward_only(pass)
    }

    fn work(&self, _: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::X, problem)? as u64;
        let flops = 2 * (CHAINS * TURNS) as u64 * u64::from(self.rounds);
        Ok(Work { flops: elements * flops, bytes: 8 * elements })
    }

    fn additions(&self, _: Tensor, _: Problem) -> usize {
        CHAINS
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        only_variant(pass)
    }

    fn plan(&self, pass: Pass, _: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        let rounds = self.rounds;
        let params = |count: usize| MultiplyAddParams { elements: count as u32, rounds, factor: FACTOR };
        let kernel =
            Kernel { shader: &MULTIPLY_ADD, entry: pass.name(), definitions: Vec::new(), constants: Vec::new() };
        let cut = [(Use::read(Tensor::X), 1), (Use::write(Tensor::Y), 1)];
        let items = Items { kernel, count: self.elements(Tensor::X, problem)?, cut: &cut, whole: &[] };
        let groups = |count: usize| count.div_ceil(INVOCATIONS);
        Ok(Plan { dispatches: items.dispatches(limits, groups, |range| params(range.len()))?, workspace: 0 })
    }

    fn reference(&self, _: Pass, _: Problem, host: &mut HostTensors) {
        let mut y = host.take(Tensor::Y);
        for (y, &x) in y.iter_mut().zip(host.read(Tensor::X)) {
            let mut chains: [f64; CHAINS] = std::array::from_fn(|chain| x * (chain + 1) as f64);
            for _ in 0..TURNS * self.rounds as usize {
                chains = chains.map(|value| value * f64::from(FACTOR) + x);
            }
            *y = chains.iter().sum();
        }
        host.put(Tensor::Y, y);
    }
}

impl Operation for Copy {
    fn name(&self) -> &'static str {
        COPY.name
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        forward_only(pass)
    }

    fn work(&self, _: Pass, problem: Problem) -> Result<Work, ShapeError> {
        Ok(Work { flops: 0, bytes: 8 * self.elements(Tensor::X, problem)? as u64 })
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        only_variant(pass)
    }

    fn plan(&self, pass: Pass, _: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        let kernel = Kernel { shader: &COPY, entry: pass.name(), definitions: Vec::new(), constants: Vec::new() };
        let cut = [(Use::read(Tensor::X), 4), (Use::write(Tensor::Y), 4)];
        let items = Items { kernel, count: self.elements(Tensor::X, problem)? / 4, cut: &cut, whole: &[] };
        let groups = |quads: usize| (4 * quads).div_ceil(COPIED);
        let params = |quads: usize| CopyParams { quads: quads as u32 };
        Ok(Plan { dispatches: items.dispatches(limits, groups, |range| params(range.len()))?, workspace: 0 })
    }

    fn reference(&self, _: Pass, _: Problem, host: &mut HostTensors) {
        let x = host.read(Tensor::X).to_vec();
        host.put(Tensor::Y, x);
    }
}
