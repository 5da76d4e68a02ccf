//! Training that survives the loss of a device: the stages are built again from the last snapshot on the host.
//!
//! A snapshot is taken where the pipes are empty, at the start and at the end of each epoch, with or without a
//! checkpoint directory. A run that is set back to one therefore comes to the bits of a run that was never disturbed,
//! as long as it stays on the same adapters.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use brigade_devices::DeviceError;
use brigade_pipeline::{
    NamedTensor, Pipeline, PipelineError, Position, Progress, RunReport, Source, TrainError, TrainOptions, train,
};

use crate::failure::Failure;
use crate::trainer::Trainer;

/// How often a lost device is opened again before it counts as gone. A driver's reset takes a second or two.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);

/// Losses of one stretch between two snapshots, after which the device counts as gone: it comes back and does not
/// stay.
const LOSSES: u32 = 3;

/// A loss that was survived.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovery {
    /// Whose device was lost, from 0.
    pub stage: usize,
    /// Its name.
    pub device: String,
    /// What the driver said.
    pub reason: String,
    /// The step that training goes on from.
    pub step: usize,
    /// Whether the layers were spread over the other devices, because the lost one did not come back.
    pub moved: bool,
    /// How long it took.
    pub elapsed: Duration,
}

/// A run that has ended, on the devices that it ended on.
pub struct Survived {
    /// The pipeline, perhaps on fewer devices than at the start.
    pub pipeline: Pipeline,
    /// What the run gave. Steps that were repeated are counted once.
    pub report: RunReport,
}

/// Trains as [`brigade_pipeline::train`] does, from `start` on, and goes on after the loss of a device. `recovered` is
/// told of each.
///
/// # Errors
/// As [`brigade_pipeline::train`]; a loss ends the run where no device is left that can hold the lost one's layers.
pub fn train_through_losses(
    trainer: &Trainer,
    pipeline: Pipeline,
    source: &dyn Source,
    options: &TrainOptions,
    start: Position,
    observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    recovered: &mut dyn FnMut(&Recovery),
) -> Result<Survived, Failure> {
    let mut run = Run { trainer: trainer.clone(), pipeline, snapshot: Snapshot::default(), losses: 0 };
    run.snapshot = Snapshot { position: start, tensors: run.pipeline.parameters()? };
    let mut report = RunReport::from(start);
    while !is_over(&report, options) {
        match run.epoch(source, options, observe) {
            Ok(part) => report.absorb(part),
            Err(error) => {
                let loss = Loss::of(error)?;
                let recovery;
                (run, recovery) = run.recover(loss)?;
                recovered(&recovery);
            }
        }
    }
    Ok(Survived { pipeline: run.pipeline, report })
}

fn is_over(report: &RunReport, options: &TrainOptions) -> bool {
    let Position { step, epoch, .. } = report.position;
    report.stopped || epoch >= options.epochs || options.steps.is_some_and(|steps| step >= steps)
}

/// What a run can be set back to.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    position: Position,
    tensors: Vec<NamedTensor>,
}

/// A device that was lost.
struct Loss {
    stage: usize,
    device: String,
    error: PipelineError,
}

impl Loss {
    /// Any other error ends the run.
    fn of(error: TrainError) -> Result<Self, Failure> {
        match error {
            TrainError::Pipeline(error @ PipelineError::Device { stage, source: DeviceError::Lost { .. } }) => {
                let PipelineError::Device { source: DeviceError::Lost { device, .. }, .. } = &error else {
                    return Err(error.into());
                };
                Ok(Self { stage, device: device.clone(), error })
            }
            other => Err(other.into()),
        }
    }
}

struct Run {
    trainer: Trainer,
    pipeline: Pipeline,
    snapshot: Snapshot,
    /// Since the snapshot.
    losses: u32,
}

impl Run {
    /// Trains from the snapshot to the end of its epoch, and takes the next one.
    fn epoch(
        &mut self,
        source: &dyn Source,
        options: &TrainOptions,
        observe: &mut dyn FnMut(&Progress) -> ControlFlow<()>,
    ) -> Result<RunReport, TrainError> {
        let Position { epoch, .. } = self.snapshot.position;
        let options = TrainOptions { epochs: options.epochs.min(epoch + 1), ..options.clone() };
        let part = train(&mut self.pipeline, source, &options, self.snapshot.position, observe)?;
        self.snapshot = Snapshot { position: part.position, tensors: self.pipeline.parameters()? };
        self.losses = 0;
        Ok(part)
    }

    /// The same run on devices that are there, set back to the snapshot.
    fn recover(self, loss: Loss) -> Result<(Self, Recovery), Failure> {
        let started = Instant::now();
        let Self { trainer, pipeline, snapshot, losses } = self;
        // What the stages hold on the other devices must be free before they are built again.
        drop(pipeline);
        tracing::warn!("{}; going back to step {}", loss.error, snapshot.position.step);
        let again = if losses + 1 < LOSSES { reopened(&trainer, &snapshot) } else { None };
        let moved = again.is_none();
        let (trainer, pipeline) = match again {
            Some(pipeline) => (trainer, pipeline),
            None => without(&trainer, &loss, &snapshot)?,
        };
        let recovery = Recovery {
            stage: loss.stage,
            reason: loss.error.to_string(),
            device: loss.device,
            step: snapshot.position.step,
            moved,
            elapsed: started.elapsed(),
        };
        Ok((Self { trainer, pipeline, snapshot, losses: losses + 1 }, recovery))
    }
}

fn restored(trainer: &Trainer, snapshot: &Snapshot) -> Result<Pipeline, Failure> {
    let mut pipeline = trainer.start()?;
    pipeline.set_parameters(&snapshot.tensors)?;
    Ok(pipeline)
}

/// The stages on the same devices, where they come back.
fn reopened(trainer: &Trainer, snapshot: &Snapshot) -> Option<Pipeline> {
    (0..ATTEMPTS).find_map(|attempt| {
        if attempt > 0 {
            std::thread::sleep(PAUSE * 2u32.pow(attempt - 1));
        }
        restored(trainer, snapshot).map_err(|error| tracing::warn!("{error}")).ok()
    })
}

/// The stages on the devices that are left.
fn without(trainer: &Trainer, loss: &Loss, snapshot: &Snapshot) -> Result<(Trainer, Pipeline), Failure> {
    let gone = |why: String| Failure {
        message: format!("{}; it did not come back, and {why}", loss.error),
        ..Failure::from(DeviceError::Lost { device: loss.device.clone(), reason: String::new() })
    };
    let names: Vec<_> = trainer.devices().filter(|name| *name != loss.device).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(gone("there is no other device to take its layers".into()));
    }
    let trainer = trainer.over(&names)?;
    let pipeline = restored(&trainer, snapshot)
        .map_err(|error| gone(format!("{} cannot take its layers: {error}", names.join(", "))))?;
    Ok((trainer, pipeline))
}
