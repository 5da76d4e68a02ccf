//! Tuning: which variant of each kernel is the fastest on an adapter, found by holding the candidates against the
//! reference and then timing them, and kept on disk.
//!
//! `search` goes through the tasks of a run. `candidates` says what could be used and in which order it is worth
//! trying, by the model in `cost` (which asks `anatomy` what an entry point is made of); `proof` has the data and what
//! they must give; `bench` runs; `cache` is the file.

mod anatomy;
mod bench;
mod cache;
mod candidates;
mod cost;
mod memory;
mod proof;
mod search;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brigade_kernels::{Fusion, Operation, Pass, Problem};
use serde::{Deserialize, Serialize};

use self::cache::Cache;
pub use self::memory::TuningMemory;
use self::search::Search;
use crate::selection::{Selection, ShapeClass};
use crate::{DeviceError, DeviceInfo, Executor, Kind};

/// How much is tried to find the fastest variants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tuning {
    /// Nothing: the operation's own order decides.
    Off,
    /// The few that the cost model thinks best.
    #[default]
    Quick,
    /// Every variant that runs on the adapter.
    Full,
}

impl Tuning {
    /// All of them, from the least to the most.
    pub const ALL: [Self; 3] = [Self::Off, Self::Quick, Self::Full];

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Quick => "quick",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Tuning {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|t| t.name() == word).ok_or_else(|| format!("`{word}` is none of {}", known()))
    }
}

/// A pass that a run will compute over and over.
#[derive(Debug, Clone)]
pub struct Task {
    /// The operation with its attributes.
    pub operation: Arc<dyn Operation>,
    /// The pass.
    pub pass: Pass,
    /// Its size.
    pub problem: Problem,
}

impl Task {
    /// The same without the rectifiers that are fused to it: what is measured, whatever a stage fuses.
    fn plain(&self) -> Self {
        let plain = if self.operation.fusion() == Fusion::NONE { None } else { self.operation.fused(Fusion::NONE) };
        Self { operation: plain.unwrap_or_else(|| self.operation.clone()), ..*self }
    }

    fn class(&self) -> ShapeClass {
        ShapeClass::of(self.operation.as_ref(), self.pass, self.problem)
    }

    fn name(&self) -> String {
        format!("{}/{}", self.operation.name(), self.pass)
    }
}

/// A variant that computed wrong numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongVariant {
    /// The adapter.
    pub device: String,
    /// The operation.
    pub operation: &'static str,
    /// The pass.
    pub pass: &'static str,
    /// The variant.
    pub variant: &'static str,
    /// What was wrong.
    pub detail: String,
}

/// What tuning did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TuningReport {
    /// Kernels that there was a choice for.
    pub kernels: usize,
    /// Those of them that the cache knew.
    pub cached: usize,
    /// How long it took.
    pub elapsed: Duration,
    /// What was found wrong, now or by the run that filled the cache.
    pub wrong: Vec<WrongVariant>,
}

impl TuningReport {
    /// Adds what was done for another kind of adapter.
    pub fn absorb(&mut self, other: Self) {
        self.kernels += other.kernels;
        self.cached += other.cached;
        self.elapsed += other.elapsed;
        self.wrong.extend(other.wrong);
    }
}

impl fmt::Display for TuningReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernels, cached, elapsed, .. } = self;
        write!(f, "tuned {kernels} kernels in {:.1} s ({cached} from the cache)", elapsed.as_secs_f64())
    }
}

/// Opens a device to measure on: one of its own, so that a stage's ledger, rings and pipelines hold nothing of it.
pub type Opener<'a> = &'a mut dyn FnMut() -> Result<Box<dyn Executor>, DeviceError>;

/// Finds the fastest variants that are right.
#[derive(Debug, Clone)]
pub struct Tuner {
    effort: Tuning,
    folder: Option<PathBuf>,
    memory: TuningMemory,
}

impl Tuner {
    /// A tuner that keeps what it finds in the folder that `BRIGADE_CACHE_DIR` names, else in the user's cache.
    pub fn new(effort: Tuning) -> Self {
        Self { effort, folder: cache::folder(), memory: TuningMemory::default() }
    }

    /// Keeps what is found in `folder`, or nowhere.
    #[must_use]
    pub fn folder(mut self, folder: Option<PathBuf>) -> Self {
        self.folder = folder;
        self
    }

    /// Finds again what was found with the same memory, whatever has become of the folder.
    #[must_use]
    pub fn remembering(mut self, memory: &TuningMemory) -> Self {
        self.memory = memory.clone();
        self
    }

    /// Choices for `tasks` on adapters of the kind of `info`, from the cache where it has them. A device is opened
    /// only where something must be measured.
    ///
    /// # Errors
    /// Where no device can be opened, or every variant of a kernel computes wrong numbers.
    pub fn tune(
        &self,
        info: &DeviceInfo,
        tasks: &[Task],
        open: Opener<'_>,
    ) -> Result<(Selection, TuningReport), DeviceError> {
        if self.effort == Tuning::Off || info.kind == Kind::Reference {
            return Ok((Selection::default(), TuningReport::default()));
        }
        let started = Instant::now();
        let cache = Cache::new(self.folder.as_deref(), info);
        let mut search = Search::new(self.effort, info, open);
        let tasks: Vec<Task> = tasks.iter().map(Task::plain).collect();
        let tasks: BTreeMap<ShapeClass, &Task> = tasks.iter().rev().map(|task| (task.class(), task)).collect();
        let mut known = cache.load();
        known.extend(self.memory.recall(&cache).into_values());
        let known = search.recall(&tasks, known);
        let (found, new) = search.measure(&tasks, known)?;
        if !new.is_empty() {
            cache.add(&new);
        }
        self.memory.keep(&cache, found);
        let (selection, mut report) = search.finish();
        report.elapsed = started.elapsed();
        tracing::debug!(device = info.name, "{report}");
        for (class, variant) in selection.chosen() {
            tracing::debug!(?class, variant, "chosen");
        }
        Ok((selection, report))
    }
}
