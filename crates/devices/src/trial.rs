//! One pass of one case on an executor, with data given.

use std::collections::BTreeMap;
use std::time::Duration;

use brigade_kernels::{Access, Case, Operation, Pass, Tensor, Use, Variant};

use crate::program::{BufferId, Command, Program, Run, Slice};
use crate::watch::{begins, longest_computing};
use crate::{DeviceError, Executor, Kind, Purpose};

/// Elements of tensors as they lie in buffers: bits of `f32`, or `u32`.
pub type Words = BTreeMap<Tensor, Vec<u32>>;

/// A quiet NaN. Outputs start from it, and it stands before and after each.
const POISON: u32 = 0x7FC0_1234;

/// How long the device may take for a single pass of a small case.
const PATIENCE: Duration = Duration::from_secs(60);

/// What one variant of one pass gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// The pass.
    pub pass: Pass,
    /// The variant.
    pub variant: &'static str,
    /// Every tensor that the pass writes.
    pub outputs: Words,
}

/// Runs the passes of a case on given tensors, each pass with every variant that the executor can run.
///
/// A pass is run where all that it reads is given, or was written by an earlier pass (of which the first variant's
/// result is taken); accumulated gradients start from zero where they are not given. Scalars come from the case.
///
/// # Errors
/// Where the executor fails, or a tensor has the wrong number of elements.
pub fn run_case(executor: &mut dyn Executor, case: &Case, given: &Words) -> Result<Vec<Outcome>, DeviceError> {
    let mut known = given.clone();
    let mut outcomes = Vec::new();
    for pass in Pass::ALL {
        let uses = case.operation.tensors(pass);
        for used in uses.iter().filter(|used| used.access == Access::ReadWrite) {
            if matches!(used.tensor, Tensor::Dw | Tensor::Db) && !known.contains_key(&used.tensor) {
                known.insert(used.tensor, vec![0; elements(executor, case, used.tensor)?]);
            }
        }
        let missing =
            |used: &Use| used.access.reads() && used.tensor != Tensor::Scalars && !known.contains_key(&used.tensor);
        if uses.is_empty() || uses.iter().any(missing) {
            continue;
        }
        let mut first = None;
        for variant in variants(executor, case, pass) {
            let outputs = run_pass(executor, case, pass, variant, &known)?;
            first.get_or_insert_with(|| outputs.clone());
            outcomes.push(Outcome { pass, variant, outputs });
        }
        known.extend(first.unwrap_or_default());
    }
    Ok(outcomes)
}

/// The variants of a pass that the executor can run in this size and that are not excluded.
pub(crate) fn variants(executor: &dyn Executor, case: &Case, pass: Pass) -> Vec<&'static str> {
    if case.operation.tensors(pass).is_empty() {
        return Vec::new();
    }
    if executor.info().kind == Kind::Reference {
        return vec!["reference"];
    }
    let limits = &executor.info().limits;
    let fits = |variant: &Variant| case.operation.plan(pass, variant, case.problem, limits).is_ok();
    let eligible = executor.selection().eligible(case.operation.as_ref(), pass, case.problem, limits);
    eligible.iter().filter(|variant| fits(variant)).map(|variant| variant.name).collect()
}

pub(crate) fn elements(executor: &dyn Executor, case: &Case, tensor: Tensor) -> Result<usize, DeviceError> {
    let elements = case.operation.elements(tensor, case.problem);
    elements.map_err(|error| wrong(executor, case.operation.as_ref(), &error.to_string()))
}

fn wrong(executor: &dyn Executor, operation: &dyn Operation, message: &str) -> DeviceError {
    let (device, program) = (executor.info().name.clone(), format!("case of {}", operation.name()));
    DeviceError::Program { device, program, message: message.to_owned() }
}

/// Runs one pass with one variant. Outputs start as NaN; where anything was written beside an output, its first
/// element is given as NaN, which no comparison lets through.
pub(crate) fn run_pass(
    executor: &mut dyn Executor,
    case: &Case,
    pass: Pass,
    variant: &'static str,
    given: &Words,
) -> Result<Words, DeviceError> {
    let name = case.operation.name();
    let work = case.operation.work(pass, case.problem).unwrap_or_default();
    begins(longest_computing(executor.info().kind, work.flops), || format!("kernel {name}/{pass} {variant}"));
    let mut buffers = Vec::new();
    let before = executor.selection_mut().prefer(name, pass, Some(variant));
    let result = run_once(executor, case, pass, given, &mut buffers);
    executor.selection_mut().prefer(name, pass, before);
    for buffer in buffers {
        executor.release(buffer);
    }
    result
}

fn run_once(
    executor: &mut dyn Executor,
    case: &Case,
    pass: Pass,
    given: &Words,
    buffers: &mut Vec<BufferId>,
) -> Result<Words, DeviceError> {
    let mut tensors = Vec::new();
    let mut written = Vec::new();
    for used in case.operation.tensors(pass) {
        let elements = elements(executor, case, used.tensor)?;
        let words = initial(executor, case, used, elements, given)?;
        let buffer = executor.allocate(words.len(), Purpose::Small)?;
        buffers.push(buffer);
        let whole = Slice { buffer, start: 0, elements: words.len() };
        executor.write(whole, bytemuck::cast_slice(&words))?;
        tensors.push((used.tensor, Slice { buffer, start: Slice::ALIGNMENT, elements }));
        if used.access.writes() {
            written.push((used.tensor, elements, whole));
        }
    }
    let run = Run { operation: case.operation.clone(), pass, problem: case.problem, tensors };
    let program = Program {
        lane: 0,
        label: format!("self-test of {}/{pass}", case.operation.name()),
        uploads: Vec::new(),
        commands: vec![Command::Run(run)],
        downloads: written.iter().map(|&(_, _, whole)| whole).collect(),
    };
    let id = executor.prepare(&program, 1)?;
    let completion = executor.submit(id, None).and_then(|ticket| executor.wait(ticket, PATIENCE));
    executor.forget(id);
    let bytes = completion?.download.map(|download| download.to_vec()).unwrap_or_default();
    let mut words = bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned::<u32>);
    Ok(written
        .into_iter()
        .map(|(tensor, elements, whole)| (tensor, inner(words.by_ref().take(whole.elements).collect(), elements)))
        .collect())
}

/// The content of a buffer before the pass: poison, the tensor, poison.
fn initial(
    executor: &dyn Executor,
    case: &Case,
    used: Use,
    elements: usize,
    given: &Words,
) -> Result<Vec<u32>, DeviceError> {
    if used.tensor == Tensor::Scalars {
        return Ok(poisoned(elements, bytemuck::cast_slice(&case.scalars.to_bytes())));
    }
    if !used.access.reads() {
        return Ok(poisoned(elements, &[]));
    }
    let found = given.get(&used.tensor).map(Vec::as_slice).unwrap_or_default();
    if found.len() != elements {
        let message = format!("{} has {} elements, wanted {elements}", used.tensor, found.len());
        return Err(wrong(executor, case.operation.as_ref(), &message));
    }
    Ok(poisoned(elements, found))
}

/// A buffer for `elements` elements with poison before and after; the elements themselves are poison where nothing is
/// given.
pub(crate) fn poisoned(elements: usize, given: &[u32]) -> Vec<u32> {
    let mut words = vec![POISON; Slice::ALIGNMENT + elements.next_multiple_of(Slice::ALIGNMENT) + Slice::ALIGNMENT];
    words[Slice::ALIGNMENT..Slice::ALIGNMENT + given.len()].copy_from_slice(given);
    words
}

/// The tensor between the poison; its first element is NaN where the poison was written over.
pub(crate) fn inner(mut words: Vec<u32>, elements: usize) -> Vec<u32> {
    let end = Slice::ALIGNMENT + elements;
    let intact = words[..Slice::ALIGNMENT].iter().chain(&words[end..]).all(|&word| word == POISON);
    words.truncate(end);
    let mut words = words.split_off(Slice::ALIGNMENT);
    if let (false, Some(first)) = (intact, words.first_mut()) {
        *first = POISON;
    }
    words
}
