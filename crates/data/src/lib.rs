#![doc = include_str!("../README.md")]
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | `spec` | [`Spec`], [`Kind`], [`open`]: from a name and a path to a training and a test split |
//! | `dataset`, `shape`, `source` | [`Dataset`], [`Batch`], [`Shape`], and the seam behind which the formats sit |
//! | `idx`, `cifar10`, `folder`, `picture` | formats read from files |
//! | `glyphs`, `strokes`, `synthetic` | pictures made at run time |
//! | `summary` | [`Normalisation`] and the fingerprint, both from one pass over the training split |
//! | `sampler`, `loader` | the order of an epoch, and the thread that prepares its batches ahead of time |
//! | `random` | counter-based random numbers |
//! | `files`, `error` | bounded reading, and [`DataError`] |
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::panic))]

mod cifar10;
mod dataset;
mod error;
mod files;
mod folder;
#[cfg(fuzzing)]
pub mod fuzz;
mod glyphs;
mod idx;
mod loader;
mod picture;
mod random;
mod sampler;
mod shape;
mod source;
mod spec;
mod strokes;
mod summary;
mod synthetic;

pub use dataset::{Batch, Dataset, Report, Skipped, Split};
pub use error::DataError;
pub use loader::Loader;
pub use random::Random;
pub use sampler::{Epoch, Sampler};
pub use shape::Shape;
pub use spec::{Kind, Spec, open};
pub use summary::Normalisation;
