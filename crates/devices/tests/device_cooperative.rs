//! No test adapter has cooperative matrices. Here their instructions are replaced in the modules' texts by functions that
//! do the same invocation by invocation, so that everything around them runs: which matrix lies where in workgroup
//! memory, which subgroup has which part of a tile, how results come back to the invocations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use brigade_devices::{Executor, OpenOptions, verify};
use brigade_kernels::ops::find;
use brigade_kernels::{
    Case, HostTensors, Limits, Operation, Parameter, Pass, Plan, PlanError, Precision, Problem, Random, Requirements,
    Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};
use common::opened;
use serde_json::{Value, json};

/// The matrix functions on 32 neighbouring invocations, of which each has 2 · PAIRS neighbours in a row of the sums. An
/// operand is where it lies in workgroup memory; its lines are rows of left, columns of right.
const FUNCTIONS: &str = "
{% set PAIRS = MATRIX * MATRIX // 64 %}
struct Matrix {
    {% for p in range(PAIRS) %}
    pair_{{ p }}: vec2<f32>,
    {% endfor %}
}

fn first_element(lane: u32) -> u32 {
    return lane % 32u * {{ 2 * PAIRS }}u;
}

struct Operand {
    first: u32,
    line: u32,
    depth: u32,
}

fn depth_by_depth(first: u32, stride: u32) -> Operand {
    return Operand(first, 1u, stride);
}

fn line_by_line(first: u32, stride: u32) -> Operand {
    return Operand(first, stride, 1u);
}

fn multiply_add_matrix(left: Operand, right: Operand, sums: Matrix, lane: u32) -> Matrix {
    let row = first_element(lane) / {{ MATRIX }}u;
    let column = first_element(lane) % {{ MATRIX }}u;
    var result = sums;
    // A bound that compilers do not know: unrolled, it takes llvmpipe minutes to compile.
    for (var depth = 0u; depth < min({{ MATRIX }}u, params.rows * 16u); depth++) {
        let left_value = f32(left_tile[left.first + row * left.line + depth * left.depth]);
        let at = right.first + column * right.line + depth * right.depth;
        {% for p in range(PAIRS) %}
        result.pair_{{ p }} += left_value * vec2(
            f32(right_tile[at + {{ 2 * p }}u * right.line]),
            f32(right_tile[at + {{ 2 * p + 1 }}u * right.line]),
        );
        {% endfor %}
    }
    return result;
}

fn store_matrix(matrix: Matrix, first: u32, lane: u32) {
    let at = first + first_element(lane);
    {% for p in range(PAIRS) %}
    stage[at + {{ 2 * p }}u] = matrix.pair_{{ p }}.x;
    stage[at + {{ 2 * p + 1 }}u] = matrix.pair_{{ p }}.y;
    {% endfor %}
}
";

/// The text without cooperative matrices.
fn emulated(shader: &Shader, definitions: &[(&'static str, u32)]) -> &'static Shader {
    let of = |wanted| definitions.iter().find(|(name, _)| *name == wanted).unwrap().1;
    let side = of("MATRIX");
    let scalar = if of("HALF") == 1 { "f16" } else { "f32" };
    let matrices = format!("coop_mat{side}x{side}");
    let mut text = shader.source(definitions).unwrap();
    for (instruction, replacement) in [
        ("enable wgpu_cooperative_matrix;", ""),
        (&format!("{matrices}<f32, C>()"), "Matrix()"),
        (&format!("coopLoad<{matrices}<{scalar}, A>>(&left_tile["), "depth_by_depth(("),
        (&format!("coopLoadT<{matrices}<{scalar}, A>>(&left_tile["), "line_by_line(("),
        (&format!("coopLoadT<{matrices}<{scalar}, B>>(&right_tile["), "depth_by_depth(("),
        (&format!("coopLoad<{matrices}<{scalar}, B>>(&right_tile["), "line_by_line(("),
        ("], LEFT_STRIDE)", "), LEFT_STRIDE)"),
        ("], RIGHT_STRIDE)", "), RIGHT_STRIDE)"),
        ("], ALONG_STRIDE)", "), ALONG_STRIDE)"),
        ("coopMultiplyAdd(", "multiply_add_matrix("),
        ("coopStoreT(", "store_matrix("),
        ("&stage[", ""),
        (&format!("], {side}u);"), ", lane);"),
    ] {
        text = text.replace(instruction, replacement);
    }
    assert!(!text.contains("coopLoad") && !text.contains("coop_mat"), "an instruction is left: {text}");
    // The third operand of a multiplication is the sum it adds to; it wants the invocation behind it.
    let lines = text.lines().map(|line| match line.split_once("= multiply_add_matrix(") {
        Some((to, operands)) => format!("{to}= multiply_add_matrix({}, lane);", operands.trim_end_matches(");")),
        None => line.to_owned(),
    });
    let functions = Shader { name: "matrices", parts: &[FUNCTIONS], uniform: shader.uniform };
    let text = lines.collect::<Vec<_>>().join("\n") + &functions.source(&[("MATRIX", side)]).unwrap();
    let parts: &'static [&'static str] = vec![&*text.leak()].leak();
    Box::leak(Box::new(Shader { name: shader.name, parts, uniform: shader.uniform }))
}

/// An operation with one of its cooperative variants alone, emulated.
#[derive(Debug)]
struct Emulated(Box<dyn Operation>, &'static str);

impl Operation for Emulated {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        self.0.output(input)
    }
    fn parameters(&self, input: Shape) -> Result<Vec<Parameter>, ShapeError> {
        self.0.parameters(input)
    }
    fn tensors(&self, pass: Pass) -> Vec<Use> {
        self.0.tensors(pass)
    }
    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        self.0.work(pass, problem)
    }
    fn additions(&self, tensor: Tensor, problem: Problem) -> usize {
        self.0.additions(tensor, problem)
    }
    fn variants(&self, pass: Pass) -> Vec<Variant> {
        let anywhere =
            |requires| Requirements { subgroup_min: 0, subgroup_max: u32::MAX, cooperative_matrix: 0, ..requires };
        let cooperative = self.0.variants(pass).into_iter().filter(|variant| variant.name == self.1);
        cooperative.map(|variant| Variant { requires: anywhere(variant.requires), ..variant }).collect()
    }
    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        let mut plan = self.0.plan(pass, variant, problem, limits)?;
        for dispatch in &mut plan.dispatches {
            if dispatch.kernel.definitions.contains(&("COOPERATIVE", 1)) {
                let definitions = std::mem::take(&mut dispatch.kernel.definitions);
                dispatch.kernel.shader = emulated(dispatch.kernel.shader, &definitions);
            }
        }
        Ok(plan)
    }
    fn reference(&self, pass: Pass, problem: Problem, host: &mut HostTensors) {
        self.0.reference(pass, problem, host);
    }
}

/// Holds the passes of an emulated member against the reference.
fn hold(executor: &mut dyn Executor, (name, attributes): (&str, &Value), problem: Problem, member: &'static str) {
    let operation = (find(name).unwrap().from_attributes)(attributes).unwrap();
    let operation = Arc::new(Emulated(operation, member));
    let case = Case { operation, problem, scalars: Scalars::new() };
    let reports = verify(executor, &case, &mut Random::new(1)).unwrap();
    assert_eq!(reports.len(), 4, "y, dx, dw and db");
    for report in reports {
        println!("{report}");
        assert!(report.deviation.holds(), "{report}");
    }
}

fn executor() -> Box<dyn Executor> {
    opened("llvmpipe", &OpenOptions { every_variant: true, precision: Precision::F16, ..OpenOptions::default() })
}

/// Few members: compiling them stands for minutes of llvmpipe's time, and the products are the same text.
#[test]
fn device_cooperative_products_with_emulated_matrices() {
    let problem = Problem { n: 137, input: Shape::vector(261) };
    hold(executor().as_mut(), ("linear", &json!({"out_features": 203})), problem, "cooperative-64x64");
}

/// Matrices of side 8, as Apple has them; in `f32`, which leaves no tolerance for an element in the wrong place.
#[test]
fn device_cooperative_products_with_small_matrices() {
    let mut executor = executor();
    let problem = Problem { n: 77, input: Shape::vector(261) };
    hold(executor.as_mut(), ("linear", &json!({"out_features": 75})), problem, "cooperative-8x8-32x32-f32");
    let conv = json!({"out_channels": 39, "kernel": 3, "stride": [2, 1], "padding": 1});
    let problem = Problem { n: 2, input: Shape::new(21, 9, 11) };
    hold(executor.as_mut(), ("conv2d", &conv), problem, "cooperative-8x8-32x32-f32");
}
