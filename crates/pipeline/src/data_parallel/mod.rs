//! Data parallelism over a shared bus: the baseline that the pipeline is measured against.
//!
//! Every worker holds a whole replica of the model on its own device and runs its share of the batch forward and
//! backward. Then it sends all its gradients to the host; the host adds them up in the order of the workers, updates
//! the weights, and every worker receives all of them. In a step the bus carries 2·n·W bytes for n workers and W bytes
//! of parameters. Stages, messages, staging slots and ledgers are the pipeline's own, so that both are counted alike.
//!
//! The gradient is the mean over the samples of all workers, as one device would compute it over the whole batch, up
//! to the order in which it is summed.

mod host;
mod server;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use brigade_devices::{CountingExecutor, Executor, Ledger, Purpose};
use brigade_kernels::Operation;

use crate::batch::{messages, microbatches};
use crate::feeder::panic_message;
use crate::link::{Message, Sender};
use crate::model::{Layer, Sequential};
use crate::pipeline::{check_finite, loss};
use crate::stage::{Stage, StageOptions, Updates};
use crate::staleness::StagePlan;
use crate::{Metrics, NamedTensor, Optimiser, PipelineError, Samples};

use server::Server;
use worker::{Ends, Told, Worker};

/// Pieces that a worker has under way to the host: one being copied to it, one being added up there.
const PIECES_UNDER_WAY: usize = 2;

/// How the replicas run.
#[derive(Debug, Clone, Copy)]
pub struct DataParallelOptions {
    /// Samples of a step over all workers; each takes a share as equal as possible.
    pub batch: usize,
    /// Seed of weights and dropout.
    pub seed: u64,
    /// The optimiser, run on the host.
    pub optimiser: Optimiser,
}

/// What a worker counted since it started.
#[derive(Debug, Clone)]
pub struct WorkerReport {
    /// Which, from 0.
    pub worker: usize,
    /// Bytes of gradients sent to the host.
    pub gradient_bytes: u64,
    /// Bytes of weights received from the host.
    pub weight_bytes: u64,
    /// Most bytes that the device had allocated.
    pub peak_bytes: u64,
    /// Bytes allocated, by purpose.
    pub bytes: Vec<(Purpose, u64)>,
}

/// What all have counted.
#[derive(Debug, Clone)]
pub struct DataParallelReport {
    /// The workers.
    pub workers: Vec<WorkerReport>,
    /// What the host holds, counted where it was allocated: weights, momentum, and the sum of one piece of gradients.
    pub host: Ledger,
}

/// Replicas at work.
pub struct DataParallel {
    workers: Vec<Handle>,
    told: Receiver<Told>,
    server: Server,
    step: usize,
    samples: u64,
}

/// The driver's side of a worker.
struct Handle {
    /// Inputs and labels; closed to end the worker.
    feed: Option<Sender>,
    thread: Option<JoinHandle<()>>,
}

impl DataParallel {
    /// Builds a replica of the whole model on each executor.
    ///
    /// # Errors
    /// Where there are fewer samples than workers, or a replica does not fit its device.
    pub fn start(
        model: &Sequential,
        executors: Vec<Box<dyn Executor>>,
        options: DataParallelOptions,
    ) -> Result<Self, PipelineError> {
        let (batch, count) = (options.batch, executors.len());
        if count == 0 || count > batch {
            return Err(PipelineError::Microbatches { microbatches: count, batch });
        }
        let plan = StagePlan::synchronous();
        let (loss, updates) = (loss()?, Updates::new(options.optimiser, &plan)?);
        let (tell, told) = channel();
        let mut buses = Vec::with_capacity(count);
        let mut workers = Vec::with_capacity(count);
        for (index, executor) in executors.into_iter().enumerate() {
            let share = microbatches(batch, count).first().map_or(0, ExactSizeIterator::len);
            let stage = replica(index, share, options.seed, &loss);
            let mut stage = Stage::new(model, 0..model.layers.len(), executor, &stage)?;
            stage.foresee_replica(share)?;
            let (ends, feed, bus) = Ends::join(stage.pieces().len());
            buses.push(bus);
            workers.push(spawn(Worker::new(stage, ends, tell.clone()), feed)?);
        }
        let server = Server::new(model, options.seed, updates.into_plain(), buses);
        Ok(Self { workers, told, server, step: 0, samples: 0 })
    }

    /// One step over the samples of all workers.
    ///
    /// # Errors
    /// The first error of any worker.
    pub fn train(&mut self, samples: Samples, learning_rate: f32) -> Result<Metrics, PipelineError> {
        let count = self.workers.len();
        let size = samples.labels.len();
        if size < count {
            return Err(PipelineError::Microbatches { microbatches: count, batch: size });
        }
        let shares = messages(samples, count, 0, self.samples);
        for (handle, (input, labels)) in self.workers.iter().zip(shares) {
            handle.feed(input).and_then(|()| handle.feed(labels)).map_err(|()| self.failure())?;
        }
        self.server.step(learning_rate).map_err(|()| self.failure())?;
        let mut metrics = Metrics::default();
        for _ in 0..count {
            match self.told.recv() {
                Ok(Told::Metrics(of_worker)) => metrics.add(of_worker),
                Ok(Told::Failed(error)) => return Err(error),
                Ok(Told::Report(_)) | Err(_) => return Err(PipelineError::Ended),
            }
        }
        self.samples += size as u64;
        self.step += 1;
        check_finite(0, self.step - 1, metrics)?;
        Ok(metrics)
    }

    /// What each worker and the host have counted so far.
    ///
    /// # Errors
    /// Where a worker has ended.
    pub fn report(&mut self) -> Result<DataParallelReport, PipelineError> {
        for handle in &self.workers {
            handle.feed(Message::End { steps: self.step }).map_err(|()| self.failure())?;
        }
        let mut workers = Vec::with_capacity(self.workers.len());
        while workers.len() < self.workers.len() {
            match self.told.recv() {
                Ok(Told::Report(report)) => workers.push(report),
                Ok(Told::Failed(error)) => return Err(error),
                Ok(Told::Metrics(_)) => {}
                Err(_) => return Err(PipelineError::Ended),
            }
        }
        workers.sort_by_key(|report| report.worker);
        Ok(DataParallelReport { workers, host: self.server.ledger() })
    }

    /// Every parameter with its momentum, as the host holds them.
    pub fn parameters(&self) -> Vec<NamedTensor> {
        self.server.parameters()
    }

    /// Why a worker does not listen any more.
    fn failure(&self) -> PipelineError {
        let told = self.told.try_iter().find_map(|told| match told {
            Told::Failed(error) => Some(error),
            Told::Metrics(_) | Told::Report(_) => None,
        });
        told.unwrap_or(PipelineError::Ended)
    }
}

impl Handle {
    fn feed(&self, message: Message) -> Result<(), ()> {
        let feed = self.feed.as_ref().ok_or(())?;
        feed.blocking_send(message).map_err(|_| ())
    }
}

impl Drop for DataParallel {
    fn drop(&mut self) {
        self.server.hang_up();
        for handle in &mut self.workers {
            handle.feed = None;
        }
        for thread in self.workers.iter_mut().filter_map(|handle| handle.thread.take()) {
            // A worker's panic has been told.
            let _ = thread.join();
        }
    }
}

/// The ledger of a replica that takes `samples` samples of each step, on the device that `executor` counts for.
///
/// # Errors
/// Where a replica does not fit the device.
pub(crate) fn foreseen(
    model: &Sequential,
    samples: usize,
    executor: CountingExecutor,
) -> Result<Ledger, PipelineError> {
    let options = replica(0, samples, 0, &loss()?);
    let mut stage = Stage::allocated(model, 0..model.layers.len(), Box::new(executor), &options)?;
    stage.foresee_replica(samples)?;
    Ok(stage.executor().ledger().clone())
}

/// What the ledger of the host that replicas of `model` share will hold.
pub(crate) fn foreseen_host(model: &Sequential) -> Result<Ledger, PipelineError> {
    let named = model.layers.iter().flat_map(Layer::named_parameters);
    let sizes: Result<Vec<usize>, _> = named.map(|(_, parameter)| parameter.elements()).collect();
    Ok(server::planned(&sizes?))
}

/// What a replica is built with besides the whole model.
fn replica(index: usize, samples: usize, seed: u64, loss: &Arc<dyn Operation>) -> StageOptions {
    StageOptions {
        index,
        last: true,
        splits: false,
        sets: 1,
        samples,
        // Of pieces one may be in the channel to the host and one in its hands.
        depths: [PIECES_UNDER_WAY + 1, 1, 1],
        seed,
        loss_scale: 1.0,
        loss: Arc::clone(loss),
        updates: None,
        plan: StagePlan::synchronous(),
    }
}

fn spawn(worker: Worker, feed: Sender) -> Result<Handle, PipelineError> {
    let stage = worker.index();
    let failed = |error: std::io::Error| PipelineError::Panic { stage, message: error.to_string() };
    let body = move || {
        let tell = worker.teller();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| worker.run()));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => PipelineError::Panic { stage, message: panic_message(panic.as_ref()) },
        };
        // Where nobody listens any more the replicas are being dropped.
        let _ = tell.send(Told::Failed(error));
    };
    let thread = std::thread::Builder::new().name(format!("replica-{stage}")).spawn(body).map_err(failed)?;
    Ok(Handle { feed: Some(feed), thread: Some(thread) })
}
