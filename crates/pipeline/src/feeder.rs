//! What goes into the pipeline while it runs, and what its metrics add up to.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use crate::PipelineError;
use crate::batch::{Batches, Samples, messages};
use crate::disturb::disturbed;
use crate::link::{self, Feed, Message};
use crate::pipeline::Metrics;
use crate::stage::worker::Event;

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".into())
}

/// Sends batches in at both ends of the pipeline.
pub(crate) struct Feeder<'a> {
    pub(crate) feed: &'a Feed,
    /// Where it tells that it has panicked.
    pub(crate) tell: &'a Sender<Event>,
    pub(crate) count: usize,
    pub(crate) stop: &'a AtomicBool,
    /// Samples of each step.
    pub(crate) sizes: &'a [usize],
    /// Elements of one input sample.
    pub(crate) width: usize,
    pub(crate) classes: usize,
    /// Whether the row may end before its steps are done.
    pub(crate) early_end: bool,
}

impl Feeder<'_> {
    /// Feeds in a thread of its own while the metrics come out, and stops where they end. An error of the data, where there is
    /// one, explains those of the stages.
    pub(crate) fn beside<T>(
        &self,
        batches: Batches<'_>,
        first_sample: u64,
        collect: impl FnOnce() -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        std::thread::scope(|scope| {
            let failed = |error: std::io::Error| PipelineError::Feeder(error.to_string());
            let (collecting, collected) = watch::channel(());
            let mut way = Way { runtime: Builder::new_current_thread().build().map_err(failed)?, collected };
            let thread = std::thread::Builder::new().name("feeder".to_owned());
            let feeding = thread.spawn_scoped(scope, move || {
                catch_unwind(AssertUnwindSafe(|| self.run(batches, first_sample, &mut way))).unwrap_or_else(|panic| {
                    let ended = || PipelineError::Feeder(panic_message(panic.as_ref()));
                    // The stages would wait for the rest for ever.
                    let _ = self.tell.send(Event::Failed { error: ended() });
                    Err(ended())
                })
            });
            let feeding = feeding.map_err(failed)?;
            let outcome = collect();
            self.stop.store(true, Ordering::Relaxed);
            drop(collecting);
            let fed = feeding.join().unwrap_or_else(|panic| Err(PipelineError::Feeder(panic_message(panic.as_ref()))));
            fed.and(outcome)
        })
    }

    fn run(&self, mut batches: Batches<'_>, mut first_sample: u64, way: &mut Way) -> Result<(), PipelineError> {
        let mut microbatch = 0;
        for (step, &size) in self.sizes.iter().enumerate() {
            if self.early_end && self.stop.load(Ordering::Relaxed) {
                return self.end(step, way, Ok(()));
            }
            let samples = match self.next(&mut batches, step, size) {
                Ok(samples) => samples,
                Err(error) => return self.end(step, way, Err(error)),
            };
            for (input, labels) in messages(samples, self.count, microbatch, first_sample) {
                // Where the pipeline has ended, its own error is told.
                let mut labels = disturbed("link.labels", labels).into_iter();
                if !labels.all(|labels| way.send(&self.feed.labels, labels)) || !way.send(&self.feed.inputs, input) {
                    return Ok(());
                }
                microbatch += 1;
            }
            first_sample += size as u64;
        }
        Ok(())
    }

    /// Ends the rows after `steps` steps.
    fn end(&self, steps: usize, way: &mut Way, outcome: Result<(), PipelineError>) -> Result<(), PipelineError> {
        way.send(&self.feed.inputs, Message::End { steps });
        outcome
    }

    /// The samples of a step, of the size that the rows were made for.
    fn next(&self, batches: &mut Batches<'_>, step: usize, size: usize) -> Result<Samples, PipelineError> {
        let data = |message: String| PipelineError::Data(message.into());
        let samples = catch_unwind(AssertUnwindSafe(|| batches.next()))
            .map_err(|panic| PipelineError::Feeder(panic_message(panic.as_ref())))?
            .ok_or_else(|| data(format!("the data ended at batch {step} of {}", self.sizes.len())))?
            .map_err(PipelineError::Data)?;
        let (inputs, labels) = (samples.inputs.len(), samples.labels.len());
        if labels != size || inputs != size * self.width {
            let wanted = size * self.width;
            return Err(data(format!(
                "batch {step}: wanted {size} samples of {} elements ({wanted}), found {labels} labels and {inputs} elements",
                self.width
            )));
        }
        match samples.labels.iter().position(|&label| label as usize >= self.classes) {
            Some(index) => Err(data(format!(
                "batch {step}, sample {index}: label {} is not below the model's {} classes",
                samples.labels[index], self.classes
            ))),
            None => Ok(samples),
        }
    }
}

/// The way into the pipeline, while anybody listens to what comes out.
struct Way {
    runtime: Runtime,
    /// Its other end goes when nobody collects any more.
    collected: watch::Receiver<()>,
}

impl Way {
    /// Waits until there is room; false where the pipeline has ended. A stage that hangs keeps its end of the link, and
    /// never makes room.
    fn send(&mut self, to: &link::Sender, message: Message) -> bool {
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                sent = to.send(message) => sent.is_ok(),
                _ = self.collected.changed() => false,
            }
        })
    }
}

/// Gathers the metrics of microbatches into those of steps.
pub(crate) struct StepCounter {
    sizes: Vec<usize>,
    pub(crate) step: usize,
    current: Metrics,
}

impl StepCounter {
    pub(crate) fn new(sizes: Vec<usize>) -> Self {
        Self { sizes, step: 0, current: Metrics::default() }
    }

    /// The step that ends with these metrics, if one does.
    pub(crate) fn add(&mut self, metrics: Metrics) -> Option<(usize, Metrics)> {
        self.current.add(metrics);
        if self.current.samples < self.sizes.get(self.step).copied().unwrap_or(usize::MAX) {
            return None;
        }
        let step = self.step;
        self.step += 1;
        Some((step, std::mem::take(&mut self.current)))
    }
}
