//! Plans keep to the limits, however small these are. Needs no GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use brigade_kernels::ops::{OPERATIONS, find};
use brigade_kernels::{Access, Limits, Operation, Pass, Plan, PlanError, Problem, Random, Shape, Tensor, Variant};
use serde_json::json;

#[test]
fn bindings_and_workgroups_keep_to_the_limits() {
    let mut split = 0;
    for entry in OPERATIONS {
        let mut random = Random::new(11);
        for _ in 0..30 {
            let case = (entry.generate)(&mut random);
            for binding_bytes in [2 << 10, 8 << 10, 128 << 20] {
                let limits = Limits { binding_bytes, ..Limits::PORTABLE };
                for (pass, variant) in variants(case.operation.as_ref()) {
                    match case.operation.plan(pass, &variant, case.problem, &limits) {
                        Ok(plan) => split += check(case.operation.as_ref(), case.problem, &plan, &limits),
                        Err(error) => assert!(matches!(error, PlanError::Limit { .. }), "{error}"),
                    }
                }
            }
        }
    }
    assert!(split > 100, "only {split} bindings see a part of their tensor");
}

fn variants(operation: &dyn Operation) -> Vec<(Pass, Variant)> {
    let passes = Pass::ALL.into_iter().filter(|pass| !operation.tensors(*pass).is_empty());
    passes.flat_map(|pass| operation.variants(pass).into_iter().map(move |variant| (pass, variant))).collect()
}

/// How many bindings see only a part of their tensor.
fn check(operation: &dyn Operation, problem: Problem, plan: &Plan, limits: &Limits) -> usize {
    let mut split = 0;
    for dispatch in &plan.dispatches {
        assert!(dispatch.workgroups.iter().all(|&count| count > 0 && count <= limits.workgroups_per_dimension));
        assert!(dispatch.bindings.len() <= limits.storage_buffers as usize);
        for binding in &dispatch.bindings {
            let elements = match binding.tensor {
                Tensor::Workspace => plan.workspace,
                tensor => operation.elements(tensor, problem).unwrap(),
            };
            assert!(
                !binding.range.is_empty() && binding.range.end <= elements,
                "{operation:?} {problem:?} {binding:?}"
            );
            assert!(binding.range.len() as u64 * 4 <= limits.binding_bytes, "{operation:?} {problem:?} {binding:?}");
            assert_eq!(binding.range.start % 64, 0, "{operation:?} {problem:?} {binding:?}");
            split += usize::from(binding.tensor != Tensor::Workspace && binding.range.len() < elements);
        }
    }
    split
}

/// fc6 of VGG-F: 4096×9216 weights are 144 MiB, and portable bindings hold 128 MiB.
#[test]
fn weights_larger_than_a_binding_are_cut_by_rows() {
    let linear = (find("linear").unwrap().from_attributes)(&json!({"out_features": 4096})).unwrap();
    let problem = Problem { n: 32, input: Shape::new(256, 6, 6) };
    for (pass, variant) in variants(linear.as_ref()) {
        let plan = linear.plan(pass, &variant, problem, &Limits::PORTABLE).unwrap();
        check(linear.as_ref(), problem, &plan, &Limits::PORTABLE);
        let weights = if pass == Pass::BackwardWeight { Tensor::Dw } else { Tensor::W };
        let bindings = || plan.dispatches.iter().flat_map(|dispatch| &dispatch.bindings);
        let rows: Vec<_> = bindings().filter(|b| b.tensor == weights).map(|b| b.range.clone()).collect();
        assert_eq!(rows, [0..2048 * 9216, 2048 * 9216..4096 * 9216], "{pass} {}", variant.name);
        if pass == Pass::BackwardInput {
            let access: Vec<_> = bindings().filter(|b| b.tensor == Tensor::Dx).map(|b| b.access).collect();
            assert_eq!(access, [Access::Write, Access::ReadWrite], "the second half adds to the first");
        }
    }
}

#[test]
fn what_no_split_can_help_is_an_error_that_says_so() {
    let linear = (find("linear").unwrap().from_attributes)(&json!({"out_features": 10})).unwrap();
    let problem = Problem { n: 1, input: Shape::vector(1 << 26) };
    let variant = linear.variants(Pass::Forward)[0];
    let error = linear.plan(Pass::Forward, &variant, problem, &Limits::PORTABLE).unwrap_err();
    let wanted = "linear: one binding of w needs 268435708 bytes, and this adapter allows 134217728 bytes";
    assert_eq!(error.to_string(), wanted);
}
