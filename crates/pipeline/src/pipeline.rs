//! The running pipeline: workers on their threads, and the driver that feeds them.

mod build;
mod metrics;
mod options;
mod root_cause;
mod spawn;
mod stretch;

use std::cell::RefCell;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use brigade_devices::{DeviceError, DeviceInfo, Executor, Task};

use crate::batch::{Batches, step_sizes};
use crate::feeder::{Feeder, StepCounter};
use crate::link::{Feed, join};
use crate::model::Sequential;
use crate::report::StageReport;
use crate::schedule::Schedule;
use crate::stage::worker::{Event, Order, Segment, Turns, Worker};
use crate::watchdog::{Doing, LOOK, Patience, Watchdog};
use crate::{NamedTensor, PipelineError};
use build::build_stages;
pub(crate) use build::{loss, operation, stage_options};
pub use metrics::Metrics;
pub(crate) use metrics::check_finite;
pub use options::{Optimiser, PipelineOptions};
use root_cause::root_cause;
use spawn::{WorkerHandle, spawn};
pub use stretch::{Stretch, StretchReport, Walked};

/// Steps of samples that wait before the first stage.
const FEED_STEPS: usize = 2;

/// Stages at work, joined by links.
pub struct Pipeline {
    schedule: Schedule,
    options: PipelineOptions,
    feed: Feed,
    workers: Vec<WorkerHandle>,
    events: Receiver<Event>,
    /// The other end of `events`, for what is no worker.
    tell: Sender<Event>,
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
        let (schedule, microbatches) = (options.checked(stages.len())?, options.microbatches);
        let capacities: Vec<_> = (1..stages.len()).map(|s| schedule.capacity(s - 1, microbatches)).collect();
        let fed = FEED_STEPS * microbatches;
        // Labels wait until the last stage's backward; by then the first stage has run at most `warmup` forwards.
        let (feed, ends) = join(&capacities, fed, fed + schedule.warmup(0, microbatches) + 1);
        let devices: Vec<_> = stages.iter().map(|(_, executor)| executor.info().clone()).collect();
        let ranges: Vec<_> = stages.iter().map(|(range, _)| range.clone()).collect();
        let placed: Vec<_> = ranges.iter().cloned().zip(devices.iter().cloned()).collect();
        let patience = Patience::of(model, &placed, options.batch.div_ceil(microbatches))?;
        let (tell, events) = channel();
        let built = build_stages(model, stages, &schedule, &options, patience)?;
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
        let watchdog = RefCell::new(Watchdog::new(schedule.stages, patience, Instant::now()));
        Ok(Self {
            schedule,
            options,
            feed,
            workers,
            events,
            tell,
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
        build::tasks(model, ranges, options)
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
        let schedule = if stretch.synchronous { self.schedule.finish() } else { self.schedule };
        let mut walked = Walked { schedule, steps: segment.steps.clone() };
        self.order(&Order::Train(segment))?;
        let (mut steps_done, mut total) = (StepCounter::new(sizes.clone()), Metrics::default());
        let stop = AtomicBool::new(false);
        let feeder = self.feeder(&stop, &sizes, true);
        let outcome = feeder.beside(batches, stretch.first_sample, || {
            self.collect(Doing::Start, Some(walked.clone()), &mut |metrics| {
                if let Some((step, metrics)) = steps_done.add(metrics) {
                    let step = stretch.first_step + step;
                    if !stretch.left_out.contains(&step) {
                        check_finite(self.last_stage(), step, metrics)?;
                        total.add(metrics);
                    }
                    if on_step(step, metrics).is_break() {
                        stop.store(true, Ordering::Relaxed);
                    }
                }
                Ok(())
            })
        });
        let stages = self.note(outcome)?;
        walked.steps.truncate(steps_done.step);
        Ok(StretchReport { steps: steps_done.step, metrics: total, stages, walked })
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
        let outcome = feeder.beside(batches, 0, || {
            self.collect(Doing::Start, None, &mut |metrics| {
                total.add(metrics);
                Ok(())
            })
        });
        self.note(outcome)?;
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
        self.watchdog.borrow_mut().start(Doing::Read, None, Instant::now());
        let mut by_stage: Vec<Vec<NamedTensor>> = vec![Vec::new(); self.workers.len()];
        let mut read = 0;
        while read < self.workers.len() {
            match self.next_event()? {
                Event::Parameters { stage, parameters } => {
                    by_stage[stage] = parameters;
                    read += 1;
                }
                Event::Failed { error } => return Err(self.root_cause(error, read)),
                Event::Metrics { .. } | Event::At { .. } | Event::Done(_) => {}
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
        let (feed, tell, count) = (&self.feed, &self.tell, self.options.microbatches);
        Feeder { feed, tell, count, stop, sizes, width, classes, early_end }
    }

    /// Overwrites the parameters that `tensors` names, with their state.
    ///
    /// # Errors
    /// Where a device is lost.
    pub fn set_parameters(&mut self, tensors: &[NamedTensor]) -> Result<(), PipelineError> {
        self.order(&Order::Write(tensors.to_vec()))?;
        let outcome = self.collect(Doing::Write, None, &mut |_| Ok(()));
        self.note(outcome).map(|_| ())
    }

    /// Gives every worker the same order.
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

    /// Listens until every stage is done with an order that begins with `doing`, and perhaps walks rows.
    fn collect(
        &self,
        doing: Doing,
        walked: Option<Walked>,
        on_metrics: &mut dyn FnMut(Metrics) -> Result<(), PipelineError>,
    ) -> Result<Vec<StageReport>, PipelineError> {
        self.watchdog.borrow_mut().start(doing, walked, Instant::now());
        let mut reports: Vec<StageReport> = Vec::with_capacity(self.workers.len());
        while reports.len() < self.workers.len() {
            match self.next_event()? {
                Event::Metrics { samples, loss_sum, correct } => on_metrics(Metrics { samples, loss_sum, correct })?,
                Event::Done(report) => reports.push(*report),
                Event::Parameters { .. } | Event::At { .. } => {}
                Event::Failed { error } => return Err(self.root_cause(error, reports.len())),
            }
        }
        reports.sort_by_key(|report| report.stage);
        Ok(reports)
    }

    /// What a worker tells next; where nobody tells anything for too long, the pipeline hangs.
    fn next_event(&self) -> Result<Event, PipelineError> {
        loop {
            let event = match self.events.recv_timeout(LOOK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => {
                    self.watchdog.borrow_mut().check(Instant::now())?;
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return Err(PipelineError::Ended),
            };
            self.watchdog.borrow_mut().listen(&event, Instant::now());
            return Ok(event);
        }
    }

    /// Which stage computes the loss.
    pub(crate) fn last_stage(&self) -> usize {
        self.ranges.len().saturating_sub(1)
    }

    /// The error that began it, of those that follow `first`; so many workers were done with their order before.
    fn root_cause(&self, first: PipelineError, done: usize) -> PipelineError {
        root_cause(first, self.workers.len() - done, &self.events)
    }

    /// Ends the stages, and waits until what they held on their devices is free. Dropping a pipeline does the same, and
    /// only warns where that fails.
    ///
    /// # Errors
    /// Where a stage does not end, as it hangs: it is left alone.
    pub fn end(mut self) -> Result<(), PipelineError> {
        self.end_workers()
    }

    fn end_workers(&mut self) -> Result<(), PipelineError> {
        let mut workers = std::mem::take(&mut self.workers);
        let (inputs, labels) = (tokio::sync::mpsc::channel(1).0, tokio::sync::mpsc::channel(1).0);
        self.feed = Feed { inputs, labels };
        self.tell = channel().0;
        for worker in &mut workers {
            worker.orders = None;
        }
        if self.hangs || workers.is_empty() {
            return Ok(());
        }
        self.await_end(&workers)?;
        for worker in workers {
            // A worker's panic has been told as an event.
            let _ = worker.thread.join();
        }
        Ok(())
    }

    /// Waits until the last worker has let go of everything, and with it of its way to tell.
    fn await_end(&self, workers: &[WorkerHandle]) -> Result<(), PipelineError> {
        let mut watchdog = self.watchdog.borrow_mut();
        watchdog.start_end(Instant::now());
        loop {
            match self.events.recv_timeout(LOOK) {
                Ok(event) => watchdog.listen(&event, Instant::now()),
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) => {
                    watchdog.check_end(
                        |stage| workers.get(stage).is_none_or(|worker| worker.thread.is_finished()),
                        Instant::now(),
                    )?;
                }
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if let Err(error) = self.end_workers() {
            tracing::warn!("{error}");
        }
    }
}
