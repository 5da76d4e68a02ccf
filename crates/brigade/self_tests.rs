//! The self-tests of a start: what each device is about to compute with, held against the reference.

use brigade_devices::{DeviceError, Executor, Task, self_test_for};
use brigade_kernels::Entry;
use brigade_kernels::ops::OPERATIONS;

use crate::{Failure, Status};

/// Tests the kernels of each device that its tasks use, all devices at once: on each, compiling takes nearly all of the
/// time. Of several errors the first stage's counts.
pub(crate) fn at_once<'a>(
    stages: impl Iterator<Item = (&'a mut Box<dyn Executor>, &'a Vec<Task>)>,
) -> Result<(), Failure> {
    std::thread::scope(|scope| {
        let start = |(executor, tasks): (&'a mut Box<dyn Executor>, &'a Vec<Task>)| {
            let thread = std::thread::Builder::new().name(format!("self-test of {}", executor.info().name));
            thread.spawn_scoped(scope, move || test(executor.as_mut(), tasks)).map_err(|error| failed(&error))
        };
        let testing: Vec<_> = stages.map(start).collect();
        let tested: Vec<_> =
            testing.into_iter().map(|thread| thread.map(std::thread::ScopedJoinHandle::join)).collect();
        tested.into_iter().try_for_each(|test| Ok(test?.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?))
    })
}

fn test(executor: &mut dyn Executor, tasks: &[Task]) -> Result<(), DeviceError> {
    self_test_for(executor, &operations(tasks), tasks).map(drop)
}

/// The operations that tasks are made of.
fn operations(tasks: &[Task]) -> Vec<&'static Entry> {
    let runs = |entry: &&Entry| tasks.iter().any(|task| task.operation.name() == entry.name);
    OPERATIONS.iter().copied().filter(runs).collect()
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(Status::Internal, format!("no thread for the self-test: {error}"))
}
