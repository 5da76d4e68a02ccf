//! Training that survives the loss of a device, and numbers that are none: the stages are built again from the last
//! snapshot on the host.
//!
//! A snapshot is taken where the pipes are empty: at the start, at each checkpoint within an epoch, and at the end of
//! each epoch, with or without a checkpoint directory. A run that is set back to one after a loss therefore comes to
//! the bits of a run that was never disturbed, as long as it stays on the same adapters.

mod losses;
mod on_nan;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brigade_pipeline::{
    NamedTensor, Pipeline, PipelineError, Position, Progress, RunReport, Source, TrainError, TrainOptions, end_part,
    train,
};

use crate::failure::Failure;
use crate::trainer::Trainer;
pub use losses::start_through_losses;
use losses::{Loss, rebuilt};
pub use on_nan::OnNan;

/// Losses of one device between two snapshots after which it counts as gone: it comes back and does not stay.
const LOSSES: usize = 3;

/// Steps without numbers between two snapshots after which training has diverged, whatever is done about it.
const BAD_STEPS: usize = 8;

/// A fault that was survived.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// Where it was noticed, from 0.
    pub stage: usize,
    /// What it was.
    pub reason: String,
    /// The step that training goes on from.
    pub step: usize,
    /// How long it took to have the stages again.
    pub elapsed: Duration,
    /// What was done.
    pub remedy: Remedy,
}

/// What was done about a fault.
#[derive(Debug, Clone, PartialEq)]
pub enum Remedy {
    /// A lost device was opened again.
    Reopened {
        /// Its name.
        device: String,
    },
    /// The layers of a device that did not come back were spread over the others.
    Moved {
        /// Its name.
        device: String,
    },
    /// A step of the run was left without its update, or with all since the snapshot behind.
    LeftOut {
        /// Which, from 0.
        bad_step: usize,
        /// By which policy.
        policy: OnNan,
    },
}

/// What a run starts with.
pub struct Start {
    /// Stages at work.
    pub pipeline: Pipeline,
    /// Every parameter as the stages have it: the first snapshot.
    pub tensors: Vec<NamedTensor>,
    /// Where the run stands.
    pub position: Position,
}

/// A run that has ended, on the devices that it ended on.
pub struct Survived {
    /// The pipeline, perhaps on fewer devices than at the start.
    pub pipeline: Pipeline,
    /// Every parameter at the end.
    pub tensors: Arc<Vec<NamedTensor>>,
    /// What the run gave. Steps that were repeated are counted once.
    pub report: RunReport,
}

/// Trains as [`brigade_pipeline::train`] does, and goes on after the loss of a device, and as `on_nan`
/// says after a step whose loss or gradients are no numbers. `recovered` is told of each.
///
/// # Errors
/// As [`brigade_pipeline::train`]; a loss ends the run where no device is left that can hold the lost one's layers.
pub fn train_through_faults(
    trainer: &Trainer,
    start: Start,
    source: &dyn Source,
    options: &TrainOptions,
    on_nan: OnNan,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    recovered: &mut dyn FnMut(&Recovery),
) -> Result<Survived, Failure> {
    let Start { pipeline, tensors, position } = start;
    let options = options.clone();
    let snapshot = Snapshot {
        report: RunReport::from(position),
        tensors: Arc::new(tensors),
        losses: BTreeMap::new(),
        bad_steps: 0,
    };
    let mut run = Run { trainer: trainer.clone(), pipeline, options, on_nan, snapshot, ends_part: false };
    while run.ends_part || !run.is_over() {
        if let Err(error) = run.go_on(source, observe) {
            let recoveries;
            (run, recoveries) = run.recover(error, source.training_samples())?;
            recoveries.iter().for_each(&mut *recovered);
        }
    }
    let Snapshot { report, tensors, .. } = run.snapshot;
    Ok(Survived { pipeline: run.pipeline, tensors, report })
}

/// What a run can be set back to.
struct Snapshot {
    /// What the run has given up to it, and where it stands there.
    report: RunReport,
    tensors: Arc<Vec<NamedTensor>>,
    /// How often each device was lost since.
    losses: BTreeMap<String, usize>,
    /// Steps without numbers since.
    bad_steps: usize,
}

struct Run {
    trainer: Trainer,
    pipeline: Pipeline,
    options: TrainOptions,
    on_nan: OnNan,
    snapshot: Snapshot,
    /// Whether an epoch, or the run, has come to its end with a step that was left behind: it is not evaluated yet, nor
    /// saved.
    ends_part: bool,
}

impl Run {
    fn is_over(&self) -> bool {
        let RunReport { stopped, position: Position { step, epoch, .. }, .. } = self.snapshot.report;
        stopped || epoch >= self.options.epochs || self.options.steps.is_some_and(|steps| step >= steps)
    }

    /// Trains from the snapshot to the end of the run; each snapshot on the way takes its place.
    fn go_on(
        &mut self,
        source: &dyn Source,
        observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<(), TrainError> {
        let start = self.snapshot.report.position;
        let before = self.snapshot.report.clone();
        let (snapshot, ends_part) = (&mut self.snapshot, self.ends_part);
        // Nothing has been trained up to a snapshot at the end of such a part: the count goes on.
        let bad_steps = if ends_part { snapshot.bad_steps } else { 0 };
        let mut watch = |progress: &Progress| {
            if let Progress::Snapshot { report, tensors } = progress {
                let mut so_far = before.clone();
                so_far.absorb((**report).clone());
                *snapshot =
                    Snapshot { report: so_far, tensors: Arc::clone(tensors), losses: BTreeMap::new(), bad_steps };
            }
            observe(progress)
        };
        let go_on = if ends_part { end_part } else { train };
        let part = go_on(&mut self.pipeline, source, &self.options, start, &mut watch)?;
        self.ends_part = false;
        self.snapshot.report = before;
        self.snapshot.report.absorb(part);
        Ok(())
    }

    /// The same run set back to the snapshot, where the error is one that can be survived, and what was done about it.
    fn recover(self, error: TrainError, samples: usize) -> Result<(Self, Vec<Recovery>), Failure> {
        match error {
            TrainError::Pipeline(error @ PipelineError::NotFinite { stage, step, .. }) => {
                self.leave_out(error, stage, step, samples)
            }
            TrainError::Pipeline(error) => self.after_loss(Loss::of(error)?),
            error @ TrainError::Checkpoint(_) => Err(error.into()),
        }
    }

    fn after_loss(mut self, loss: Loss) -> Result<(Self, Vec<Recovery>), Failure> {
        let started = Instant::now();
        let step = self.snapshot.report.position.step;
        tracing::warn!("{}; going back to step {step}", loss.reason);
        let losses = self.snapshot.losses.entry(loss.device.clone()).or_default();
        *losses += 1;
        let given_up = (*losses >= LOSSES).then(|| loss.once_too_often(*losses));
        let (run, gone) = self.rebuilt(given_up).map_err(|failure| failure.after(&loss.reason))?;
        let elapsed = started.elapsed();
        let (lost, others): (Vec<_>, _) = gone.into_iter().partition(|other| other.device == loss.device);
        let Loss { stage, device, reason, .. } = loss;
        let remedy = if lost.is_empty() { Remedy::Reopened { device } } else { Remedy::Moved { device } };
        let recovery = Recovery { stage, reason, step, elapsed, remedy };
        Ok((run, [recovery].into_iter().chain(moved(others, step, elapsed)).collect()))
    }

    fn leave_out(
        mut self,
        error: PipelineError,
        stage: usize,
        bad_step: usize,
        samples: usize,
    ) -> Result<(Self, Vec<Recovery>), Failure> {
        let started = Instant::now();
        let (options, snapshot, policy) = (&mut self.options, &mut self.snapshot, self.on_nan);
        snapshot.bad_steps += 1;
        if policy == OnNan::Stop || snapshot.bad_steps > BAD_STEPS {
            return Err(error.into());
        }
        let position = &mut snapshot.report.position;
        match policy {
            OnNan::RollBack => {
                *position = on_nan::after(bad_step, *position, samples, options.batch);
                self.ends_part = position.batch == 0 || options.steps.is_some_and(|steps| position.step >= steps);
            }
            OnNan::Skip | OnNan::Stop => options.left_out = with(&options.left_out, bad_step),
        }
        let (step, reason) = (position.step, error.to_string());
        tracing::warn!("{reason}; {}: going on from step {step}", policy.word());
        let (run, gone) = self.rebuilt(None).map_err(|failure| failure.after(&reason))?;
        let elapsed = started.elapsed();
        let recovery = Recovery { stage, reason, step, elapsed, remedy: Remedy::LeftOut { bad_step, policy } };
        Ok((run, [recovery].into_iter().chain(moved(gone, step, elapsed)).collect()))
    }

    /// The same run on new stages, and the devices that these do without.
    ///
    /// # Errors
    /// Where a stage hangs, too: it may never let go of its device, on which nothing can be built then.
    fn rebuilt(self, given_up: Option<Loss>) -> Result<(Self, Vec<Loss>), Failure> {
        let Self { trainer, pipeline, options, on_nan, snapshot, ends_part } = self;
        // What the stages hold on the devices must be free before they are built again.
        pipeline.end()?;
        let (trainer, pipeline, gone) = rebuilt(trainer, given_up, &snapshot.tensors)?;
        Ok((Self { trainer, pipeline, options, on_nan, snapshot, ends_part }, gone))
    }
}

/// What became of the devices that were lost while stages were built again.
fn moved(gone: Vec<Loss>, step: usize, elapsed: Duration) -> impl Iterator<Item = Recovery> {
    let moved = move |Loss { stage, device, reason, .. }| Recovery {
        stage,
        reason,
        step,
        elapsed,
        remedy: Remedy::Moved { device },
    };
    gone.into_iter().map(moved)
}

fn with(steps: &BTreeSet<usize>, step: usize) -> Arc<BTreeSet<usize>> {
    Arc::new(steps.iter().copied().chain([step]).collect())
}
