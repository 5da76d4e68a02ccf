//! An operation of the tests' own: y = 2x, through scratch memory, with variants that are wrong on purpose.

use std::sync::Arc;

use brigade_devices::{BufferId, Command, Executor, Program, Purpose, Run, Slice};
use brigade_kernels::{
    Access, AttributeError, Binding, Case, Dispatch, Entry, HostTensors, Kernel, Limits, Operation, Pass, Plan,
    PlanError, Problem, Requirements, Scalars, Shader, Shape, ShapeError, Tensor, UniformLayout, Use, Variant, Work,
};

static SHADER: Shader = Shader {
    name: "twice",
    parts: &["
struct Params { elements: u32, factor: f32, }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> from_: array<f32>;
@group(0) @binding(4) var<storage, read_write> to: array<f32>;
override half: f32 = 0.0;
@compute @workgroup_size(64)
fn forward(@builtin(global_invocation_id) id: vec3<u32>) {
    if id.x < params.elements { to[id.x] = 2.0 * half * params.factor * from_[id.x]; }
}
"],
    uniform: UniformLayout { name: "Params", fields: &[("elements", "u32"), ("factor", "f32")] },
};

/// The operation with the names of its variants: `threefold`, `hasty` (which leaves most of y as it was and is the
/// fastest) and `uncompilable` are wrong, `right`, `slow` (which takes many times as long) and `wide` (for subgroups of
/// 8 and more) are right.
#[derive(Debug)]
pub(crate) struct Twice(pub(crate) &'static [&'static str]);

impl Operation for Twice {
    fn name(&self) -> &'static str {
        "twice"
    }
    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        Ok(input)
    }
    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::write(Tensor::Y)],
            _ => Vec::new(),
        }
    }
    fn work(&self, _: Pass, _: Problem) -> Result<Work, ShapeError> {
        Ok(Work::default())
    }
    fn variants(&self, pass: Pass) -> Vec<Variant> {
        let requires = |name: &str| match name {
            "wide" => Requirements { subgroup_min: 8, ..Requirements::PORTABLE },
            _ => Requirements::PORTABLE,
        };
        self.0.iter().map(|name| Variant { name, pass, requires: requires(name) }).collect()
    }
    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, _: &Limits) -> Result<Plan, PlanError> {
        let elements = self.elements(Tensor::X, problem)?;
        let second: f32 = if variant.name == "threefold" { 3.0 } else { 2.0 };
        let dispatch = |from, to, factor: f32| Dispatch {
            kernel: Kernel {
                definitions: Vec::new(),
                shader: &SHADER,
                entry: if variant.name == "uncompilable" { "nothing" } else { pass.name() },
                constants: vec![("half", 0.5)],
            },
            bindings: vec![
                Binding { slot: 1, tensor: from, access: Access::Read, range: 0..elements },
                Binding { slot: 4, tensor: to, access: Access::Write, range: 0..elements },
            ],
            uniform: [(elements as u32).to_le_bytes(), factor.to_le_bytes()].concat(),
            workgroups: [if variant.name == "hasty" { 1 } else { elements.div_ceil(64) as u32 }, 1, 1],
        };
        let first = dispatch(Tensor::X, Tensor::Workspace, 1.0);
        let mut dispatches = vec![first; if variant.name == "slow" { 40 } else { 1 }];
        dispatches.push(dispatch(Tensor::Workspace, Tensor::Y, second));
        Ok(Plan { dispatches, workspace: elements })
    }
    fn reference(&self, _: Pass, _: Problem, host: &mut HostTensors) {
        let y = host.read(Tensor::X).iter().map(|x| 2.0 * x).collect();
        host.put(Tensor::Y, y);
    }
}

const fn entry(generate: fn(&mut brigade_kernels::Random) -> Case) -> Entry {
    Entry {
        name: "twice",
        formula: "y = 2x",
        shader: &SHADER,
        from_attributes: |_| Err(AttributeError { operation: String::new(), message: String::new() }),
        from_case: |_, _| Err(AttributeError { operation: String::new(), message: String::new() }),
        generate,
    }
}

fn case(variants: &'static [&'static str]) -> Case {
    let problem = Problem { n: 3, input: Shape::new(5, 7, 1) };
    Case { operation: Arc::new(Twice(variants)), problem, scalars: Scalars::new() }
}

/// Of its variants the last is right.
pub(crate) static MENDABLE: Entry = entry(|_| case(&["threefold", "uncompilable", "right"]));

/// None of its variants is right.
pub(crate) static HOPELESS: Entry = entry(|_| case(&["threefold", "uncompilable"]));

/// A program that uploads x, doubles it `times` times over from x to y, and downloads y; with its two buffers.
pub(crate) fn doubling(executor: &mut dyn Executor, elements: usize, times: usize) -> (Program, [BufferId; 2]) {
    let buffers = [0, 1].map(|_| executor.allocate(elements, Purpose::Activations).unwrap());
    let [x, y] = buffers.map(|buffer| Slice { buffer, start: 0, elements });
    let run = Run {
        operation: Arc::new(Twice(&["right"])),
        pass: Pass::Forward,
        problem: Problem { n: 1, input: Shape::vector(elements) },
        tensors: vec![(Tensor::X, x), (Tensor::Y, y)],
    };
    let commands = (0..times).map(|_| Command::Run(run.clone())).collect();
    (Program { label: format!("twice{elements}"), uploads: vec![x], commands, downloads: vec![y], lane: 0 }, buffers)
}
