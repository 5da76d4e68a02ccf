//! Minimal filtering in tiles, which is meant for GPUs, on the software adapters: every member against the f64 reference,
//! whole, cut over small bindings, and in the checked build.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use brigade_devices::{Executor, OpenOptions, verify_some};
use brigade_kernels::ops::find;
use brigade_kernels::{Case, Operation, Problem, Random, Scalars, Shape};
use common::{hardware, opened};
use serde_json::{Value, json};

const MEMBERS: usize = 4;

fn options() -> OpenOptions {
    OpenOptions { every_variant: true, threads: Some(1), ..OpenOptions::default() }
}

fn case(attributes: &Value, n: usize, input: Shape) -> Case {
    let operation: Arc<dyn Operation> = (find("conv2d").unwrap().from_attributes)(attributes).unwrap().into();
    Case { operation, problem: Problem { n, input }, scalars: Scalars::new() }
}

/// Ragged in every direction; with more padding than the filter reaches, so that the gradient's source begins beyond the
/// picture; rows of whole vectors, and none that is one.
fn small() -> Vec<Case> {
    vec![
        case(&json!({"out_channels": 7, "kernel": 3, "padding": 1}), 3, Shape::new(5, 9, 11)),
        case(&json!({"out_channels": 9, "kernel": 3, "padding": [4, 3], "bias": false}), 3, Shape::new(3, 2, 5)),
        case(&json!({"out_channels": 4, "kernel": 3}), 2, Shape::new(6, 6, 10)),
        case(&json!({"out_channels": 3, "kernel": 3, "padding": 1}), 5, Shape::new(2, 5, 8)),
    ]
}

/// Several tiles of products down and across, and several steps of the depth.
fn large() -> Vec<Case> {
    vec![case(&json!({"out_channels": 139, "kernel": 3, "padding": 1}), 5, Shape::new(37, 12, 20))]
}

/// Outputs compared, by member; what is wrong fails.
fn compared(executor: &mut dyn Executor, cases: &[Case]) -> BTreeMap<&'static str, usize> {
    let mut compared = BTreeMap::new();
    for case in cases {
        let wanted = |name: &str| name.starts_with("winograd") && name.contains("tiles");
        for report in verify_some(executor, case, &mut Random::new(1), &wanted).unwrap() {
            assert!(report.deviation.holds(), "{}: {report} in {case:?}", executor.info().name);
            *compared.entry(report.variant).or_default() += 1;
        }
    }
    compared
}

fn all_members(executor: &mut dyn Executor, cases: &[Case]) {
    let compared = compared(executor, cases);
    let outputs = 2 * cases.len();
    assert!(compared.len() == MEMBERS && compared.values().all(|&found| found == outputs), "{compared:?}");
}

#[test]
fn device_winograd_in_tiles_on_llvmpipe() {
    let mut executor = opened("llvmpipe", &options());
    all_members(executor.as_mut(), &small());
    all_members(executor.as_mut(), &large());
}

#[test]
fn device_winograd_in_tiles_on_gpus() {
    for name in &hardware() {
        let mut executor = opened(name, &options());
        all_members(executor.as_mut(), &small());
        all_members(executor.as_mut(), &large());
    }
}

#[test]
fn device_winograd_in_tiles_on_swiftshader() {
    all_members(opened("swiftshader", &options()).as_mut(), &small());
}

#[test]
fn device_winograd_in_tiles_in_the_checked_build() {
    let options = OpenOptions { checked: true, ..options() };
    all_members(opened("llvmpipe", &options).as_mut(), &small());
}

/// Cut by samples, whose results then start in the middle of a vector, and by filters, whose gradients add up. A case
/// whose tensors cannot be cut so small is left out by its plan.
#[test]
fn row_29_winograd_in_tiles_over_small_bindings() {
    for binding_bytes in [6 << 10, 24 << 10] {
        let options = OpenOptions { binding_bytes: Some(binding_bytes), ..options() };
        let compared = compared(opened("llvmpipe", &options).as_mut(), &small());
        println!("{binding_bytes} bytes: {compared:?}");
        assert!(compared.values().sum::<usize>() >= 8, "{binding_bytes} bytes: {compared:?}");
    }
}
