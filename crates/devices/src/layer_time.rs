//! How long the passes of layers take on a device, with the variants that it would use.

use std::sync::Arc;
use std::time::Duration;

use brigade_kernels::{Case, Random, Scalars, Tensor};

use crate::program::{Command, Program, Run, Slice};
use crate::trial::elements;
use crate::verify::random_words;
use crate::watch::{begins, longest_computing};
use crate::{DeviceError, Executor, ProgramId, Purpose, Task};

/// How often tasks are timed, after a first time in which the driver may be compiling.
const TIMES: u64 = 3;

/// How long one submission may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// The time of tasks that follow one another, such as the forward and the backward of a layer: the least of a few, as
/// whatever else the machine does only adds to it. A task reads random numbers, or what an earlier task of the same
/// operation wrote.
///
/// # Errors
/// Where there is no room for an operation's tensors, or the device is lost.
pub fn time_of(executor: &mut dyn Executor, tasks: &[Task]) -> Result<Duration, DeviceError> {
    let of_one_operation = |a: &Task, b: &Task| Arc::ptr_eq(&a.operation, &b.operation) && a.problem == b.problem;
    tasks.chunk_by(of_one_operation).map(|tasks| time_of_operation(executor, tasks)).sum()
}

/// Times passes of one operation in one size, which share their tensors.
fn time_of_operation(executor: &mut dyn Executor, tasks: &[Task]) -> Result<Duration, DeviceError> {
    let mut tensors = Vec::new();
    let timed = fill(executor, tasks, &mut tensors).and_then(|()| time_filled(executor, tasks, &tensors));
    for (_, slice) in tensors {
        executor.release(slice.buffer);
    }
    timed
}

/// Allocates every tensor of the passes, and gives values to those that are read.
fn fill(executor: &mut dyn Executor, tasks: &[Task], tensors: &mut Vec<(Tensor, Slice)>) -> Result<(), DeviceError> {
    let mut random = Random::new(0x71AE);
    for Task { operation, pass, problem } in tasks {
        let case = Case { operation: operation.clone(), problem: *problem, scalars: Scalars::new() };
        for used in operation.tensors(*pass) {
            if tensors.iter().any(|(tensor, _)| *tensor == used.tensor) {
                continue;
            }
            let elements = elements(executor, &case, used.tensor)?;
            let slice = Slice { buffer: executor.allocate(elements, Purpose::Small)?, start: 0, elements };
            tensors.push((used.tensor, slice));
            if used.tensor == Tensor::Scalars {
                executor.write(slice, &case.scalars.to_bytes())?;
            } else if used.access.reads() {
                let words = random_words(&case, used.tensor, elements, &mut random);
                executor.write(slice, bytemuck::cast_slice(&words))?;
            }
        }
    }
    Ok(())
}

fn time_filled(
    executor: &mut dyn Executor,
    tasks: &[Task],
    tensors: &[(Tensor, Slice)],
) -> Result<Duration, DeviceError> {
    let command = |Task { operation, pass, problem }: &Task| {
        let used = operation.tensors(*pass);
        let theirs = tensors.iter().filter(|(tensor, _)| used.iter().any(|used| used.tensor == *tensor));
        Command::Run(Run {
            operation: operation.clone(),
            pass: *pass,
            problem: *problem,
            tensors: theirs.copied().collect(),
        })
    };
    let label = tasks.first().map_or_else(String::new, |task| format!("time of {}", task.operation.name()));
    let flops = |task: &Task| task.operation.work(task.pass, task.problem).unwrap_or_default().flops;
    let flops = tasks.iter().map(flops).sum::<u64>().saturating_mul(1 + TIMES);
    begins(longest_computing(executor.info().kind, flops), || format!("the {label}"));
    let program = Program { label, commands: tasks.iter().map(command).collect(), ..Program::default() };
    let program = executor.prepare(&program, 1)?;
    let timed = least(executor, program);
    executor.forget(program);
    timed
}

fn least(executor: &mut dyn Executor, program: ProgramId) -> Result<Duration, DeviceError> {
    let mut best = Duration::MAX;
    for time in 0..=TIMES {
        let ticket = executor.submit(program, None)?;
        let completion = executor.wait(ticket, PATIENCE)?;
        if time > 0 {
            let on_host = completion.finished - completion.submitted;
            best = best.min(completion.device_time.filter(|time| !time.is_zero()).unwrap_or(on_host));
        }
    }
    Ok(best)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_kernels::{Operation, Pass, Problem, Shape, ops};
    use serde_json::json;

    use super::*;
    use crate::ReferenceExecutor;

    fn layer(name: &str, attributes: &serde_json::Value, passes: &[Pass]) -> Vec<Task> {
        let operation: Arc<dyn Operation> = (ops::find(name).unwrap().from_attributes)(attributes).unwrap().into();
        let problem = Problem { n: 2, input: Shape::new(4, 12, 12) };
        passes.iter().map(|&pass| Task { operation: operation.clone(), pass, problem }).collect()
    }

    #[test]
    fn layers_are_timed_and_leave_nothing_behind() {
        let mut executor = ReferenceExecutor::new();
        let conv = json!({"out_channels": 8, "kernel": 3});
        let all = [Pass::Forward, Pass::BackwardWeight, Pass::BackwardInput];
        let forward = time_of(&mut executor, &layer("conv2d", &conv, &all[..1])).unwrap();
        let whole = time_of(&mut executor, &layer("conv2d", &conv, &all)).unwrap();
        // Three times the work, give or take what the host does besides.
        assert!(forward > Duration::ZERO && whole > forward, "{forward:?} {whole:?}");
        // Its backward reads the places of the maxima, which its forward writes.
        let pool = layer("max_pool2d", &json!({"kernel": 2}), &[Pass::Forward, Pass::BackwardInput]);
        assert!(time_of(&mut executor, &pool).unwrap() > Duration::ZERO);
        assert_eq!(executor.ledger().live_bytes(), 0);
        assert_eq!(time_of(&mut executor, &[]).unwrap(), Duration::ZERO);
    }
}
