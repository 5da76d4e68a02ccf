//! Checkpoints that are written while training goes on.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use super::{CheckpointError, Manifest, Store};
use crate::NamedTensor;
use crate::feeder::panic_message;

/// Publishes checkpoints on a thread of its own, one at a time: the next is begun when the one before it is on the disk,
/// so that they come in their order and at most two snapshots are held.
pub(crate) struct Writer {
    store: Store,
    at_work: Option<JoinHandle<Result<PathBuf, CheckpointError>>>,
}

impl Writer {
    pub(crate) fn new(store: Store) -> Self {
        Self { store, at_work: None }
    }

    /// Begins to publish a checkpoint once the one before is published, and returns that one's folder.
    ///
    /// # Errors
    /// Where the one before could not be saved; then this one is not begun.
    pub(crate) fn begin(
        &mut self,
        manifest: Manifest,
        tensors: Arc<Vec<NamedTensor>>,
    ) -> Result<Option<PathBuf>, CheckpointError> {
        let before = self.finish()?;
        let store = self.store.clone();
        let thread = Builder::new().name("checkpoints".into());
        let started = thread.spawn(move || store.save(&manifest, &tensors));
        let failed = CheckpointError::io("starting the thread that writes to", self.store.directory());
        self.at_work = Some(started.map_err(failed)?);
        Ok(before)
    }

    /// The folder of a checkpoint that has been published since this was last asked. Does not wait.
    ///
    /// # Errors
    /// Where it could not be saved; told once.
    pub(crate) fn published(&mut self) -> Result<Option<PathBuf>, CheckpointError> {
        if self.at_work.as_ref().is_some_and(JoinHandle::is_finished) { self.finish() } else { Ok(None) }
    }

    /// As [`Writer::published`], and waits for a checkpoint that is being written.
    pub(crate) fn finish(&mut self) -> Result<Option<PathBuf>, CheckpointError> {
        let Some(thread) = self.at_work.take() else { return Ok(None) };
        let ended = thread.join().map_err(|panic| CheckpointError::Panic {
            path: self.store.directory().to_owned(),
            message: panic_message(panic.as_ref()),
        })?;
        ended.map(Some)
    }
}
