//! No test adapter has cooperative matrices. Here their instructions are replaced in the modules' texts by functions that
//! do the same invocation by invocation, so that everything around them runs: which matrix lies where in workgroup
//! memory, which subgroup has which part of a tile, how results come back to the invocations.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use brigade_devices::{OpenOptions, verify};
use brigade_kernels::ops::find;
use brigade_kernels::{
    Case, HostTensors, Limits, Operation, Parameter, Pass, Plan, PlanError, Precision, Problem, Random, Requirements,
    Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};
use common::opened;
use serde_json::json;

/// The matrix functions on 32 neighbouring invocations, of which each has four neighbours in a row of the upper half of
/// the sums and in one of the lower half. An operand is where it begins in workgroup memory.
const FUNCTIONS: &str = "
struct Matrix { upper: vec4<f32>, lower: vec4<f32> }

fn left_element(at: u32, row: u32, depth: u32) -> f32 {
    return f32(left_tile[at + row + depth * 4u * LEFT_STRIDE]);
}

fn multiply_add_matrix(left_at: u32, right_at: u32, sums: Matrix, lane: u32) -> Matrix {
    let row = lane % 32u / 4u;
    var result = sums;
    // A bound that compilers do not know: unrolled, it takes llvmpipe minutes to compile.
    for (var depth = 0u; depth < min(16u, params.rows * 16u); depth++) {
        let at = right_at + lane % 4u * 4u + depth * 4u * RIGHT_STRIDE;
        let right = vec4<f32>(vec4(right_tile[at], right_tile[at + 1u], right_tile[at + 2u], right_tile[at + 3u]));
        result.upper += left_element(left_at, row, depth) * right;
        result.lower += left_element(left_at, row + 8u, depth) * right;
    }
    return result;
}

fn store_matrix(matrix: Matrix, first: u32, lane: u32) {
    let at = first + lane % 32u / 4u * 16u + lane % 4u * 4u;
    for (var i = 0u; i < 4u; i++) {
        stage[at + i] = matrix.upper[i];
        stage[at + 128u + i] = matrix.lower[i];
    }
}
";

/// The text without cooperative matrices.
fn emulated(shader: &Shader, definitions: &[(&'static str, u32)]) -> &'static Shader {
    let mut text = shader.source(definitions).unwrap();
    for (instruction, replacement) in [
        ("enable wgpu_cooperative_matrix;", ""),
        ("coop_mat16x16<f32, C>()", "Matrix()"),
        ("coopLoad<coop_mat16x16<f16, A>>(&left_tile[", "first_of(u32("),
        ("coopLoadT<coop_mat16x16<f16, B>>(&right_tile[", "first_of(u32("),
        ("], 4u * LEFT_STRIDE)", "))"),
        ("], 4u * RIGHT_STRIDE)", "))"),
        ("first_of(", "("),
        ("coopMultiplyAdd(", "multiply_add_matrix("),
        ("coopStoreT(", "store_matrix("),
        ("&stage[256u * subgroup], 16u", "256u * subgroup, lane"),
    ] {
        assert!(text.contains(instruction), "{instruction}");
        text = text.replace(instruction, replacement);
    }
    // The third operand of a multiplication is the sum it adds to; it wants the invocation behind it.
    let lines = text.lines().map(|line| match line.split_once("= multiply_add_matrix(") {
        Some((to, operands)) => format!("{to}= multiply_add_matrix({}, lane);", operands.trim_end_matches(");")),
        None => line.to_owned(),
    });
    let text = lines.collect::<Vec<_>>().join("\n") + FUNCTIONS;
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

#[test]
fn device_cooperative_products_with_emulated_matrices() {
    let options = OpenOptions { every_variant: true, precision: Precision::F16, ..OpenOptions::default() };
    let mut executor = opened("llvmpipe", &options);
    // One member and one operation: compiling stands for minutes of llvmpipe's time, and the products are the same text.
    let linear = (find("linear").unwrap().from_attributes)(&json!({"out_features": 203})).unwrap();
    let operation = Arc::new(Emulated(linear, "cooperative-64x64"));
    let case = Case { operation, problem: Problem { n: 137, input: Shape::vector(261) }, scalars: Scalars::new() };
    let reports = verify(executor.as_mut(), &case, &mut Random::new(1)).unwrap();
    assert_eq!(reports.len(), 4, "y, dx, dw and db");
    for report in reports {
        println!("{report}");
        assert!(report.deviation.holds(), "{report}");
    }
}
