//! Every shader passes naga's validator, and its bindings, uniform layout and workgroup size agree with the plans
//! that the Rust side makes. Needs no GPU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use brigade_kernels::ceiling;
use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{Access, Dispatch, Limits, Pass, PlanError, Random, Shader};
use naga::valid::{Capabilities, GlobalUse, ValidationFlags, Validator};

fn checked(shader: &Shader, definitions: &[(&'static str, u32)]) -> (naga::Module, naga::valid::ModuleInfo) {
    let source = shader.source(definitions).unwrap();
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{}: {}", shader.name, error.emit_to_string(&source)));
    let info = Validator::new(ValidationFlags::all(), Capabilities::all())
        .validate(&module)
        .unwrap_or_else(|error| panic!("{}: {}", shader.name, error.emit_to_string(&source)));
    (module, info)
}

#[test]
fn every_shader_is_valid_and_declares_its_uniform_as_rust_does() {
    for shader in OPERATIONS.iter().map(|entry| entry.shader).chain(ceiling::SHADERS.iter().copied()) {
        let (module, _) = checked(shader, &[]);
        let layout = &shader.uniform;
        let (_, declared) = module.types.iter().find(|(_, t)| t.name.as_deref() == Some(layout.name)).unwrap();
        let naga::TypeInner::Struct { members, span } = &declared.inner else { panic!("{} is no struct", layout.name) };
        let found: Vec<_> = members
            .iter()
            .map(|member| (member.name.clone().unwrap(), type_name(&module, member.ty), member.offset))
            .collect();
        let wanted: Vec<_> =
            (0u32..).zip(layout.fields).map(|(i, (name, ty))| ((*name).to_owned(), (*ty).to_owned(), 4 * i)).collect();
        assert_eq!(found, wanted, "{}", shader.name);
        assert_eq!(*span as usize, 4 * layout.fields.len(), "{}", shader.name);
    }
}

fn type_name(module: &naga::Module, handle: naga::Handle<naga::Type>) -> String {
    match module.types[handle].inner {
        naga::TypeInner::Scalar(naga::Scalar::U32) => "u32".into(),
        naga::TypeInner::Scalar(naga::Scalar::I32) => "i32".into(),
        naga::TypeInner::Scalar(naga::Scalar::F32) => "f32".into(),
        ref other => format!("{other:?}"),
    }
}

#[test]
fn every_dispatch_binds_what_its_entry_point_uses() {
    for entry in OPERATIONS {
        // Of all modules together: families have one each, and some share entry points that only one uses.
        let mut planned_entries = BTreeSet::new();
        let mut declared_entries = BTreeSet::new();
        for dispatch in dispatches(entry) {
            let (module, info) = checked(dispatch.kernel.shader, &dispatch.kernel.definitions);
            let index = module
                .entry_points
                .iter()
                .position(|point| point.name == dispatch.kernel.entry)
                .unwrap_or_else(|| panic!("{} has no entry point {}", entry.name, dispatch.kernel.entry));
            planned_entries.insert(dispatch.kernel.entry.to_owned());
            declared_entries.extend(module.entry_points.iter().map(|point| point.name.clone()));
            assert_eq!(
                storage_used(&module, info.get_entry_point(index)),
                bound(&dispatch),
                "{} {}",
                entry.name,
                dispatch.kernel.entry
            );
            let size = module.entry_points[index].workgroup_size;
            assert!(size.iter().product::<u32>() <= Limits::PORTABLE.invocations, "{}: {size:?}", entry.name);
            for (name, _) in &dispatch.kernel.constants {
                assert!(
                    module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(name)),
                    "{} has no override {name}",
                    entry.name
                );
            }
        }
        assert_eq!(planned_entries, declared_entries, "{}: entry points that no plan uses", entry.name);
    }
}

#[test]
fn every_ceiling_binds_what_its_entry_point_uses() {
    for case in [ceiling::multiply_add(100, 2), ceiling::copy(100)] {
        let variant = &case.operation.variants(Pass::Forward)[0];
        let plan = case.operation.plan(Pass::Forward, variant, case.problem, &Limits::PORTABLE).unwrap();
        let (module, info) = checked(plan.dispatches[0].kernel.shader, &[]);
        assert_eq!(module.entry_points.len(), 1);
        assert_eq!(storage_used(&module, info.get_entry_point(0)), bound(&plan.dispatches[0]));
    }
}

/// The dispatches of every pass and variant, over enough random cases to reach every branch of the plans.
fn dispatches(entry: &brigade_kernels::Entry) -> Vec<Dispatch> {
    let mut random = Random::new(7);
    let mut found = Vec::new();
    for _ in 0..40 {
        let case = (entry.generate)(&mut random);
        for pass in Pass::ALL {
            if case.operation.tensors(pass).is_empty() {
                continue;
            }
            for variant in case.operation.variants(pass) {
                match case.operation.plan(pass, &variant, case.problem, &Limits::PORTABLE) {
                    Ok(plan) => found.extend(plan.dispatches),
                    Err(PlanError::Unsuited { .. }) => {}
                    Err(error) => panic!("{} {}: {error}", entry.name, variant.name),
                }
            }
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|d: &Dispatch| {
        seen.insert(format!("{:?} {:?} {:?} {:?}", d.kernel.entry, d.kernel.definitions, d.kernel.constants, bound(d)))
    });
    found
}

/// Binding number → whether it is writable, of the storage buffers that the entry point touches.
fn storage_used(module: &naga::Module, info: &naga::valid::FunctionInfo) -> BTreeMap<u32, bool> {
    module
        .global_variables
        .iter()
        .filter(|(handle, _)| info[*handle] != GlobalUse::empty())
        .filter_map(|(_, variable)| match variable.space {
            naga::AddressSpace::Storage { access } => {
                let binding = variable.binding.as_ref()?;
                assert_eq!(binding.group, 0);
                Some((binding.binding, access.contains(naga::StorageAccess::STORE)))
            }
            _ => None,
        })
        .collect()
}

fn bound(dispatch: &Dispatch) -> BTreeMap<u32, bool> {
    dispatch.bindings.iter().map(|b| (b.slot, b.access != Access::Read)).collect()
}
