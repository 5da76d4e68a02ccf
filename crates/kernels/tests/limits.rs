//! Layers of real size against the limits that every adapter keeps. Needs no GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use brigade_kernels::ops::find;
use brigade_kernels::{Access, Limits, Operation, Pass, PlanError, Problem, Shape, Tensor, Variant};
use serde_json::json;

fn variants(operation: &dyn Operation) -> Vec<(Pass, Variant)> {
    let passes = Pass::ALL.into_iter().filter(|pass| !operation.tensors(*pass).is_empty());
    passes.flat_map(|pass| operation.variants(pass).into_iter().map(move |variant| (pass, variant))).collect()
}

/// fc6 of VGG-F: 4096×9216 weights are 144 MiB, and portable bindings hold 128 MiB.
#[test]
fn weights_larger_than_a_binding_are_cut_by_rows() {
    let linear = (find("linear").unwrap().from_attributes)(&json!({"out_features": 4096})).unwrap();
    let problem = Problem { n: 32, input: Shape::new(256, 6, 6) };
    for (pass, variant) in variants(linear.as_ref()) {
        let plan = linear.plan(pass, &variant, problem, &Limits::PORTABLE).unwrap();
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

#[test]
fn pictures_with_more_tiles_than_a_shader_can_tell_apart_are_left_to_other_variants() {
    let attributes = json!({"out_channels": 1, "kernel": 3, "padding": 1});
    let conv = (find("conv2d").unwrap().from_attributes)(&attributes).unwrap();
    let problem = Problem { n: 1, input: Shape::new(1, 2900, 2900) };
    let plan = |name: &str| {
        let variant = conv.variants(Pass::Forward).into_iter().find(|variant| variant.name == name).unwrap();
        conv.plan(Pass::Forward, &variant, problem, &Limits::PORTABLE)
    };
    let error = plan("direct-16x2x4").unwrap_err();
    assert!(matches!(error, PlanError::Unsuited { .. }), "{error}");
    assert!(plan("naive").is_ok());
}

/// A layer of VGG with 256 channels: transformed, eight samples of it are 115 MB.
#[test]
fn scratch_memory_of_minimal_filtering_does_not_grow_with_the_samples() {
    let attributes = json!({"out_channels": 256, "kernel": 3, "padding": 1});
    let conv = (find("conv2d").unwrap().from_attributes)(&attributes).unwrap();
    let limits = Limits { subgroup_min: 8, subgroup_max: 8, every_variant: true, ..Limits::PORTABLE };
    let mut members = 0;
    for (pass, variant) in variants(conv.as_ref()).into_iter().filter(|(_, v)| v.name.starts_with("winograd")) {
        let workspace = |n| {
            let problem = Problem { n, input: Shape::new(256, 56, 56) };
            conv.plan(pass, &variant, problem, &limits).unwrap().workspace
        };
        assert_eq!(workspace(8), workspace(64), "{pass} {}", variant.name);
        assert!(workspace(64) <= 3 << 23, "{pass} {}: {}", variant.name, workspace(64));
        members += 1;
    }
    assert!(members >= 8, "{members}");
}
