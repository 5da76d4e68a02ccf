//! How an error ends the process: its message and its exit status.

use std::any::Any;
use std::fmt;

use brigade_data::DataError;
use brigade_devices::DeviceError;
use brigade_pipeline::model::ModelError;
use brigade_pipeline::schedule::Deadlock;
use brigade_pipeline::staleness::StalenessError;
use brigade_pipeline::{CheckpointError, PipelineError, PlacementError, TrainError};

/// Exit statuses, as the documentation of the command line lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// Command line or run file.
    Usage = 2,
    /// Data.
    Data = 3,
    /// Checkpoint or model file.
    Checkpoint = 4,
    /// Device.
    Device = 5,
    /// Memory.
    Memory = 6,
    /// Storage.
    Storage = 7,
    /// NaN or Inf, or a result beyond its tolerance.
    Numerics = 8,
    /// A stage hangs.
    Hang = 9,
    /// Another run uses the directory.
    InUse = 10,
    /// Something that should never happen.
    Internal = 70,
    /// Interrupted from the keyboard.
    Interrupted = 130,
    /// Asked to terminate.
    Terminated = 143,
}

/// An error with the status that it ends the process with.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub status: Status,
    /// What went wrong, where, and how to mend it.
    pub message: String,
    /// Whether it is the loss of a device, which may come back.
    pub lost: bool,
    /// The device that failed, where one did.
    pub device: Option<String>,
}

impl Failure {
    /// A failure with a message of its own.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), lost: false, device: None }
    }

    /// The same, as what came of another fault.
    #[must_use]
    pub fn after(self, fault: &str) -> Self {
        Self { message: format!("{fault}; {}", self.message), ..self }
    }

    /// An error of the command line or the run file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Status::Usage, message)
    }

    /// A panic, by what it carries: a bug, as one in a stage is.
    pub fn panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message");
        Self::new(Status::Internal, format!("a fault of its own: {text}; this is a bug, please report it"))
    }

    /// Something that could not be written.
    pub fn storage(message: impl fmt::Display) -> Self {
        Self::new(Status::Storage, format!("{message}; make room or choose another place"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<Deadlock> for Failure {
    /// No schedule of the family ends so; a test holds that.
    fn from(deadlock: Deadlock) -> Self {
        Self::new(Status::Internal, format!("the schedule does not end: {deadlock:?}"))
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<PlacementError> for Failure {
    fn from(error: PlacementError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<StalenessError> for Failure {
    fn from(error: StalenessError) -> Self {
        Self::usage(error.to_string())
    }
}

fn data_status(error: &DataError) -> Status {
    match error {
        DataError::Loader { .. } => Status::Internal,
        error if error.is_setting() => Status::Usage,
        _ => Status::Data,
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::new(data_status(&error), error.to_string())
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        if error.is_storage() {
            return Self::storage(error);
        }
        let status = match error {
            CheckpointError::InUse { .. } => Status::InUse,
            CheckpointError::Nested { .. } => Status::Usage,
            CheckpointError::NotFinite { .. } => Status::Numerics,
            CheckpointError::Panic { .. } => Status::Internal,
            _ => Status::Checkpoint,
        };
        Self::new(status, error.to_string())
    }
}

fn device_status(error: &DeviceError) -> Status {
    match error {
        DeviceError::OutOfMemory { .. } => Status::Memory,
        DeviceError::Timeout { .. } => Status::Hang,
        DeviceError::Ambiguous { .. } => Status::Usage,
        _ => Status::Device,
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Self {
        let lost = matches!(error, DeviceError::Lost { .. });
        let device = error.device().map(str::to_owned);
        Self { lost, device, ..Self::new(device_status(&error), error.to_string()) }
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        let status = match &error {
            PipelineError::Device { source, .. } => device_status(source),
            PipelineError::Hang { .. } => Status::Hang,
            PipelineError::NotFinite { .. } | PipelineError::BrokenWeights { .. } => Status::Numerics,
            PipelineError::Data(error) => error.downcast_ref().map_or(Status::Data, data_status),
            PipelineError::Microbatches { .. }
            | PipelineError::Shape(_)
            | PipelineError::Schedule(_)
            | PipelineError::Staleness(_) => Status::Usage,
            PipelineError::Parameters(_) => Status::Checkpoint,
            PipelineError::Panic { .. }
            | PipelineError::Feeder(_)
            | PipelineError::WrongMessage { .. }
            | PipelineError::Checksum { .. }
            | PipelineError::Disconnected { .. }
            | PipelineError::Ended => Status::Internal,
        };
        let message = error.to_string();
        match error {
            PipelineError::Device { source, .. } => Self { message, ..Self::from(source) },
            _ => Self::new(status, message),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        match error {
            TrainError::Pipeline(error) => error.into(),
            TrainError::Checkpoint(error) => error.into(),
        }
    }
}
