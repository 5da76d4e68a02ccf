//! Checkpoints: a directory for each, of safetensors files and a manifest, written beside and renamed.
//!
//! ```text
//! DIR/step-00001875/manifest.json         format, serial number, position, configuration, checksums
//!                  /weights.safetensors   conv1.weight, conv1.bias, … as a PyTorch state dict names them
//!                  /momentum.safetensors  the optimiser's state, under the same names
//! ```
//!
//! Tensors are named by layer, not by stage: any number of stages, placement or schedule resumes.

mod destination;
mod disk;
mod files;
mod folder;
mod header;
mod lock;
mod manifest;
mod order;
mod read;
mod retention;
mod store;
mod writer;

#[cfg(fuzzing)]
pub(crate) use files::read_bytes;
#[cfg(fuzzing)]
pub(crate) use manifest::{check_text, parse_manifest};

use std::path::PathBuf;

use thiserror::Error;

pub use destination::{check_writable, files_written};
pub use files::{Values, read_tensors, write_file, write_tensors};
pub use manifest::Manifest;
pub use read::Checkpoint;
pub use store::Store;
pub(crate) use writer::Writer;

/// A checkpoint or model file that cannot be read or written.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The system refused.
    #[error("{action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried, such as `reading`.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// No checkpoint where one was wanted.
    #[error("{path} has no checkpoint: wanted a folder `step-…` with manifest.json, or a .safetensors file", path = path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The file is not what it should be.
    #[error("{path}: {reason}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was wanted and found.
        reason: String,
    },
    /// A tensor's bytes are not those that were written.
    #[error("{path}: tensor `{tensor}` is damaged: its checksum should be {wanted:08x} and is {found:08x}; use an older checkpoint", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Checksum in the manifest.
        wanted: u32,
        /// Checksum of what was read.
        found: u32,
    },
    /// Weights that cannot be computed with.
    #[error("{path}: `{tensor}` has weights that are no numbers; use an older checkpoint", path = path.display())]
    NotFinite {
        /// The file or folder.
        path: PathBuf,
        /// The first such parameter.
        tensor: String,
    },
    /// Another run publishes there.
    #[error("{path} is in use by {holder}; choose another directory, or end that run", path = path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Process and host of the other run.
        holder: String,
    },
    /// A checkpoint where a directory of checkpoints is wanted.
    #[error("{path} is a checkpoint or has the name of one, and none can be saved in another; name the directory that it is in, {directory}", path = path.display(), directory = directory.display())]
    Nested {
        /// The checkpoint.
        path: PathBuf,
        /// The directory that it is in.
        directory: PathBuf,
    },
    /// The thread that writes checkpoints ended with a fault of its own.
    #[error("{path}: the thread that writes checkpoints ended with a fault of its own: {message}; this is a bug, please report it", path = path.display())]
    Panic {
        /// The directory.
        path: PathBuf,
        /// What the thread said.
        message: String,
    },
    /// The tensors are another model's.
    #[error("{path} holds another model's tensors: {}", mismatches.join("; "), path = path.display())]
    OtherModel {
        /// The file or directory.
        path: PathBuf,
        /// The first five differences.
        mismatches: Vec<String>,
    },
}

impl CheckpointError {
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// Whether writing failed, as opposed to what was read being wrong.
    pub fn is_storage(&self) -> bool {
        matches!(self, Self::Io { action, .. } if *action != "reading")
    }
}
