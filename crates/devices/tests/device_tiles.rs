//! The variants that are meant for GPUs, on the software adapters: every member of each family against the f64
//! reference, on cases that take turns among the members, whole and over small bindings, in both builds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use brigade_devices::{Executor, OpenOptions, verify_some};
use brigade_kernels::ops::find;
use brigade_kernels::{Case, Fusion, Operation, Pass, Precision, Problem, Random, Scalars, Shape, Variant};
use common::{hardware, opened};
use serde_json::json;

const OPERATIONS: [&str; 2] = ["linear", "conv2d"];

/// The members that every GPU can run.
const TILES: [&str; 6] = ["tiles-32x32", "tiles-32x64", "tiles-64x64", "tiles-64x128", "tiles-128x64", "tiles-128x128"];

/// Names of the variants that are meant for GPUs. Those of minimal filtering suit few cases; device_winograd.rs has them.
fn members(operation: &dyn Operation) -> Vec<&'static str> {
    let variants = Pass::ALL.into_iter().flat_map(|pass| operation.variants(pass));
    let in_tiles = |variant: &Variant| variant.requires.gpu && !variant.name.starts_with("winograd");
    let names: BTreeSet<_> = variants.filter(in_tiles).map(|variant| variant.name).collect();
    names.into_iter().collect()
}

/// Each case with the members whose turn it is: one in `turns`.
fn take_turns(executor: &mut dyn Executor, cases: u64, turns: usize) {
    let mut wrong = Vec::new();
    for name in OPERATIONS {
        let started = std::time::Instant::now();
        let entry = find(name).unwrap();
        let mut compared: BTreeMap<&str, usize> = BTreeMap::new();
        for seed in 0..cases {
            let mut random = Random::new(100 + seed);
            let case = (entry.generate)(&mut random);
            let members = members(case.operation.as_ref());
            let turn =
                |name: &str| members.iter().position(|&member| member == name).map(|i| (i + seed as usize) % turns);
            // A case whose tensors cannot be cut to the limits is left out by its plan.
            for report in verify_some(executor, &case, &mut random, &|name| turn(name) == Some(0)).unwrap() {
                *compared.entry(report.variant).or_default() += 1;
                if !report.deviation.holds() {
                    wrong.push(format!("{report} in case {seed}: {case:?}"));
                }
            }
        }
        println!("{}: {name}: {compared:?} in {:?}", executor.info().name, started.elapsed());
        assert!(compared.len() >= 6 && compared.values().all(|&outputs| outputs >= 3), "{name}: {compared:?}");
    }
    assert!(wrong.is_empty(), "{}: {} wrong:\n{}", executor.info().name, wrong.len(), wrong.join("\n"));
}

/// Shapes of several tiles in each direction, the last ones ragged; a stride, slices of the depth, no bias; rectifiers
/// fused to what is stored at the end.
#[test]
fn device_tiles_where_there_are_several() {
    several_tiles("llvmpipe");
    for name in &hardware() {
        several_tiles(name);
    }
}

fn several_tiles(adapter: &str) {
    let mut executor = opened(adapter, &options());
    let conv = json!({"out_channels": 139, "kernel": 3, "stride": [2, 1], "padding": 1, "bias": false});
    let linear = json!({"out_features": 203});
    for (name, attributes, n, input) in
        [("conv2d", conv, 3, Shape::new(21, 9, 11)), ("linear", linear, 137, Shape::vector(260))]
    {
        let plain = (find(name).unwrap().from_attributes)(&attributes).unwrap();
        let operation = plain.fused(Fusion { rectifies: true, masks: true }).unwrap();
        let problem = Problem { n, input };
        let case = Case { operation, problem, scalars: Scalars::new() };
        let members = members(case.operation.as_ref());
        let wanted = |name: &str| members.contains(&name);
        let mut compared = BTreeSet::new();
        for report in verify_some(executor.as_mut(), &case, &mut Random::new(1), &wanted).unwrap() {
            assert!(report.deviation.holds(), "{report}");
            compared.insert(report.variant);
        }
        println!("{adapter}: {name}: {compared:?}");
        // llvmpipe's subgroups of eight are all that these need; cooperative matrices it has none.
        let runs = |name: &&str| !name.starts_with("cooperative");
        if adapter == "llvmpipe" {
            assert_eq!(compared, members.into_iter().filter(runs).collect(), "{name}");
        } else {
            // What a GPU runs at least asks for neither subgroups nor half precision.
            assert!(TILES.iter().all(|member| compared.contains(member)), "{adapter}: {name}: {compared:?}");
        }
    }
}

fn options() -> OpenOptions {
    OpenOptions { every_variant: true, precision: Precision::F16, threads: Some(1), ..OpenOptions::default() }
}

#[test]
fn device_tiles_on_llvmpipe() {
    take_turns(opened("llvmpipe", &options()).as_mut(), 12, 3);
}

#[test]
fn device_tiles_on_swiftshader() {
    take_turns(opened("swiftshader", &options()).as_mut(), 16, 4);
}

#[test]
fn device_tiles_on_gpus() {
    for name in &hardware() {
        take_turns(opened(name, &options()).as_mut(), 12, 1);
        take_turns(opened(name, &OpenOptions { checked: true, ..options() }).as_mut(), 9, 2);
        take_turns(opened(name, &OpenOptions { binding_bytes: Some(4096), ..options() }).as_mut(), 9, 2);
    }
}

#[test]
fn device_tiles_in_the_checked_build() {
    let options = OpenOptions { checked: true, ..options() };
    take_turns(opened("llvmpipe", &options).as_mut(), 9, 9);
}

#[test]
fn row_29_tiles_over_small_bindings() {
    let options = OpenOptions { binding_bytes: Some(4096), ..options() };
    take_turns(opened("llvmpipe", &options).as_mut(), 18, 3);
}
