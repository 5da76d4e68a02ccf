//! The running pipeline: workers on their threads, and the driver that feeds them.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::{ControlFlow, Range};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use brigade_devices::{DeviceError, DeviceInfo, Executor, Task};
use brigade_kernels::{Operation, ops};
use serde_json::json;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::batch::{Batches, microbatches, step_sizes};
use crate::feeder::{Feeder, StepCounter, panic_message, prefer_data_error};
use crate::link::{Feed, join};
use crate::model::Sequential;
use crate::report::StageReport;
use crate::schedule::{Kind, Schedule};
use crate::stage::worker::{Event, Order, Segment, Turns, Worker};
use crate::stage::{Block, Stage, StageOptions, Updates};
use crate::staleness::{StagePlan, StalenessOptions};
use crate::train::LearningRate;
use crate::watchdog::{LOOK, Watchdog};
use crate::{NamedTensor, PipelineError};

/// Steps of samples that wait before the first stage.
const FEED_STEPS: usize = 2;

/// How long the other workers have to say why they ended, once one has.
const GRACE: Duration = Duration::from_secs(5);

/// The optimiser, stochastic gradient descent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimiser {
    /// μ of v ← μ·v + g.
    pub momentum: f32,
    /// λ of g ← g + λ·w.
    pub weight_decay: f32,
    /// Whether the step looks ahead: g + μ·v in place of v.
    pub nesterov: bool,
}

/// How a pipeline runs.
#[derive(Debug, Clone, Copy)]
pub struct PipelineOptions {
    /// The schedule.
    pub schedule: Kind,
    /// Samples of a step.
    pub batch: usize,
    /// Microbatches that a step is cut into.
    pub microbatches: usize,
    /// Seed of weights and dropout.
    pub seed: u64,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// What the loss is multiplied with until the gradients are used, so that small ones survive in `f16`. 1 for
    /// none.
    pub loss_scale: f32,
    /// What is done about staleness, where the schedule never flushes.
    pub staleness: StalenessOptions,
    /// Whether every action is recorded with its times.
    pub record: bool,
    /// Whether what passes between stages carries a checksum, and is sent again where it does not arrive as it left.
    pub link_checksums: bool,
}

/// Loss and right answers over some samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// Samples counted.
    pub samples: usize,
    /// Sum of their losses.
    pub loss_sum: f64,
    /// How many answers were right.
    pub correct: usize,
}

impl Metrics {
    /// Mean loss of a sample.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.samples.max(1) as f64
    }

    /// Fraction of right answers, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    /// From what the loss leaves: the losses of `samples` samples, then for each whether its answer was right.
    pub(crate) fn read(samples: usize, bytes: &[u8]) -> Self {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[..8 * samples]);
        let (losses, correct) = values.split_at(samples);
        let loss_sum = losses.iter().map(|&loss| f64::from(loss)).sum();
        Self { samples, loss_sum, correct: correct.iter().filter(|&&right| right > 0.5).count() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
    }
}

/// A stretch of training: `samples` samples in steps of the batch, the last one smaller where they do not divide.
#[derive(Debug, Clone)]
pub struct Stretch {
    /// Samples in all.
    pub samples: usize,
    /// The run's step that it starts with.
    pub first_step: usize,
    /// Samples that the run had seen before.
    pub first_sample: u64,
    /// Learning rate by step of the run.
    pub learning_rate: LearningRate,
    /// Whether the stretch runs under `1f1b` whatever the schedule, so that nothing is stale.
    pub synchronous: bool,
    /// Steps of the run that end without their update.
    pub left_out: Arc<BTreeSet<usize>>,
}

/// What a stretch of training gave.
#[derive(Debug, Clone)]
pub struct StretchReport {
    /// Steps that were done.
    pub steps: usize,
    /// Loss and right answers of all its samples, each at the weights of its own forward.
    pub metrics: Metrics,
    /// What each stage counted.
    pub stages: Vec<StageReport>,
}

/// Stages at work, joined by links.
pub struct Pipeline {
    schedule: Schedule,
    options: PipelineOptions,
    feed: Feed,
    workers: Vec<WorkerHandle>,
    events: Receiver<Event>,
    devices: Vec<DeviceInfo>,
    ranges: Vec<Range<usize>>,
    /// Elements of one input sample, and number of classes.
    sample: (usize, usize),
    watchdog: RefCell<Watchdog>,
    /// After an error the workers have ended or are about to, and their events say nothing about new orders.
    ended: bool,
    /// A device that does not answer may never let go of its worker: then nobody waits for the threads.
    hangs: bool,
}

struct WorkerHandle {
    orders: Option<UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Pipeline {
    /// Builds a stage for each range of layers on its executor, gives the weights their first values and starts the
    /// workers.
    ///
    /// # Errors
    /// Where the number of microbatches is not possible, or a stage does not fit its device.
    pub fn start(
        model: &Sequential,
        stages: Vec<(Range<usize>, Box<dyn Executor>)>,
        options: PipelineOptions,
    ) -> Result<Self, PipelineError> {
        let PipelineOptions { batch, microbatches, .. } = options;
        let schedule = Schedule::new(options.schedule, stages.len());
        schedule.check()?;
        if microbatches == 0 || microbatches > batch {
            return Err(PipelineError::Microbatches { microbatches, batch });
        }
        options.staleness.corrections.check(options.staleness.weights, options.optimiser.nesterov)?;
        let capacities: Vec<_> = (1..stages.len()).map(|s| schedule.capacity(s - 1, microbatches)).collect();
        let fed = FEED_STEPS * microbatches;
        // Labels wait until the last stage's backward; by then the first stage has run at most `warmup` forwards.
        let (feed, ends) = join(&capacities, fed, fed + schedule.warmup(0, microbatches) + 1);
        let devices = stages.iter().map(|(_, executor)| executor.info().clone()).collect();
        let ranges = stages.iter().map(|(range, _)| range.clone()).collect();
        let (tell, events) = channel();
        let built = build_stages(model, stages, &schedule, &options)?;
        let turns: Vec<_> = (0..schedule.devices()).map(|_| Turns::new()).collect();
        let workers = built
            .into_iter()
            .zip(ends)
            .map(|(stage, ends)| {
                let turns = (schedule.kind.blocks() > 1).then(|| turns[schedule.device(stage.index)].clone());
                let worker = Worker::new(stage, schedule, ends, turns, tell.clone(), options.link_checksums);
                spawn(worker, tell.clone())
            })
            .collect::<Result<_, _>>()?;
        let sample = (model.input.elements()?, model.classes());
        let watchdog = RefCell::new(Watchdog::new(schedule.stages));
        Ok(Self {
            schedule,
            options,
            feed,
            workers,
            events,
            devices,
            ranges,
            sample,
            watchdog,
            ended: false,
            hangs: false,
        })
    }

    /// What each stage will compute over and over in whole microbatches, for tuning before it starts.
    ///
    /// # Errors
    /// Where the optimiser or the weight policy is not possible.
    pub fn tasks(
        model: &Sequential,
        ranges: &[Range<usize>],
        options: &PipelineOptions,
    ) -> Result<Vec<Vec<Task>>, PipelineError> {
        let schedule = Schedule::new(options.schedule, ranges.len());
        let loss = loss()?;
        let whole = microbatches(options.batch, options.microbatches);
        // As equal as possible: there are two sizes at most.
        let mut sizes: Vec<_> = whole.first().into_iter().chain(whole.last()).map(ExactSizeIterator::len).collect();
        sizes.dedup();
        let of_stage = |(stage, range): (usize, &Range<usize>)| {
            let plan = StagePlan::new(&options.staleness, &schedule, stage, options.microbatches)?;
            let block = Block::new(model, range.clone(), &loss, Some(Updates::new(options.optimiser, &plan)?));
            Ok(sizes.iter().flat_map(|&samples| block.tasks(samples)).collect())
        };
        ranges.iter().enumerate().map(of_stage).collect()
    }

    /// The device of each stage.
    pub fn devices(&self) -> &[DeviceInfo] {
        &self.devices
    }

    /// The layers of each stage.
    pub fn ranges(&self) -> &[Range<usize>] {
        &self.ranges
    }

    /// The schedule that runs.
    pub fn schedule(&self) -> Schedule {
        self.schedule
    }

    /// Trains over a stretch of samples; the pipes are empty before and after. `on_step` is told the metrics of each
    /// step as it ends, and may end the stretch early, after the steps that have already been fed.
    ///
    /// # Errors
    /// The first error of any stage or of the data; the pipeline has ended then.
    pub fn train(
        &mut self,
        stretch: &Stretch,
        batches: Batches<'_>,
        on_step: &mut dyn FnMut(usize, Metrics) -> ControlFlow<()>,
    ) -> Result<StretchReport, PipelineError> {
        let sizes = step_sizes(stretch.samples, self.options.batch);
        let segment = Segment {
            steps: sizes.iter().map(|&samples| samples.min(self.options.microbatches)).collect(),
            first_step: stretch.first_step,
            learning_rate: stretch.learning_rate.clone(),
            record: self.options.record,
            synchronous: stretch.synchronous,
            left_out: Arc::clone(&stretch.left_out),
        };
        let steps = segment.steps.clone();
        self.order(&Order::Train(segment))?;
        let mut steps_done = StepCounter::new(sizes.clone());
        let stop = AtomicBool::new(false);
        let feeder = self.feeder(&stop, &sizes, true);
        let (outcome, fed) = std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feeder.run(batches, stretch.first_sample));
            let outcome = self.collect(&steps, &mut |metrics| {
                if let Some((step, metrics)) = steps_done.add(metrics) {
                    check_finite(self.last_stage(), stretch.first_step + step, metrics)?;
                    if on_step(stretch.first_step + step, metrics).is_break() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                Ok(())
            });
            stop.store(true, Ordering::Relaxed);
            (outcome, feeding.join())
        });
        let stages = self.note(prefer_data_error(outcome, fed))?;
        Ok(StretchReport { steps: steps_done.step, metrics: steps_done.total, stages })
    }

    /// Runs samples forward through all stages, dropout off, and counts losses and right answers.
    ///
    /// # Errors
    /// As [`Pipeline::train`].
    pub fn evaluate(&mut self, samples: usize, batches: Batches<'_>) -> Result<Metrics, PipelineError> {
        let sizes = step_sizes(samples, self.options.batch);
        let microbatches = sizes.iter().map(|&samples| samples.min(self.options.microbatches)).sum();
        self.order(&Order::Evaluate { microbatches })?;
        let mut total = Metrics::default();
        let stop = AtomicBool::new(false);
        let feeder = self.feeder(&stop, &sizes, false);
        let (outcome, fed) = std::thread::scope(|scope| {
            let feeding = scope.spawn(|| feeder.run(batches, 0));
            let outcome = self.collect(&[], &mut |metrics| {
                total.add(metrics);
                Ok(())
            });
            (outcome, feeding.join())
        });
        self.note(prefer_data_error(outcome, fed))?;
        Ok(total)
    }

    /// Every parameter with its state, in the order of the layers.
    ///
    /// # Errors
    /// Where a device is lost.
    pub fn parameters(&mut self) -> Result<Vec<NamedTensor>, PipelineError> {
        self.order(&Order::Read)?;
        let outcome = self.gather();
        let by_stage = self.note(outcome)?;
        Ok(by_stage.into_iter().flatten().collect())
    }

    /// The parameters that each stage has read.
    fn gather(&self) -> Result<Vec<Vec<NamedTensor>>, PipelineError> {
        let mut by_stage: Vec<Vec<NamedTensor>> = vec![Vec::new(); self.workers.len()];
        for _ in 0..self.workers.len() {
            match self.events.recv() {
                Ok(Event::Parameters { stage, parameters }) => by_stage[stage] = parameters,
                Ok(Event::Failed { error }) => return Err(self.root_cause(error)),
                Ok(_) => {}
                Err(_) => return Err(PipelineError::Ended),
            }
        }
        Ok(by_stage)
    }

    /// Remembers an error: the pipeline has ended with it.
    fn note<T>(&mut self, outcome: Result<T, PipelineError>) -> Result<T, PipelineError> {
        if let Err(error) = &outcome {
            self.ended = true;
            self.hangs |= matches!(
                error,
                PipelineError::Hang { .. } | PipelineError::Device { source: DeviceError::Timeout { .. }, .. }
            );
        }
        outcome
    }

    fn feeder<'a>(&'a self, stop: &'a AtomicBool, sizes: &'a [usize], early_end: bool) -> Feeder<'a> {
        let (width, classes) = self.sample;
        Feeder { feed: &self.feed, count: self.options.microbatches, stop, sizes, width, classes, early_end }
    }

    /// Overwrites the parameters that `tensors` names, with their state.
    ///
    /// # Errors
    /// Where a device is lost.
    pub fn set_parameters(&mut self, tensors: &[NamedTensor]) -> Result<(), PipelineError> {
        self.order(&Order::Write(tensors.to_vec()))?;
        let outcome = self.collect(&[], &mut |_| Ok(()));
        self.note(outcome).map(|_| ())
    }

    /// Samples of each step over `samples` samples.
    fn order(&self, order: &Order) -> Result<(), PipelineError> {
        if self.ended {
            return Err(PipelineError::Ended);
        }
        for worker in &self.workers {
            // A worker that has ended says so through its event.
            if let Some(orders) = &worker.orders {
                let _ = orders.send(order.clone());
            }
        }
        Ok(())
    }

    /// Listens until every stage is done.
    fn collect(
        &self,
        steps: &[usize],
        on_metrics: &mut dyn FnMut(Metrics) -> Result<(), PipelineError>,
    ) -> Result<Vec<StageReport>, PipelineError> {
        self.watchdog.borrow_mut().start();
        let mut reports: Vec<StageReport> = Vec::with_capacity(self.workers.len());
        while reports.len() < self.workers.len() {
            match self.next_event(steps) {
                Ok(Event::Metrics { samples, loss_sum, correct }) => {
                    on_metrics(Metrics { samples, loss_sum, correct })?;
                }
                Ok(Event::Done(report)) => reports.push(*report),
                Ok(Event::Parameters { .. } | Event::At { .. }) => {}
                Ok(Event::Failed { error }) => return Err(self.root_cause(error)),
                Err(error) => return Err(error),
            }
        }
        reports.sort_by_key(|report| report.stage);
        Ok(reports)
    }

    /// What a worker tells next; where nobody tells anything for too long, the pipeline hangs.
    fn next_event(&self, steps: &[usize]) -> Result<Event, PipelineError> {
        loop {
            let event = self.events.recv_timeout(LOOK);
            let mut watchdog = self.watchdog.borrow_mut();
            match &event {
                Ok(Event::At { stage, action, waiting }) => watchdog.note(*stage, *action, *waiting),
                Ok(_) => watchdog.hear(),
                Err(RecvTimeoutError::Timeout) => {
                    watchdog.check(&self.schedule, steps)?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Err(PipelineError::Ended),
            }
            return event.map_err(|_| PipelineError::Ended);
        }
    }

    /// Which stage computes the loss.
    pub(crate) fn last_stage(&self) -> usize {
        self.ranges.len().saturating_sub(1)
    }

    /// Of the errors that follow one another when a stage ends, the one that began it. What is no number spreads to the
    /// stages before it: there the others are heard as well.
    fn root_cause(&self, mut error: PipelineError) -> PipelineError {
        let mut heard = 1;
        while heard < self.workers.len() && (precedence(&error) > BEGAN_IT) {
            match self.events.recv_timeout(GRACE) {
                Ok(Event::Failed { error: other }) => {
                    heard += 1;
                    if precedence(&other) < precedence(&error) {
                        error = other;
                    }
                }
                Ok(Event::Done(_)) => heard += 1,
                Ok(_) => {}
                Err(_) => break,
            }
        }
        error
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let (inputs, labels) = (tokio::sync::mpsc::channel(1).0, tokio::sync::mpsc::channel(1).0);
        self.feed = Feed { inputs, labels };
        for worker in &mut self.workers {
            worker.orders = None;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take().filter(|_| !self.hangs) {
                // A worker's panic has been told as an event.
                let _ = thread.join();
            }
        }
    }
}

/// The loss, which every model has besides its layers.
pub(crate) fn loss() -> Result<Arc<dyn Operation>, PipelineError> {
    operation("softmax_cross_entropy", &json!({}))
}

/// An operation of the list.
pub(crate) fn operation(name: &str, attributes: &serde_json::Value) -> Result<Arc<dyn Operation>, PipelineError> {
    let entry = ops::find(name).ok_or_else(|| PipelineError::Parameters(format!("there is no operation {name}")))?;
    let made = (entry.from_attributes)(attributes).map(Arc::from);
    made.map_err(|error| PipelineError::Parameters(error.to_string()))
}

fn build_stages(
    model: &Sequential,
    stages: Vec<(Range<usize>, Box<dyn Executor>)>,
    schedule: &Schedule,
    options: &PipelineOptions,
) -> Result<Vec<Stage>, PipelineError> {
    let loss = loss()?;
    let built = stages.into_iter().enumerate().map(|(index, (range, executor))| {
        let stage = stage_options(index, schedule, options, &loss)?;
        Stage::new(model, range, executor, &stage)
    });
    built.collect()
}

/// What a stage is built with besides its layers.
pub(crate) fn stage_options(
    index: usize,
    schedule: &Schedule,
    options: &PipelineOptions,
    loss: &Arc<dyn Operation>,
) -> Result<StageOptions, PipelineError> {
    let PipelineOptions { batch, microbatches: count, seed, loss_scale, .. } = *options;
    let capacity = |link: usize| if link + 1 < schedule.stages { schedule.capacity(link, count) } else { 0 };
    // Those in the link, one that the receiver is copying, and one being computed. Where none is free the worker sends on
    // what it has in flight before it computes more, and then one is.
    let depth = |link: Option<usize>| link.map_or(0, capacity) + 2;
    let plan = StagePlan::new(&options.staleness, schedule, index, count)?;
    Ok(StageOptions {
        index,
        last: index + 1 == schedule.stages,
        sets: schedule.activation_sets(index, count),
        splits: schedule.kind.splits(),
        samples: microbatches(batch, count).first().map_or(0, ExactSizeIterator::len),
        depths: [2, depth(Some(index)), depth(index.checked_sub(1))],
        seed,
        loss_scale,
        loss: Arc::clone(loss),
        updates: Some(Updates::new(options.optimiser, &plan)?),
        plan,
    })
}

fn spawn(worker: Worker, tell: std::sync::mpsc::Sender<Event>) -> Result<WorkerHandle, PipelineError> {
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
    Ok(WorkerHandle { orders: Some(orders), thread: Some(thread) })
}

/// The precedence of an error that cannot follow from another stage's.
const BEGAN_IT: (u8, usize, Reverse<usize>) = (0, 0, Reverse(0));

/// Lower for what is more likely to have begun it: what is no number appears at the earliest step, and there at the
/// latest stage, as gradients flow from there.
fn precedence(error: &PipelineError) -> (u8, usize, Reverse<usize>) {
    match error {
        PipelineError::NotFinite { step, stage, .. } => (1, *step, Reverse(*stage)),
        PipelineError::Disconnected { .. } => (2, 0, Reverse(0)),
        _ => BEGAN_IT,
    }
}

/// Whether the loss of a step, which `stage` computed, is a number.
pub(crate) fn check_finite(stage: usize, step: usize, metrics: Metrics) -> Result<(), PipelineError> {
    let value = metrics.loss();
    if value.is_finite() {
        return Ok(());
    }
    Err(PipelineError::NotFinite { stage, step, tensor: "the loss".to_owned(), value })
}
