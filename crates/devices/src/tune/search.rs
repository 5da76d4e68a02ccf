//! The tasks of a run on one kind of adapter: what the cache knows, then what must be measured.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::anatomy::Atlas;
use super::bench::{Bench, Verdict};
use super::cache::{Findings, Found};
use super::candidates::{Candidate, Candidates};
use super::{Opener, Task, Tuning, TuningReport, WrongVariant};
use crate::selection::{Selection, ShapeClass};
use crate::{DeviceError, DeviceInfo, Executor};

/// How many right candidates `quick` times at most: on software adapters, where one takes a second, and on GPUs.
const QUICK: usize = 3;
const QUICK_ON_GPU: usize = 8;

/// After this time `quick` takes the first right one for what is left.
const QUICK_BUDGET: Duration = Duration::from_secs(12);

/// `quick` leaves out what the cost model takes to be so many times slower than its best.
const NOT_WORTH_TRYING: f64 = 4.0;

/// One kind of adapter being tuned.
pub(super) struct Search<'a> {
    effort: Tuning,
    started: Instant,
    info: &'a DeviceInfo,
    open: Opener<'a>,
    device: Option<Box<dyn Executor>>,
    atlas: Atlas,
    selection: Selection,
    /// Variants with which the device has gone once, by operation and pass.
    suspects: BTreeSet<(&'static str, &'static str, &'static str)>,
    report: TuningReport,
}

impl<'a> Search<'a> {
    pub(super) fn new(effort: Tuning, info: &'a DeviceInfo, open: Opener<'a>) -> Self {
        Self {
            effort,
            started: Instant::now(),
            info,
            open,
            device: None,
            atlas: Atlas::default(),
            selection: Selection::default(),
            suspects: BTreeSet::new(),
            report: TuningReport::default(),
        }
    }

    /// What was chosen and excluded, and what that took.
    pub(super) fn finish(self) -> (Selection, TuningReport) {
        (self.selection, self.report)
    }

    fn candidates<'t>(&self, task: &'t Task) -> Candidates<'t> {
        Candidates::of(task, &self.info.limits, &self.selection)
    }

    /// Takes from the cache what still holds for these tasks: first what is wrong, then what is fastest.
    pub(super) fn recall(&mut self, tasks: &BTreeMap<ShapeClass, &Task>, known: Vec<Found>) -> Findings {
        let holds = |(class, found): &(ShapeClass, Found)| {
            tasks.get(class).is_some_and(|task| found.serves(self.candidates(task).fingerprint, self.effort))
        };
        let of_class = known.into_iter().filter_map(|found| Some((found.class()?, found)));
        let known: Findings = of_class.filter(holds).collect();
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

    /// Chooses for every task that leaves a choice; gives what was found for each, and of that what was not known. A variant
    /// that turns out to be wrong in one shape is not trusted in any: what had chosen it chooses again.
    pub(super) fn measure(
        &mut self,
        tasks: &BTreeMap<ShapeClass, &Task>,
        known: Findings,
    ) -> Result<(Findings, Findings), DeviceError> {
        let mut found = known;
        let mut new = BTreeMap::new();
        loop {
            let excluded_before = self.selection.excluded().count();
            for (class, &task) in tasks {
                let candidates = self.candidates(task);
                let choice = found.get(class).and_then(|found| candidates.find(&found.choice));
                if let Some(choice) = choice {
                    self.selection.choose(class.clone(), choice);
                    continue;
                }
                let judged = if candidates.leave_a_choice() { self.judge(task, class)? } else { None };
                let Some(mut judged) = judged else { continue };
                if let Some(choice) = candidates.find(&judged.choice) {
                    self.selection.choose(class.clone(), choice);
                }
                if let Some(before) = found.remove(class) {
                    judged.wrong.extend(before.wrong);
                }
                new.insert(class.clone(), judged.clone());
                found.insert(class.clone(), judged);
            }
            if self.selection.excluded().count() == excluded_before {
                break;
            }
        }
        self.report.kernels = found.len();
        self.report.cached = found.keys().filter(|class| !new.contains_key(class)).count();
        Ok((found, new))
    }

    /// Compares and times the candidates of a task; none where the device has no room for it.
    fn judge(&mut self, task: &Task, class: &ShapeClass) -> Result<Option<Found>, DeviceError> {
        let mut wrong = BTreeMap::new();
        loop {
            let candidates = self.candidates(task);
            let ranked = candidates.ranked(&self.info.limits, &mut self.atlas);
            tracing::debug!(kernel = task.name(), ?ranked, "candidates");
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
            let Some(()) = self.examine(task, &ranked, &mut bench, &mut wrong)? else { continue };
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

    /// Holds candidates against the reference until enough are right; none where the device was lost on the way. A variant
    /// that it goes with once is tried again, as drivers are reset for reasons of others too; with which it goes twice is
    /// excluded.
    fn examine(
        &mut self,
        task: &Task,
        ranked: &[Candidate],
        bench: &mut Bench,
        wrong: &mut BTreeMap<String, String>,
    ) -> Result<Option<()>, DeviceError> {
        let best = ranked.first().map_or(0.0, |candidate| candidate.seconds);
        let quick = if self.info.is_software() { QUICK } else { QUICK_ON_GPU };
        for candidate in ranked {
            let most = if self.started.elapsed() < QUICK_BUDGET { quick } else { 1 };
            let hopeless = bench.right() > 0 && candidate.seconds > NOT_WORTH_TRYING * best;
            if self.effort == Tuning::Quick && (hopeless || bench.right() >= most) {
                break;
            }
            let verdict = bench.examine(candidate.variant)?;
            if let Verdict::Fatal(detail) = &verdict
                && self.suspects.insert((task.operation.name(), task.pass.name(), candidate.variant))
            {
                tracing::warn!(
                    device = self.info.name,
                    "kernel {} {}: {detail}; trying again",
                    task.name(),
                    candidate.variant
                );
                return Ok(None);
            }
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
