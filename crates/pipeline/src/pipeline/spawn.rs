//! Workers on their threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::PipelineError;
use crate::feeder::panic_message;
use crate::stage::worker::{Event, Order, Worker};

/// A worker at work.
pub(super) struct WorkerHandle {
    /// Where its orders go; nowhere once it is to end.
    pub(super) orders: Option<UnboundedSender<Order>>,
    pub(super) thread: JoinHandle<()>,
}

/// Starts a worker, which tells its error before it ends.
///
/// # Errors
/// Where the system gives no thread.
pub(super) fn spawn(worker: Worker, tell: Sender<Event>) -> Result<WorkerHandle, PipelineError> {
    let stage = worker.stage();
    let (orders, receive) = unbounded_channel();
    let failed = |error: std::io::Error| PipelineError::Panic { stage, message: error.to_string() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(failed)?;
    let body = move || {
        let mut worker = worker;
        let outcome = catch_unwind(AssertUnwindSafe(|| runtime.block_on(worker.run(receive))));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => PipelineError::Panic { stage, message: panic_message(panic.as_ref()) },
        };
        // Told before the worker is dropped: a device that hangs does not let go of it.
        let _ = tell.send(Event::Failed { error });
        worker.disconnect();
        drop(worker);
    };
    let thread = std::thread::Builder::new().name(format!("stage-{stage}")).spawn(body).map_err(failed)?;
    Ok(WorkerHandle { orders: Some(orders), thread })
}
