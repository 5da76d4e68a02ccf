//! What every program must keep, whichever executor runs it.

use crate::program::{BufferId, Command, Program, Run, Slice};

/// Finds what is wrong with a program; `elements` gives the size of a buffer that exists.
pub(crate) fn check(program: &Program, elements: &dyn Fn(BufferId) -> Option<usize>) -> Result<(), String> {
    let slice = |what: &str, slice: &Slice| inside(slice, elements).map_err(|error| format!("{what}: {error}"));
    program.uploads.iter().try_for_each(|to| slice("upload", to))?;
    program.downloads.iter().try_for_each(|from| slice("download", from))?;
    for command in &program.commands {
        match command {
            Command::Clear(to) => slice("clear", to)?,
            Command::Copy { from, to } => {
                slice("copy from", from)?;
                slice("copy to", to)?;
                if from.elements != to.elements || from.buffer == to.buffer {
                    return Err("a copy joins two slices of one size in two buffers".into());
                }
            }
            Command::Run(run) => tensors(run, elements)?,
        }
    }
    Ok(())
}

/// Checks one slice against the buffer it is of.
pub(crate) fn inside(slice: &Slice, elements: &dyn Fn(BufferId) -> Option<usize>) -> Result<(), String> {
    let Slice { buffer, start, elements: length } = *slice;
    let Some(size) = elements(buffer) else { return Err(format!("{buffer:?} does not exist")) };
    if start % Slice::ALIGNMENT != 0 {
        return Err(format!("start {start} is not a multiple of {}", Slice::ALIGNMENT));
    }
    match start.checked_add(length) {
        Some(end) if end <= size => Ok(()),
        _ => Err(format!("elements {start}+{length} lie outside of {buffer:?} of {size}")),
    }
}

fn tensors(run: &Run, elements: &dyn Fn(BufferId) -> Option<usize>) -> Result<(), String> {
    let name = format!("{}/{}", run.operation.name(), run.pass);
    for used in run.operation.tensors(run.pass) {
        let Some(slice) = run.slice(used.tensor) else { return Err(format!("{name}: no slice for {}", used.tensor)) };
        inside(slice, elements).map_err(|error| format!("{name}: {}: {error}", used.tensor))?;
        let wanted = run.operation.elements(used.tensor, run.problem).map_err(|error| format!("{name}: {error}"))?;
        if slice.elements < wanted {
            return Err(format!("{name}: {} has {} elements, wanted {wanted}", used.tensor, slice.elements));
        }
    }
    Ok(())
}
