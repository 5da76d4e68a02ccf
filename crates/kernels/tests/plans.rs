//! What every plan must keep to, whatever the device allows: bindings that fit, are aligned and never see
//! one place twice where it is written, results that are written in full, and dispatches within the limits. Needs no GPU.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{
    Access, Binding, Case, Dispatch, Fusion, Limits, Operation, Pass, Plan, PlanError, Random, Tensor, Variant,
};

/// Limits that make plans split: small bindings, few workgroups in a row.
fn tight(binding_bytes: u64) -> Limits {
    Limits { binding_bytes, workgroups_per_dimension: 40, ..Limits::PORTABLE }
}

#[test]
fn plans_keep_to_the_limits() {
    for entry in OPERATIONS {
        let mut random = Random::new(11);
        let mut split = 0;
        for _ in 0..60 {
            let case = (entry.generate)(&mut random);
            for limits in [Limits::PORTABLE, tight(64 << 10), tight(16 << 10), tight(4 << 10)] {
                for (pass, plan) in plans(&case, &limits) {
                    let name = format!("{} {pass} {:?}", entry.name, case.problem);
                    split += usize::from(plan.dispatches.len() > 1);
                    for dispatch in &plan.dispatches {
                        check(&name, dispatch, &limits);
                        assert_eq!(dispatch.uniform.len(), 4 * dispatch.kernel.shader.uniform.fields.len(), "{name}");
                    }
                    written_in_full(&name, &case, pass, &plan);
                }
            }
        }
        assert!(split > 0, "{}: no case was large enough to be split", entry.name);
    }
}

/// An operation is tuned by itself, and what was chosen runs with whatever is fused to it: each variant can be planned with
/// it wherever it can be without, and does the same.
#[test]
fn what_is_fused_changes_no_plan_but_for_what_is_stored() {
    let mut compared = 0;
    for entry in OPERATIONS {
        let mut random = Random::new(13);
        for _ in 0..20 {
            let case = (entry.generate)(&mut random);
            let Some(plain) = case.operation.fused(Fusion::NONE) else { continue };
            for fusion in [Fusion::RECTIFIES, Fusion::MASKS, Fusion { rectifies: true, masks: true }] {
                let Some(fused) = plain.fused(fusion) else { continue };
                assert_eq!(fused.fusion(), fusion);
                for limits in [Limits::PORTABLE, tight(16 << 10), tight(4 << 10)] {
                    let planned = |operation: &dyn Operation, pass, variant: &Variant| {
                        let plan = operation.plan(pass, variant, case.problem, &limits).ok()?;
                        let work = |d: &Dispatch| (d.kernel.entry, d.kernel.constants.clone(), d.workgroups);
                        Some((plan.workspace, plan.dispatches.iter().map(work).collect::<Vec<_>>()))
                    };
                    for pass in Pass::ALL {
                        let variants = plain.variants(pass);
                        assert_eq!(fused.variants(pass), variants);
                        for variant in &variants {
                            let wanted = planned(plain.as_ref(), pass, variant);
                            let what = format!("{} {pass} {} {fusion:?}", entry.name, variant.name);
                            assert_eq!(planned(fused.as_ref(), pass, variant), wanted, "{what}");
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    assert!(compared > 0);
}

/// The plans of a case that the limits allow; within the portable ones all must be.
fn plans(case: &Case, limits: &Limits) -> Vec<(Pass, Plan)> {
    let passes = Pass::ALL.into_iter().filter(|pass| !case.operation.tensors(*pass).is_empty());
    let all = passes.flat_map(|pass| case.operation.variants(pass).into_iter().map(move |variant| (pass, variant)));
    let planned = all.map(|(pass, variant)| (pass, case.operation.plan(pass, &variant, case.problem, limits)));
    let planned = planned.filter(|(_, plan)| !matches!(plan, Err(PlanError::Unsuited { .. })));
    if *limits == Limits::PORTABLE {
        return planned.map(|(pass, plan)| (pass, plan.unwrap())).collect();
    }
    planned.filter_map(|(pass, plan)| Some((pass, plan.ok()?))).collect()
}

fn check(name: &str, dispatch: &Dispatch, limits: &Limits) {
    assert!(dispatch.workgroups.iter().all(|&count| (1..=limits.workgroups_per_dimension).contains(&count)), "{name}");
    assert!(dispatch.bindings.len() <= limits.storage_buffers as usize, "{name}");
    for (i, binding) in dispatch.bindings.iter().enumerate() {
        let bytes = 4 * binding.range.len() as u64;
        assert!(bytes > 0 && bytes <= limits.binding_bytes, "{name}: {} of {bytes} bytes", binding.tensor);
        assert_eq!(binding.range.start % 64, 0, "{name}: {}", binding.tensor);
        // One buffer may be read twice, or written in two places, but not read here and written there.
        let clash = |other: &Binding| {
            let apart = other.range.end <= binding.range.start || binding.range.end <= other.range.start;
            let alike = other.access.writes() == binding.access.writes() && (other.access == Access::Read || apart);
            other.slot == binding.slot || (other.tensor == binding.tensor && !alike)
        };
        assert!(!dispatch.bindings[..i].iter().any(clash), "{name}: {} twice", binding.tensor);
    }
}

/// The bindings of every tensor that the pass overwrites cover it, and none goes beyond.
fn written_in_full(name: &str, case: &Case, pass: Pass, plan: &Plan) {
    for used in case.operation.tensors(pass) {
        let elements = case.operation.elements(used.tensor, case.problem).unwrap();
        let bindings = || plan.dispatches.iter().flat_map(|dispatch| &dispatch.bindings);
        assert!(bindings().all(|b| b.tensor != used.tensor || b.range.end <= elements), "{name}: {}", used.tensor);
        if used.access == Access::Read {
            continue;
        }
        let mut ranges: Vec<_> =
            bindings().filter(|b| b.tensor == used.tensor && b.access.writes()).map(|b| b.range.clone()).collect();
        ranges.sort_by_key(|range| range.start);
        let covered = ranges.iter().fold(0, |end, range| if range.start <= end { end.max(range.end) } else { end });
        assert_eq!(covered, elements, "{name}: {}", used.tensor);
    }
    let workspace = plan.dispatches.iter().flat_map(|d| &d.bindings).filter(|b| b.tensor == Tensor::Workspace);
    assert!(workspace.map(|b| b.range.end).max().unwrap_or(0) <= plan.workspace, "{name}: workspace");
}
