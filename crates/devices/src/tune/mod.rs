//! Tuning: which variant of each kernel is the fastest on an adapter, found by holding the candidates against the
//! reference and then timing them, and kept on disk.
//!
//! `candidates` says what could be used and in which order it is worth trying, by the model in `cost` (which asks
//! `anatomy` what an entry point is made of); `proof` has the data and what they must give; `bench` runs; `cache` is
//! the file.

mod anatomy;
mod bench;
mod cache;
mod candidates;
mod cost;
mod proof;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brigade_kernels::{Operation, Pass, Problem};
use serde::{Deserialize, Serialize};

use self::anatomy::Atlas;
use self::bench::{Bench, Verdict};
use self::cache::{Cache, Found};
use self::candidates::Candidates;
use crate::selection::{Selection, ShapeClass};
use crate::{DeviceError, DeviceInfo, Executor, Kind};

/// How many right candidates `quick` times at most.
const QUICK: usize = 3;

/// `quick` leaves out what the cost model takes to be so many times slower than its best.
const NOT_WORTH_TRYING: f64 = 4.0;

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
}

impl Tuner {
    /// A tuner that keeps what it finds in the folder that `BRIGADE_CACHE_DIR` names, else in the user's cache.
    pub fn new(effort: Tuning) -> Self {
        Self { effort, folder: cache::folder() }
    }

    /// Keeps what is found in `folder`, or nowhere.
    #[must_use]
    pub fn folder(mut self, folder: Option<PathBuf>) -> Self {
        self.folder = folder;
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
        let mut session = Session {
            effort: self.effort,
            info,
            open,
            device: None,
            atlas: Atlas::default(),
            selection: Selection::default(),
            report: TuningReport::default(),
        };
        let tasks: BTreeMap<ShapeClass, &Task> = tasks.iter().rev().map(|task| (task.class(), task)).collect();
        let known = session.recall(&tasks, cache.load());
        let new = session.measure(&tasks, known)?;
        if !new.is_empty() {
            cache.add(&new);
        }
        let Session { selection, mut report, .. } = session;
        report.elapsed = started.elapsed();
        tracing::debug!(device = info.name, "{report}");
        for (class, variant) in selection.chosen() {
            tracing::debug!(?class, variant, "chosen");
        }
        Ok((selection, report))
    }
}

/// One kind of adapter being tuned.
struct Session<'a> {
    effort: Tuning,
    info: &'a DeviceInfo,
    open: Opener<'a>,
    device: Option<Box<dyn Executor>>,
    atlas: Atlas,
    selection: Selection,
    report: TuningReport,
}

impl Session<'_> {
    fn candidates(&mut self, task: &Task) -> Candidates {
        Candidates::of(task, &self.info.limits, &self.selection, &mut self.atlas)
    }

    /// Takes from the cache what still holds for these tasks: first what is wrong, then what is fastest.
    fn recall(
        &mut self,
        tasks: &BTreeMap<ShapeClass, &Task>,
        mut known: BTreeMap<ShapeClass, Found>,
    ) -> BTreeMap<ShapeClass, Found> {
        known.retain(|class, found| {
            tasks.get(class).is_some_and(|task| found.serves(self.candidates(task).fingerprint, self.effort))
        });
        for (class, found) in &known {
            let task = tasks[class];
            let variants = task.operation.variants(task.pass);
            for (name, detail) in &found.wrong {
                if let Some(variant) = variants.iter().find(|variant| variant.name == name) {
                    self.exclude(task, variant.name, detail, "was found wrong here before");
                }
            }
        }
        known
    }

    /// Chooses for every task that leaves a choice; gives what the cache did not know. A variant that turns out to be
    /// wrong in one shape is not trusted in any: what had chosen it chooses again.
    fn measure(
        &mut self,
        tasks: &BTreeMap<ShapeClass, &Task>,
        known: BTreeMap<ShapeClass, Found>,
    ) -> Result<BTreeMap<ShapeClass, Found>, DeviceError> {
        let mut found = known;
        let mut new = BTreeMap::new();
        loop {
            let excluded_before = self.selection.excluded().count();
            for (class, &task) in tasks {
                let candidates = self.candidates(task);
                let choice = found.get(class).and_then(|found| candidates.find(&found.choice));
                let chosen = match choice {
                    Some(choice) => Some(choice),
                    None if candidates.leave_a_choice() => {
                        let judged = self.judge(task, class)?;
                        let choice = judged.as_ref().and_then(|found| candidates.find(&found.choice));
                        if let Some(judged) = judged {
                            new.insert(class.clone(), judged.clone());
                            found.insert(class.clone(), judged);
                        }
                        choice
                    }
                    None => None,
                };
                if let Some(variant) = chosen {
                    self.selection.choose(class.clone(), variant);
                }
            }
            if self.selection.excluded().count() == excluded_before {
                break;
            }
        }
        self.report.kernels = found.len();
        self.report.cached = found.keys().filter(|class| !new.contains_key(class)).count();
        Ok(new)
    }

    /// Compares and times the candidates of a task; none where the device has no room for it.
    fn judge(&mut self, task: &Task, class: &ShapeClass) -> Result<Option<Found>, DeviceError> {
        let mut wrong = BTreeMap::new();
        loop {
            let candidates = self.candidates(task);
            let device = match self.device.take() {
                Some(device) => device,
                None => (self.open)()?,
            };
            let mut bench = match Bench::new(device, task) {
                Ok(bench) => bench,
                Err((device, error @ DeviceError::OutOfMemory { .. })) => {
                    tracing::warn!("{} is not tuned: {error}", task.name());
                    self.device = Some(device);
                    return Ok(None);
                }
                Err((_, error)) => return Err(error),
            };
            let Some(()) = self.examine(task, &candidates, &mut bench, &mut wrong)? else { continue };
            let times = bench.race()?;
            self.device = Some(bench.close());
            let Some(&(choice, _)) = times.iter().min_by_key(|(_, time)| *time) else {
                return if wrong.is_empty() { Ok(None) } else { Err(self.nothing_left(task, &wrong)) };
            };
            tracing::debug!(device = self.info.name, kernel = task.name(), choice, ?times, "tuned");
            let mut found = Found::new(class, candidates.fingerprint, self.effort, choice);
            found.microseconds =
                times.iter().map(|(name, time)| ((*name).to_owned(), 1e6 * time.as_secs_f64())).collect();
            found.wrong = wrong;
            return Ok(Some(found));
        }
    }

    /// Holds candidates against the reference until enough are right; none where the device was lost on the way, and
    /// what lost it is excluded.
    fn examine(
        &mut self,
        task: &Task,
        candidates: &Candidates,
        bench: &mut Bench,
        wrong: &mut BTreeMap<String, String>,
    ) -> Result<Option<()>, DeviceError> {
        let best = candidates.ranked.first().map_or(0.0, |candidate| candidate.seconds);
        for candidate in &candidates.ranked {
            let enough = self.effort == Tuning::Quick
                && (bench.right() >= QUICK || (bench.right() > 0 && candidate.seconds > NOT_WORTH_TRYING * best));
            if enough {
                break;
            }
            let verdict = bench.examine(candidate.variant)?;
            if let Verdict::Wrong(detail) | Verdict::Fatal(detail) = &verdict {
                self.exclude(task, candidate.variant, detail, "is wrong here and is left out");
                wrong.insert(candidate.variant.to_owned(), detail.clone());
            }
            if let Verdict::Fatal(_) = verdict {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }

    fn exclude(&mut self, task: &Task, variant: &'static str, detail: &str, what: &str) {
        let (operation, pass) = (task.operation.name(), task.pass);
        if self.selection.excludes(operation, pass, variant) {
            return;
        }
        tracing::warn!(device = self.info.name, "kernel {operation}/{pass} {variant} {what}: {detail}");
        self.selection.exclude(operation, pass, variant);
        self.report.wrong.push(WrongVariant {
            device: self.info.name.clone(),
            operation,
            pass: pass.name(),
            variant,
            detail: detail.to_owned(),
        });
    }

    fn nothing_left(&self, task: &Task, wrong: &BTreeMap<String, String>) -> DeviceError {
        let details: Vec<_> = wrong.iter().map(|(variant, detail)| format!("{variant}: {detail}")).collect();
        DeviceError::WrongResults {
            device: self.info.name.clone(),
            operation: task.operation.name(),
            pass: task.pass.name(),
            detail: details.join("; "),
        }
    }
}
