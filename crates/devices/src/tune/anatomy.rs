//! What an entry point is made of, read off the shader by naga.

use std::collections::HashMap;

use brigade_kernels::Kernel;
use wgpu::naga::front::wgsl;
use wgpu::naga::valid::{Capabilities, GlobalUse, ModuleInfo, ValidationFlags, Validator};
use wgpu::naga::{AddressSpace, EntryPoint, Expression, Handle, Literal, Module};

use crate::sources::{Place, place, source};

/// What the cost model asks of an entry point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anatomy {
    /// Invocations of one workgroup.
    pub(super) invocations: u32,
    /// Whether invocations exchange values through workgroup memory.
    pub(super) shares: bool,
}

impl Anatomy {
    /// Of what cannot be parsed; its compilation will say why.
    const UNKNOWN: Self = Self { invocations: 256, shares: false };
}

/// The modules seen so far, each parsed once.
#[derive(Default)]
pub(super) struct Atlas(HashMap<Place, Option<(Module, ModuleInfo)>>);

impl Atlas {
    /// The anatomy of a kernel's entry point.
    pub(super) fn anatomy(&mut self, kernel: &Kernel) -> Anatomy {
        let module = self.0.entry(place(kernel.shader, &kernel.definitions)).or_insert_with(|| parse(kernel));
        module.as_ref().and_then(|(module, info)| examine(module, info, kernel)).unwrap_or(Anatomy::UNKNOWN)
    }
}

fn parse(kernel: &Kernel) -> Option<(Module, ModuleInfo)> {
    let module = wgsl::parse_str(&source(kernel.shader, &kernel.definitions).ok()?).ok()?;
    let info = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module).ok()?;
    Some((module, info))
}

fn examine(module: &Module, info: &ModuleInfo, kernel: &Kernel) -> Option<Anatomy> {
    let index = module.entry_points.iter().position(|point| point.name == kernel.entry)?;
    let used = info.get_entry_point(index);
    let shares = module
        .global_variables
        .iter()
        .any(|(handle, variable)| variable.space == AddressSpace::WorkGroup && used[handle] != GlobalUse::empty());
    Some(Anatomy { invocations: workgroup_size(module, &module.entry_points[index], kernel), shares })
}

/// The product of the sides, `override` constants put in.
fn workgroup_size(module: &Module, point: &EntryPoint, kernel: &Kernel) -> u32 {
    let overridden = point.workgroup_size_overrides.unwrap_or_default();
    let sides = point.workgroup_size.iter().zip(overridden);
    let side = |(&size, by): (&u32, Option<Handle<Expression>>)| {
        by.map_or(Some(size), |expression| constant(module, expression, kernel)).unwrap_or(size)
    };
    sides.map(side).product::<u32>().max(1)
}

fn constant(module: &Module, expression: Handle<Expression>, kernel: &Kernel) -> Option<u32> {
    match module.global_expressions[expression] {
        Expression::Literal(Literal::U32(value)) => Some(value),
        Expression::Override(handle) => {
            let declared = &module.overrides[handle];
            let given = kernel.constants.iter().find(|(name, _)| declared.name.as_deref() == Some(*name));
            match given {
                Some(&(_, value)) => Some(value as u32),
                None => constant(module, declared.init?, kernel),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_kernels::{Shader, UniformLayout};

    use super::*;

    static SHADER: Shader = Shader {
        name: "test",
        parts: &["
override lanes: u32 = 32u;
var<workgroup> shared_values: array<f32, 64>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(lanes, 2)
fn forward(@builtin(local_invocation_index) lane: u32) { shared_values[lane] = 1.0; y[lane] = shared_values[0]; }
@compute @workgroup_size(64)
fn other(@builtin(local_invocation_index) lane: u32) { y[lane] = 1.0; }
"],
        uniform: UniformLayout { name: "Params", fields: &[] },
    };

    #[test]
    fn sizes_and_workgroup_memory_are_those_of_the_entry_point() {
        let mut atlas = Atlas::default();
        let mut of =
            |entry, constants| atlas.anatomy(&Kernel { shader: &SHADER, entry, definitions: Vec::new(), constants });
        assert_eq!(of("forward", vec![]), Anatomy { invocations: 64, shares: true });
        assert_eq!(of("forward", vec![("lanes", 8.0)]), Anatomy { invocations: 16, shares: true });
        assert_eq!(of("other", vec![]), Anatomy { invocations: 64, shares: false });
        assert_eq!(of("missing", vec![]), Anatomy::UNKNOWN);
    }
}
