//! Stages built again after the loss of a device: on the same devices where they come back, else on the others.

use std::collections::BTreeMap;
use std::time::Duration;

use brigade_devices::DeviceError;
use brigade_pipeline::{NamedTensor, Pipeline, PipelineError};

use crate::failure::{Failure, Status};
use crate::trainer::Trainer;

/// How often a device is opened again before it counts as gone. A driver's reset takes a second or two.
const ATTEMPTS: u32 = 4;

/// The pause before the second attempt; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);

/// A device that was lost.
#[derive(Debug, Clone)]
pub(super) struct Loss {
    pub(super) stage: usize,
    pub(super) device: String,
    pub(super) reason: String,
    status: Status,
}

impl Loss {
    /// Any other error is given back.
    pub(super) fn of(error: PipelineError) -> Result<Self, PipelineError> {
        match &error {
            PipelineError::Device { stage, source: DeviceError::Lost { device, .. } } => {
                Ok(Self { stage: *stage, device: device.clone(), reason: error.to_string(), status: Status::Device })
            }
            _ => Err(error),
        }
    }

    /// The device that keeps a run from being started. A failure that is none of its devices' is given back, and so is a
    /// hang: what hangs may hold its device for ever, and nothing can be built beside it.
    fn at_start(trainer: &Trainer, failure: Failure) -> Result<Self, Failure> {
        let stage = trainer.devices().position(|name| failure.device.as_deref() == Some(name));
        match (stage, failure) {
            (Some(stage), Failure { device: Some(device), message: reason, status, .. }) if status != Status::Hang => {
                Ok(Self { stage, device, reason, status })
            }
            (_, failure) => Err(failure),
        }
    }

    /// The same loss, the last of so many that it is not waited for any more.
    pub(super) fn once_too_often(&self, losses: usize) -> Self {
        Self { reason: format!("lost {losses} times since the last snapshot"), ..self.clone() }
    }
}

/// New stages with these parameters, on the devices that come back. `given_up` is one that is not tried any more. The
/// devices that were left out are told, with the trainer for those that are left.
///
/// # Errors
/// Where no device is left, or where the fault is none of a device.
pub(super) fn rebuilt(
    mut trainer: Trainer,
    mut given_up: Option<Loss>,
    tensors: &[NamedTensor],
) -> Result<(Trainer, Pipeline, Vec<Loss>), Failure> {
    let mut gone = Vec::new();
    loop {
        if let Some(loss) = given_up {
            let is_last = trainer.devices().all(|name| name == loss.device);
            let left = (!is_last).then(|| trainer.without(&loss.device));
            gone.push(loss);
            trainer = left.unwrap_or_else(|| Err(none_is_left(&gone)))?;
        }
        match reopened(&trainer, tensors) {
            Ok(pipeline) => return Ok((trainer, pipeline, gone)),
            Err(failure) => given_up = Some(Loss::at_start(&trainer, failure)?),
        }
    }
}

/// The stages on all devices of the trainer; the failure of the first that has failed too often.
fn reopened(trainer: &Trainer, tensors: &[NamedTensor]) -> Result<Pipeline, Failure> {
    let mut attempts = BTreeMap::new();
    loop {
        let failure = match restored(trainer, tensors) {
            Ok(pipeline) => return Ok(pipeline),
            Err(failure) => failure,
        };
        tracing::warn!("{failure}");
        let attempts = attempts.entry(failure.device.clone()).or_default();
        *attempts += 1;
        if *attempts == ATTEMPTS || failure.status == Status::Hang {
            return Err(failure);
        }
        pause_before(*attempts);
    }
}

fn restored(trainer: &Trainer, tensors: &[NamedTensor]) -> Result<Pipeline, Failure> {
    let mut pipeline = trainer.start()?;
    match pipeline.set_parameters(tensors) {
        Ok(()) => Ok(pipeline),
        Err(error) => {
            // Its stages must have let go before they can be built once more.
            pipeline.end()?;
            Err(error.into())
        }
    }
}

/// Every device has been left out, these in this order.
fn none_is_left(gone: &[Loss]) -> Failure {
    let mut told = gone.iter().map(|Loss { device, reason, .. }| format!("{device} did not come back ({reason})"));
    let first = told.next().unwrap_or_default();
    let others: Vec<_> = told.collect();
    let why = match others.as_slice() {
        [] => "there is no other device to take its layers".to_owned(),
        others => format!("its layers cannot be taken by others: {}", others.join(", ")),
    };
    Failure::new(gone.first().map_or(Status::Device, |loss| loss.status), format!("{first}, and {why}"))
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
