//! Stages built again after the loss of a device: on the same devices where they come back, else on the others.

use std::time::Duration;

use brigade_devices::DeviceError;
use brigade_pipeline::{NamedTensor, Pipeline, PipelineError};

use crate::failure::Failure;
use crate::trainer::Trainer;

/// How often a lost device is opened again before it counts as gone. A driver's reset takes a second or two.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);

/// A device that was lost.
pub(super) struct Loss {
    pub(super) stage: usize,
    pub(super) device: String,
    pub(super) error: PipelineError,
}

impl Loss {
    /// Any other error is given back.
    pub(super) fn of(error: PipelineError) -> Result<Self, PipelineError> {
        match &error {
            PipelineError::Device { stage, source: DeviceError::Lost { device, .. } } => {
                Ok(Self { stage: *stage, device: device.clone(), error })
            }
            _ => Err(error),
        }
    }
}

/// New stages with these parameters.
pub(super) fn restored(trainer: &Trainer, tensors: &[NamedTensor]) -> Result<Pipeline, Failure> {
    let mut pipeline = trainer.start()?;
    pipeline.set_parameters(tensors)?;
    Ok(pipeline)
}

/// The stages on the same devices, where they come back.
pub(super) fn reopened(trainer: &Trainer, tensors: &[NamedTensor]) -> Option<Pipeline> {
    (0..ATTEMPTS).find_map(|attempt| {
        pause_before(attempt);
        restored(trainer, tensors).map_err(|error| tracing::warn!("{error}")).ok()
    })
}

/// Starts something on devices, again where one of them is lost meanwhile.
///
/// # Errors
/// What `start` ends with where it is no loss, or the last of several losses.
pub fn start_through_losses<T>(mut start: impl FnMut() -> Result<T, Failure>) -> Result<T, Failure> {
    for attempt in 0..ATTEMPTS - 1 {
        pause_before(attempt);
        match start() {
            Err(failure) if failure.lost => tracing::warn!("{failure}; starting again"),
            other => return other,
        }
    }
    pause_before(ATTEMPTS - 1);
    start()
}

fn pause_before(attempt: u32) {
    if attempt > 0 {
        std::thread::sleep(PAUSE * 2u32.pow(attempt - 1));
    }
}

/// The stages on the devices that are left.
pub(super) fn without(trainer: &Trainer, loss: &Loss, tensors: &[NamedTensor]) -> Result<(Trainer, Pipeline), Failure> {
    let gone = |why: String| Failure {
        message: format!("{}; it did not come back, and {why}", loss.error),
        ..Failure::from(DeviceError::Lost { device: loss.device.clone(), reason: String::new() })
    };
    let names: Vec<_> = trainer.devices().filter(|name| *name != loss.device).map(str::to_owned).collect();
    if names.is_empty() {
        return Err(gone("there is no other device to take its layers".into()));
    }
    let trainer = trainer.without(&loss.device)?;
    let pipeline = restored(&trainer, tensors)
        .map_err(|error| gone(format!("{} cannot take its layers: {error}", names.join(", "))))?;
    Ok((trainer, pipeline))
}
