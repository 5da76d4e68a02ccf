//! Every shader passes naga's validator, and its bindings, uniform layout and workgroup size agree with the plans
//! that the Rust side makes. Needs no GPU.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use brigade_kernels::ceiling;
use brigade_kernels::ops::OPERATIONS;
use brigade_kernels::{Access, Dispatch, Entry, Kernel, Limits, Pass, PlanError, Random, Shader};
use naga::back::spv;
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

/// A text and what it is expanded with.
type Module = (&'static Shader, Vec<(&'static str, u32)>);

/// The modules of an operation's variants, by what the plans of [`dispatches`] use of them.
fn used(entry: &Entry) -> Vec<(Module, Vec<Dispatch>)> {
    let mut modules: Vec<(Module, Vec<Dispatch>)> = Vec::new();
    for dispatch in dispatches(entry) {
        let module = (dispatch.kernel.shader, dispatch.kernel.definitions.clone());
        match modules.iter_mut().find(|(known, _)| *known == module) {
            Some((_, dispatches)) => dispatches.push(dispatch),
            None => modules.push((module, vec![dispatch])),
        }
    }
    modules
}

#[test]
fn every_shader_is_valid_and_declares_its_uniform_as_rust_does() {
    let used = OPERATIONS.iter().flat_map(|entry| used(entry)).map(|(module, _)| module);
    let ceilings = ceiling::SHADERS.iter().map(|&shader| (shader, Vec::new()));
    for (shader, definitions) in used.chain(ceilings) {
        let (module, _) = checked(shader, &definitions);
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
    for ((shader, definitions), dispatches) in OPERATIONS.iter().flat_map(|entry| used(entry)) {
        let name = format!("{} {definitions:?}", shader.name);
        let (module, info) = checked(shader, &definitions);
        for dispatch in &dispatches {
            let entry = dispatch.kernel.entry;
            let index = module.entry_points.iter().position(|point| point.name == entry);
            let index = index.unwrap_or_else(|| panic!("{name} has no entry point {entry}"));
            assert_eq!(storage_used(&module, info.get_entry_point(index)), bound(dispatch), "{name} {entry}");
            let size = module.entry_points[index].workgroup_size;
            assert!(size.iter().product::<u32>() <= Limits::PORTABLE.invocations, "{name}: {size:?}");
            for (constant, _) in &dispatch.kernel.constants {
                let declared = module.overrides.iter().any(|(_, o)| o.name.as_deref() == Some(constant));
                assert!(declared, "{name} has no override {constant}");
            }
        }
        let planned: BTreeSet<_> = dispatches.iter().map(|dispatch| dispatch.kernel.entry).collect();
        let declared: BTreeSet<_> = module.entry_points.iter().map(|point| point.name.as_str()).collect();
        // Variants of a family share a text, of which each uses a part; the family uses all of it.
        assert!(planned.is_subset(&declared) && !planned.is_empty(), "{name}: {planned:?} of {declared:?}");
    }
}

/// No test adapter has cooperative matrices: at least they must reach a driver.
#[test]
fn cooperative_matrices_are_written_as_spirv() {
    let mut written = 0;
    for ((shader, definitions), dispatches) in OPERATIONS.iter().flat_map(|entry| used(entry)) {
        if !definitions.contains(&("COOPERATIVE", 1)) {
            continue;
        }
        let (module, info) = checked(shader, &definitions);
        let options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        for dispatch in dispatches {
            let entry = dispatch.kernel.entry.to_owned();
            let constants = dispatch.kernel.constants.iter().map(|&(name, value)| (name.to_owned(), value)).collect();
            let stage = naga::ShaderStage::Compute;
            let (module, info) = naga::back::pipeline_constants::process_overrides(
                &module,
                &info,
                Some((stage, entry.as_str())),
                &constants,
            )
            .unwrap();
            let pipeline = spv::PipelineOptions { shader_stage: stage, entry_point: entry };
            let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).unwrap();
            assert!(!words.is_empty());
            written += 1;
        }
    }
    assert!(written > 0);
}

#[test]
fn no_entry_point_is_left_without_a_plan() {
    for entry in OPERATIONS {
        let mut planned: BTreeMap<&[&str], BTreeSet<String>> = BTreeMap::new();
        let mut declared = planned.clone();
        for ((shader, definitions), dispatches) in used(entry) {
            let (module, _) = checked(shader, &definitions);
            planned.entry(shader.parts).or_default().extend(dispatches.iter().map(|d| d.kernel.entry.to_owned()));
            declared.entry(shader.parts).or_default().extend(module.entry_points.iter().map(|e| e.name.clone()));
        }
        for (parts, declared) in declared {
            let own: BTreeSet<_> = planned
                .iter()
                .filter(|(other, _)| other.last() == parts.last())
                .flat_map(|(_, names)| names.clone())
                .collect();
            assert_eq!(own, declared, "{}: entry points that no plan uses", entry.name);
        }
    }
}

/// The dispatches of every pass and variant, over enough random cases to reach every branch of the plans.
fn dispatches(entry: &Entry) -> Vec<Dispatch> {
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
    let mut label = |d: &Dispatch| {
        let Kernel { shader, entry, definitions, constants } = &d.kernel;
        seen.insert(format!("{:p} {entry} {definitions:?} {constants:?} {:?}", *shader, bound(d)))
    };
    found.retain(|dispatch| label(dispatch));
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
