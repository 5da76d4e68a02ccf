//! The text of a variant's shaders.

use std::fmt::Write;

use brigade::Failure;
use brigade_kernels::{Dispatch, Kernel, Limits, Pass, Variant};

use super::problems::{Problem, problems};
use crate::output;

/// Prints the shaders of OPERATION/PASS/VARIANT once each, with the dispatches of the first problem that they serve.
pub(super) fn show(wanted: &str, limits: &Limits) -> Result<(), Failure> {
    let problems = problems("")?;
    let mut known = Vec::new();
    for problem in &problems {
        for pass in Pass::ALL {
            for variant in problem.case.operation.variants(pass) {
                if problem.case.operation.tensors(pass).is_empty() {
                    continue;
                }
                let name = format!("{}/{pass}/{}", problem.case.operation.name(), variant.name);
                if name == wanted
                    && let Ok(plan) = problem.case.operation.plan(pass, &variant, problem.case.problem, limits)
                {
                    return print(problem, &variant, &plan.dispatches);
                }
                if !known.contains(&name) {
                    known.push(name);
                }
            }
        }
    }
    Err(Failure::usage(format!("there is no `{wanted}`; there are {}", known.join(", "))))
}

fn print(problem: &Problem, variant: &Variant, dispatches: &[Dispatch]) -> Result<(), Failure> {
    let operation = problem.case.operation.name();
    let mut text = format!("// {operation}/{} {}: {}\n", variant.pass, variant.name, problem.size);
    for Dispatch { kernel, workgroups: [x, y, z], .. } in dispatches {
        let definitions = kernel.definitions.iter().map(|(name, value)| format!(" {name} = {value}"));
        let overrides = kernel.constants.iter().map(|(name, value)| format!(" {name} = {value}"));
        let constants: Vec<_> = definitions.chain(overrides).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "// dispatch {}/{}, {x}×{y}×{z} workgroups{}",
            kernel.shader.name,
            kernel.entry,
            constants.join(",")
        );
    }
    output::line(text.trim_end())?;
    let mut shown = Vec::new();
    for Kernel { shader, definitions, .. } in dispatches.iter().map(|dispatch| &dispatch.kernel) {
        if !shown.contains(&(shader, definitions)) {
            shown.push((shader, definitions));
            let source = shader.source(definitions).map_err(|error| Failure::usage(error.to_string()))?;
            output::line(format!("\n// --- shader {} ---\n{source}", shader.name))?;
        }
    }
    Ok(())
}
