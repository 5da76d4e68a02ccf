//! Every operation's every variant against the f64 reference, on every executor and in the checked build.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;

use brigade_devices::{Executor, OpenOptions, Words, run_case, self_test, verify, verify_some};
use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{Case, Pass, Precision, Random, Tensor};
use common::{adapters, everyone, hardware, opened, plain};

const CASES: u64 = 20;

/// Members of the families whose text differs with every shape: compiling it is what takes time.
fn members(case: &Case) -> Vec<&'static str> {
    let variants = Pass::ALL.into_iter().flat_map(|pass| case.operation.variants(pass));
    let families = ["direct", "pointwise", "winograd"];
    let member = |name: &&str| families.iter().any(|family| name.starts_with(family));
    let names: BTreeSet<_> = variants.map(|variant| variant.name).filter(member).collect();
    names.into_iter().collect()
}

/// Holds all variants of all operations against the reference; such members take turns, one case in `turns` each.
fn every_operation(executor: &mut dyn Executor, cases: u64, turns: usize) {
    let mut wrong = Vec::new();
    for entry in OPERATIONS {
        let started = std::time::Instant::now();
        let mut compared = 0;
        for seed in 0..cases {
            let mut random = Random::new(seed);
            let case = (entry.generate)(&mut random);
            let members = members(&case);
            let rests = |name: &str| {
                members
                    .iter()
                    .position(|&member| member == name)
                    .is_some_and(|i| !(i + seed as usize).is_multiple_of(turns))
            };
            for report in verify_some(executor, &case, &mut random, &|name| !rests(name)).unwrap() {
                compared += 1;
                if !report.deviation.holds() {
                    wrong.push(format!("{report} in case {seed}: {case:?}"));
                }
            }
        }
        assert!(compared >= cases, "{} compared {compared} outputs", entry.name);
        println!("{}: {}: {compared} outputs in {:?}", executor.info().name, entry.name, started.elapsed());
    }
    assert!(wrong.is_empty(), "{}: {} wrong:\n{}", executor.info().name, wrong.len(), wrong.join("\n"));
}

#[test]
fn device_kernels_on_llvmpipe() {
    every_operation(plain("llvmpipe").as_mut(), CASES, 2);
}

#[test]
fn device_kernels_on_swiftshader() {
    every_operation(plain("swiftshader").as_mut(), CASES, 2);
}

/// What runs by default, and what may round.
#[test]
fn device_kernels_on_gpus() {
    for name in &hardware() {
        every_operation(plain(name).as_mut(), CASES / 2, 1);
        let rounding = OpenOptions { precision: Precision::F16, ..OpenOptions::default() };
        every_operation(opened(name, &rounding).as_mut(), CASES / 2, 1);
    }
}

#[test]
fn device_kernels_on_the_reference() {
    every_operation(plain("reference").as_mut(), CASES, 2);
}

#[test]
fn device_kernels_in_the_checked_build() {
    for name in &adapters() {
        let checked = OpenOptions { checked: true, ..OpenOptions::default() };
        every_operation(opened(name, &checked).as_mut(), CASES, 4);
    }
}

#[test]
fn row_29_kernels_split_over_small_bindings() {
    for name in &adapters() {
        for binding_bytes in [1024, 4096] {
            let options = OpenOptions { binding_bytes: Some(binding_bytes), ..OpenOptions::default() };
            let mut executor = opened(name, &options);
            assert_eq!(executor.info().limits.binding_bytes, binding_bytes);
            for entry in OPERATIONS {
                let mut compared = 0;
                for seed in 0..CASES / 2 {
                    let mut random = Random::new(seed);
                    let case = (entry.generate)(&mut random);
                    // A case whose tensors cannot be cut this small is left out by its plan.
                    for report in verify(executor.as_mut(), &case, &mut random).unwrap() {
                        assert!(report.deviation.holds(), "{report} in case {seed}: {case:?}");
                        compared += 1;
                    }
                }
                println!("{name}, {binding_bytes} bytes: {}: {compared} outputs", entry.name);
            }
        }
    }
}

#[test]
fn device_self_test_passes_and_is_quick() {
    for mut executor in everyone() {
        let test = self_test(executor.as_mut(), OPERATIONS).unwrap();
        println!("{}: {} outputs in {:?}", executor.info().name, test.reports.len(), test.elapsed);
        assert!(test.excluded.is_empty(), "{:?}", test.excluded);
        assert!(test.reports.len() >= OPERATIONS.len());
        assert_eq!(executor.ledger().bytes(brigade_devices::Purpose::Weights), 0);
    }
}

#[test]
fn device_runs_recorded_cases() {
    let relu = brigade_kernels::ops::find("relu").unwrap();
    let shapes = [("x".to_owned(), vec![2, 1, 2])].into();
    let case = (relu.from_case)(&serde_json::json!({}), &shapes).unwrap();
    let words = |values: [f32; 4]| values.map(f32::to_bits).to_vec();
    let given: Words = [(Tensor::X, words([1.0, -2.0, 0.0, 3.5])), (Tensor::Dy, words([1.0, 2.0, 3.0, 4.0]))].into();
    for mut executor in everyone() {
        let outcomes = run_case(executor.as_mut(), &case, &given).unwrap();
        let passes: BTreeSet<_> = outcomes.iter().map(|outcome| outcome.pass).collect();
        assert_eq!(passes, [Pass::Forward, Pass::BackwardInput].into());
        for outcome in &outcomes {
            let wanted = match outcome.pass {
                Pass::Forward => (Tensor::Y, words([1.0, 0.0, 0.0, 3.5])),
                _ => (Tensor::Dx, words([1.0, 0.0, 0.0, 4.0])),
            };
            assert_eq!(outcome.outputs, [wanted].into(), "{}", outcome.variant);
        }
        let short: Words = [(Tensor::X, vec![0; 3])].into();
        assert!(run_case(executor.as_mut(), &case, &short).is_err());
    }
}
