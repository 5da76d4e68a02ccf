//! What tuning has found in this process, for runs that start again in it: where nothing can be kept on disk another
//! variant might win the next time, and where something can, another run may have tuned more meanwhile.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::cache::{Cache, Findings};

/// What tuning has found so far, by kind of adapter. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct TuningMemory(Arc<Mutex<BTreeMap<String, Findings>>>);

impl TuningMemory {
    fn findings(&self) -> MutexGuard<'_, BTreeMap<String, Findings>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found for the adapters of a file.
    pub(super) fn recall(&self, cache: &Cache) -> Findings {
        self.findings().get(&cache.name()).cloned().unwrap_or_default()
    }

    /// Remembers what a run goes on with on the adapters of a file.
    pub(super) fn keep(&self, cache: &Cache, found: Findings) {
        self.findings().entry(cache.name()).or_default().extend(found);
    }
}
