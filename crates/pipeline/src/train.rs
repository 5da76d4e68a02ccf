//! The training loop: epochs, evaluation, checkpoints.

mod report;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::batch::Batches;
use crate::checkpoint::{CheckpointError, Manifest, Store, Writer};
pub use crate::learning_rate::LearningRate;
use crate::pipeline::{Metrics, Pipeline, Stretch, check_finite};
use crate::{NamedTensor, PipelineError};
pub use report::RunReport;
use report::absorb;

/// Where the samples come from.
pub trait Source {
    /// Samples of one epoch of training.
    fn training_samples(&self) -> usize;

    /// Samples of the test split.
    fn test_samples(&self) -> usize;

    /// The training samples of `epoch` in that epoch's order, `batch` at a time, from batch `first` on.
    ///
    /// # Errors
    /// Where the data cannot be read.
    fn training(&self, epoch: usize, batch: usize, first: usize) -> Result<Batches<'_>, BoxError>;

    /// The test samples in order, `batch` at a time.
    ///
    /// # Errors
    /// Where the data cannot be read.
    fn test(&self, batch: usize) -> Result<Batches<'_>, BoxError>;
}

/// An error of a [`Source`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Steps after which the pipes are emptied at the latest where a run can be stopped at such places only: nobody who stops it
/// waits longer. Few enough to wait for, and so many that filling the pipes again costs next to nothing.
const EMPTIED_EVERY: usize = 500;

/// How long and how to train.
#[derive(Debug, Clone)]
pub struct TrainOptions {
    /// Epochs, where `steps` does not end the run before.
    pub epochs: usize,
    /// Steps of the whole run, at most.
    pub steps: Option<usize>,
    /// Samples of a step.
    pub batch: usize,
    /// Learning rate by step.
    pub learning_rate: LearningRate,
    /// Whether the test split is evaluated after each epoch.
    pub evaluate: bool,
    /// Epochs at the end in which nothing is stale, whatever the schedule.
    pub synchronous_finish: usize,
    /// Steps between checkpoints within an epoch. A schedule that never flushes empties its pipes for each, and every 500
    /// steps besides. Where checkpoints are saved it is stopped by the observer at the next such place only: so a run that
    /// was stopped and resumed empties them at the very steps at which one does that nothing stopped, and comes to the
    /// same bits.
    pub checkpoint_every: Option<usize>,
    /// Where checkpoints go, at the end of each epoch.
    pub checkpoints: Option<Checkpoints>,
    /// Steps of the run that end without their update.
    pub left_out: Arc<BTreeSet<usize>>,
}

impl TrainOptions {
    /// `epochs` over all samples in steps of `batch`, the test split evaluated after each, nothing saved.
    pub fn new(epochs: usize, batch: usize, learning_rate: LearningRate) -> Self {
        TrainOptions {
            epochs,
            steps: None,
            batch,
            learning_rate,
            evaluate: true,
            synchronous_finish: 0,
            checkpoint_every: None,
            checkpoints: None,
            left_out: Arc::default(),
        }
    }
}

/// Where checkpoints go, and what they say of the run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// The directory.
    pub store: Store,
    /// The manifest but for position and checksums.
    pub manifest: Manifest,
}

/// Where in the run training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Steps done.
    pub step: usize,
    /// Epoch of the next step, from 0.
    pub epoch: usize,
    /// Batch of the next step within its epoch.
    pub batch: usize,
    /// Samples seen.
    pub samples: u64,
}

/// What the loop tells while it runs.
#[derive(Debug, Clone)]
pub enum Progress {
    /// A step has ended. Steps count from 1 here.
    Step {
        /// Steps done.
        step: usize,
        /// Mean loss of the step.
        loss: f64,
        /// Mean rate since the stretch began.
        images_per_second: f64,
    },
    /// The observer has ended the run, and steps follow before the place where it can be stopped.
    Stopping {
        /// The last of them.
        step: usize,
    },
    /// An epoch has ended. Epochs count from 1 here.
    Epoch {
        /// Epochs done.
        epoch: usize,
        /// Mean loss of the epoch's samples, each at the weights of its own forward.
        train: Metrics,
        /// The test split at the weights after the epoch, where it was evaluated.
        test: Option<Metrics>,
        /// Seconds of the epoch's training, evaluation not counted.
        seconds: f64,
    },
    /// The pipes are empty, and the parameters have been copied to the host: a run can be set back to this.
    Snapshot {
        /// What the run has given so far, and where it stands.
        report: Box<RunReport>,
        /// Every parameter with its momentum.
        tensors: Arc<Vec<NamedTensor>>,
    },
    /// A checkpoint has been published: it is on the disk, some steps after the snapshot that it is of.
    Checkpoint {
        /// Its directory.
        path: PathBuf,
    },
}

/// A run that ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A stage or the data.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A checkpoint could not be saved.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// Trains `pipeline` on `source` from `start` on. `observe` is told what happens, and may end the run.
///
/// The pipes are emptied at the end of each epoch, so that evaluation and checkpoints see weights that every
/// microbatch of the epoch has updated. Checkpoints are written on a thread of their own while training goes on; where
/// the next one comes before that has ended, training waits for it, and so it does at the end.
///
/// # Errors
/// The first error of a stage, of the data or of a checkpoint. That a checkpoint could not be saved ends the run at the
/// next step, and comes before an error of a stage: that one may be survived.
pub fn train(
    pipeline: &mut Pipeline,
    source: &dyn Source,
    options: &TrainOptions,
    start: Position,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<RunReport, TrainError> {
    part(pipeline, source, options, start, observe, Run::go_on)
}

type Observe<'a> = &'a mut dyn FnMut(&Progress) -> ControlFlow<()>;

/// A part of a run, with the checkpoints that it saves.
fn part<'a>(
    pipeline: &'a mut Pipeline,
    source: &'a dyn Source,
    options: &'a TrainOptions,
    start: Position,
    observe: Observe<'_>,
    go_on: impl FnOnce(&mut Run<'a>, Observe<'_>) -> Result<(), TrainError>,
) -> Result<RunReport, TrainError> {
    let writer = options.checkpoints.as_ref().map(|checkpoints| Writer::new(checkpoints.store.clone()));
    let mut run = Run { pipeline, source, options, writer, report: RunReport::from(start) };
    let trained = go_on(&mut run, &mut *observe);
    let written = run.writer.as_mut().map_or(Ok(None), Writer::finish);
    // What was to be saved comes first: the loss of a device may be survived, a disk that fails is not.
    run.tell_published(written?, observe);
    trained.map(|()| run.report)
}

/// Ends the epoch, or the run, that has come to its end at `position` without a step: evaluates, tells of it and saves, as
/// [`train`] does at that place.
///
/// # Errors
/// As [`train`].
pub fn end_part(
    pipeline: &mut Pipeline,
    source: &dyn Source,
    options: &TrainOptions,
    position: Position,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
) -> Result<RunReport, TrainError> {
    part(pipeline, source, options, position, observe, |run, observe| run.end(Metrics::default(), 0.0, observe))
}

struct Run<'a> {
    pipeline: &'a mut Pipeline,
    source: &'a dyn Source,
    options: &'a TrainOptions,
    writer: Option<Writer>,
    report: RunReport,
}

impl Run<'_> {
    fn go_on(&mut self, observe: Observe<'_>) -> Result<(), TrainError> {
        while !self.is_over() {
            self.epoch(observe)?;
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        let Position { step, epoch, .. } = self.report.position;
        self.report.stopped || epoch >= self.options.epochs || self.options.steps.is_some_and(|steps| step >= steps)
    }

    /// Trains to the end of the epoch, or of the run, with the checkpoints on the way; then evaluates and saves.
    fn epoch(&mut self, observe: Observe<'_>) -> Result<(), TrainError> {
        let started = Instant::now();
        let epoch = self.report.position.epoch;
        // What was measured before is not of the weights to come.
        self.report.test = None;
        let mut train = self.stretch(observe)?;
        while !self.is_over() && self.report.position.epoch == epoch {
            if self.options.checkpoint_every.is_some_and(|every| self.report.position.step.is_multiple_of(every)) {
                self.save(observe)?;
                if self.report.stopped {
                    return Ok(());
                }
            }
            train.add(self.stretch(observe)?);
        }
        self.end(train, started.elapsed().as_secs_f64(), observe)
    }

    /// The end of an epoch, or of the run: evaluates and saves.
    fn end(&mut self, train: Metrics, seconds: f64, observe: Observe<'_>) -> Result<(), TrainError> {
        if !self.report.stopped {
            let test = if self.options.evaluate { Some(self.evaluate()?) } else { None };
            self.report.test = test;
            let epoch = self.report.position.epoch + usize::from(self.report.position.batch > 0);
            self.tell(&Progress::Epoch { epoch, train, test, seconds }, observe);
        }
        self.save(observe)
    }

    /// Trains to the next place at which the pipes are emptied: a checkpoint, or the end of the epoch or of the run.
    fn stretch(&mut self, observe: Observe<'_>) -> Result<Metrics, TrainError> {
        let Position { step, epoch, batch, samples } = self.report.position;
        let size = self.options.batch;
        let left_in_epoch = self.source.training_samples().saturating_sub(batch * size);
        let left_in_run = self.options.steps.map_or(usize::MAX, |steps| (steps - step).saturating_mul(size));
        let every = self.options.checkpoint_every;
        let to_multiple =
            |every: Option<usize>| every.map_or(usize::MAX, |every| (every - step % every).saturating_mul(size));
        let emptied = every.filter(|_| self.pipeline.schedule().is_stale()).map(|_| EMPTIED_EVERY);
        // Where nothing is saved nothing goes on from there.
        let waits = emptied.is_some() && self.options.checkpoints.is_some();
        let stretch = Stretch {
            samples: left_in_epoch.min(left_in_run).min(to_multiple(every)).min(to_multiple(emptied)),
            first_step: step,
            first_sample: samples,
            learning_rate: self.options.learning_rate.clone(),
            synchronous: epoch.saturating_add(self.options.synchronous_finish) >= self.options.epochs,
            left_out: Arc::clone(&self.options.left_out),
        };
        let batches = self.source.training(epoch, size, batch).map_err(PipelineError::Data)?;
        let began = Instant::now();
        let last_step = step + stretch.samples.div_ceil(size);
        let mut stopped = false;
        let mut unsaved = None;
        let mut trained = 0;
        let writer = &mut self.writer;
        let trained_on = self.pipeline.train(&stretch, batches, &mut |step, metrics| {
            trained += metrics.samples;
            let images_per_second = trained as f64 / began.elapsed().as_secs_f64();
            let flow = observe(&Progress::Step { step: step + 1, loss: metrics.loss(), images_per_second });
            if flow.is_break() && !stopped && waits && step + 1 < last_step {
                let _ = observe(&Progress::Stopping { step: last_step });
            }
            stopped |= flow.is_break();
            match writer.as_mut().map_or(Ok(None), Writer::published) {
                Ok(Some(path)) => stopped |= observe(&Progress::Checkpoint { path }).is_break(),
                Ok(None) => {}
                Err(error) => {
                    unsaved = Some(error);
                    return ControlFlow::Break(());
                }
            }
            if waits || !stopped { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if let Some(error) = unsaved {
            return Err(error.into());
        }
        let report = trained_on?;
        self.report.stopped |= stopped;
        self.report.seconds += began.elapsed().as_secs_f64();
        self.report.samples += report.metrics.samples;
        self.advance(report.steps, report.metrics.samples);
        absorb(&mut self.report.stages, report.stages);
        self.report.walked = Some(report.walked);
        Ok(report.metrics)
    }

    fn advance(&mut self, steps: usize, samples: usize) {
        let per_epoch = self.source.training_samples().div_ceil(self.options.batch);
        let position = &mut self.report.position;
        position.step += steps;
        position.samples += samples as u64;
        position.batch += steps;
        if position.batch >= per_epoch {
            position.batch = 0;
            position.epoch += 1;
        }
    }

    fn evaluate(&mut self) -> Result<Metrics, PipelineError> {
        let batches = self.source.test(self.options.batch).map_err(PipelineError::Data)?;
        let test = self.pipeline.evaluate(self.source.test_samples(), batches)?;
        // The last updates came after the last loss of training.
        check_finite(self.pipeline.last_stage(), self.report.position.step.saturating_sub(1), test)?;
        Ok(test)
    }

    /// A snapshot on the host; where a checkpoint of it is wanted, that is begun.
    fn save(&mut self, observe: Observe<'_>) -> Result<(), TrainError> {
        let tensors = Arc::new(self.pipeline.parameters()?);
        refuse_not_finite(&tensors)?;
        self.tell(
            &Progress::Snapshot { report: Box::new(self.report.clone()), tensors: Arc::clone(&tensors) },
            observe,
        );
        let (Some(Checkpoints { manifest, .. }), Some(writer)) = (&self.options.checkpoints, &mut self.writer) else {
            return Ok(());
        };
        let manifest = Manifest {
            position: self.report.position,
            test_accuracy: self.report.test.map(|test| test.accuracy()),
            ..manifest.clone()
        };
        let before = writer.begin(manifest, tensors)?;
        self.tell_published(before, observe);
        Ok(())
    }

    fn tell_published(&mut self, path: Option<PathBuf>, observe: Observe<'_>) {
        if let Some(path) = path {
            self.tell(&Progress::Checkpoint { path }, observe);
        }
    }

    fn tell(&mut self, progress: &Progress, observe: Observe<'_>) {
        self.report.stopped |= observe(progress).is_break();
    }
}

/// Weights that are no numbers are never saved.
fn refuse_not_finite(tensors: &[NamedTensor]) -> Result<(), PipelineError> {
    let broken = tensors.iter().find(|tensor| tensor.weights.iter().any(|weight| !weight.is_finite()));
    broken.map_or(Ok(()), |tensor| Err(PipelineError::BrokenWeights { tensor: tensor.name.clone() }))
}
