#![doc = include_str!("../README.md")]

mod batch;
mod checkpoint;
mod data_parallel;
mod disturb;
mod error;
mod feeder;
#[cfg(fuzzing)]
pub mod fuzz;
mod learning_rate;
mod link;
pub mod model;
pub mod partition;
mod pipeline;
mod placement;
pub mod plan;
mod report;
pub mod schedule;
mod stage;
pub mod staleness;
mod tensors;
mod train;
mod watchdog;

pub use batch::{Batches, Samples, microbatches};
pub use checkpoint::{
    Checkpoint, CheckpointError, Manifest, Store, Values, check_writable, files_written, read_tensors, write_file,
    write_tensors,
};
pub use data_parallel::{DataParallel, DataParallelOptions, DataParallelReport, WorkerReport};
pub use error::PipelineError;
pub use link::{Message, Payload, Tag};
pub use pipeline::{Metrics, Optimiser, Pipeline, PipelineOptions, Stretch, StretchReport, Walked};
pub use placement::{LayerTimes, Placement, PlacementError};
pub use report::{Record, StageReport, Tally, transfers};
pub use tensors::{Carried, NamedTensor};
pub use train::{
    BoxError, Checkpoints, LearningRate, Position, Progress, RunReport, Source, TrainError, TrainOptions, end_part,
    train,
};
pub use watchdog::Doing;
