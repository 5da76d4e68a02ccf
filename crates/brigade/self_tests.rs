//! The self-tests of a start: what each device is about to compute with, held against the reference.

use std::io::Error;
use std::panic::resume_unwind;

use brigade_devices::{DeviceError, Executor, Task, Watched, longest_transfer, self_test_for};
use brigade_kernels::Entry;
use brigade_kernels::ops::OPERATIONS;

use crate::{Failure, Status};

/// A device with what it is going to compute.
pub(crate) type Tested = (Box<dyn Executor>, Vec<Task>);

/// What a self-test gives: the device again.
type Outcome = Result<Box<dyn Executor>, DeviceError>;

/// Tests the kernels of each device that its tasks use, all devices at once: on each, compiling takes nearly all of the
/// time. Of several errors the first stage's counts. A device that hangs is left alone, when all others are done.
pub(crate) fn at_once(stages: Vec<Tested>) -> Result<Vec<Box<dyn Executor>>, Failure> {
    let testing: Vec<_> = stages.into_iter().map(start).collect();
    let tested: Vec<_> = testing.into_iter().map(|watched| watched.map(Watched::join)).collect();
    let outcome = |tested: Result<Result<std::thread::Result<Outcome>, DeviceError>, Error>| {
        let tested = tested.map_err(|error| failed(&error))??;
        Ok(tested.unwrap_or_else(|panic| resume_unwind(panic))?)
    };
    tested.into_iter().map(outcome).collect()
}

fn start((executor, tasks): Tested) -> Result<Watched<Outcome>, Error> {
    let device = executor.info().name.clone();
    let thread = format!("self-test of {device}");
    Watched::start(thread, &device, "the self-test", longest_transfer(0), move || test(executor, &tasks))
}

fn test(mut executor: Box<dyn Executor>, tasks: &[Task]) -> Outcome {
    self_test_for(executor.as_mut(), &operations(tasks), tasks)?;
    Ok(executor)
}

/// The operations that tasks are made of.
fn operations(tasks: &[Task]) -> Vec<&'static Entry> {
    let runs = |entry: &&Entry| tasks.iter().any(|task| task.operation.name() == entry.name);
    OPERATIONS.iter().copied().filter(runs).collect()
}

fn failed(error: &Error) -> Failure {
    Failure::new(Status::Internal, format!("no thread for the self-test: {error}"))
}
