#![doc = include_str!("../../README.md")]

mod advice;
mod balance;
mod budget;
mod devices;
mod failure;
#[cfg(fuzzing)]
pub mod fuzz;
mod host;
mod recovery;
mod room;
mod self_tests;
mod settings;
mod source;
mod trainer;
mod words;

pub use advice::{Length, RECOMMENDED, staleness_warning};
pub use balance::Balance;
pub use brigade_data::{Kind as DataKind, Spec};
pub use brigade_devices::{DeviceInfo, Tuning, TuningReport, list};
pub use brigade_kernels::{Precision, Shape};
pub use brigade_pipeline::model::{ModelSpec, Sequential, built_in};
pub use brigade_pipeline::schedule::Kind as Schedule;
pub use brigade_pipeline::{
    LearningRate, Metrics, Optimiser, Pipeline, Placement, Position, Progress, TrainOptions, train,
};
pub use budget::check_budget;
pub use devices::{check_shared, choose, choose_interleaved, whole_names};
pub use failure::{Failure, Status};
pub use recovery::{OnNan, Recovery, Remedy, Start, Survived, start_through_losses, train_through_faults};
pub use room::check_room;
pub use settings::{Settings, check_stages};
pub use source::Data;
pub use trainer::{Trainer, open, threads_each, watched};
pub use words::Words;
