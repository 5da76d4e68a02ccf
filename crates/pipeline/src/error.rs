//! What can end a run.

use brigade_devices::DeviceError;
use brigade_kernels::ShapeError;
use thiserror::Error;

use crate::Doing;
use crate::schedule::Action;
use crate::staleness::StalenessError;

/// Why a pipeline stopped. Stages count from 0.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// Sizes that cannot be indexed.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// A schedule that does not fit the number of stages.
    #[error(transparent)]
    Schedule(#[from] crate::schedule::Misfit),
    /// A device failed.
    #[error("stage {stage}: {source}")]
    Device {
        /// Whose device.
        stage: usize,
        /// How.
        source: DeviceError,
    },
    /// A thread panicked.
    #[error("stage {stage}: its thread ended with a fault of its own: {message}; this is a bug, please report it")]
    Panic {
        /// Whose thread.
        stage: usize,
        /// What it said.
        message: String,
    },
    /// A neighbour has gone; the neighbour's own error says why.
    #[error("stage {stage}: its neighbour has gone while {action} was waited for")]
    Disconnected {
        /// Who noticed.
        stage: usize,
        /// At which action.
        action: Action,
    },
    /// A message that belongs to another action.
    #[error("stage {stage}, {action}: wanted microbatch {wanted}, found {found}")]
    WrongMessage {
        /// Who received it.
        stage: usize,
        /// At which action.
        action: Action,
        /// The microbatch that was due.
        wanted: usize,
        /// The microbatch that came.
        found: String,
    },
    /// A message that never arrived as it was sent.
    #[error(
        "stage {stage}, {action}: microbatch {microbatch} was sent {attempts} times, and never arrived with its checksum; \
         memory or a bus of this machine flips bits"
    )]
    Checksum {
        /// Who received it.
        stage: usize,
        /// At which action.
        action: Action,
        /// Which microbatch.
        microbatch: usize,
        /// How often it was taken from the sender.
        attempts: usize,
    },
    /// Nothing has happened at any stage for much longer than anything took before.
    #[error(
        "stage {stage} hangs at {doing}: nothing has happened for {:.0} s; look for the driver's reset in the system's \
         log, and go on with --resume{grid}", waited.as_secs_f64()
    )]
    Hang {
        /// Which stage is computing for the longest time, or waits where nobody computes.
        stage: usize,
        /// What it has come to.
        doing: Doing,
        /// Since anything happened.
        waited: std::time::Duration,
        /// The place of every stage in the schedule.
        grid: String,
    },
    /// A loss or a gradient is no number; the update of that step was not applied where the gradient is.
    #[error(
        "stage {stage}, step {step}: {tensor} is {value}, and was kept from the weights; training has diverged, or a device \
         computes wrongly: try a smaller learning rate or fewer stages, `check` the devices, or go on with --on-nan"
    )]
    NotFinite {
        /// Where it was found.
        stage: usize,
        /// Step of the run, from 0.
        step: usize,
        /// The first tensor that was found to have it, in the order of computing.
        tensor: String,
        /// What it is.
        value: f64,
    },
    /// Weights are no numbers.
    #[error(
        "`{tensor}` has weights that are no numbers: training has diverged, and nothing was saved; try a smaller learning rate"
    )]
    BrokenWeights {
        /// The first such parameter.
        tensor: String,
    },
    /// Weights or corrections that are not possible.
    #[error(transparent)]
    Staleness(#[from] StalenessError),
    /// The pipeline ended with an error before.
    #[error("the pipeline has ended with an error before; start another one")]
    Ended,
    /// The data failed.
    #[error("{0}")]
    Data(Box<dyn std::error::Error + Send + Sync>),
    /// The thread that feeds the pipeline panicked.
    #[error("the thread that feeds the pipeline ended with a fault of its own: {0}; this is a bug, please report it")]
    Feeder(String),
    /// Saved parameters do not fit the model.
    #[error("{0}")]
    Parameters(String),
    /// The number of microbatches is not usable.
    #[error("{microbatches} microbatches are not possible with a batch of {batch}: from 1 to {batch} are")]
    Microbatches {
        /// Asked for.
        microbatches: usize,
        /// Samples of a step.
        batch: usize,
    },
}
