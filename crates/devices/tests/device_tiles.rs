//! The variants that are meant for GPUs, on the software adapters: every member of each family against the f64
//! reference, on cases that take turns among the members, whole and over small bindings, in both builds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use brigade_devices::{Executor, OpenOptions, verify_some};
use brigade_kernels::ops::find;
use brigade_kernels::{Operation, Pass, Precision, Random};
use common::opened;

const OPERATIONS: [&str; 2] = ["linear", "conv2d"];

/// Names of the variants that are meant for GPUs.
fn members(operation: &dyn Operation) -> Vec<&'static str> {
    let variants = Pass::ALL.into_iter().flat_map(|pass| operation.variants(pass));
    let names: BTreeSet<_> = variants.filter(|variant| variant.requires.gpu).map(|variant| variant.name).collect();
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
            let turn = |name: &str| members.iter().position(|&member| member == name).map(|i| (i + seed as usize) % turns);
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

fn options() -> OpenOptions {
    OpenOptions { every_variant: true, precision: Precision::F16, threads: Some(1), ..OpenOptions::default() }
}

#[test]
fn device_tiles_on_llvmpipe() {
    take_turns(opened("llvmpipe", &options()).as_mut(), 28, 3);
}

#[test]
fn device_tiles_on_swiftshader() {
    take_turns(opened("swiftshader", &options()).as_mut(), 20, 4);
}

#[test]
fn device_tiles_in_the_checked_build() {
    let options = OpenOptions { checked: true, ..options() };
    take_turns(opened("llvmpipe", &options).as_mut(), 20, 4);
}

#[test]
fn device_tiles_over_small_bindings() {
    let options = OpenOptions { binding_bytes: Some(4096), ..options() };
    take_turns(opened("llvmpipe", &options).as_mut(), 28, 3);
}
