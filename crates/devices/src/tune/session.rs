//! The tasks of a run on one kind of adapter: what the cache knows, then what must be measured.

use std::collections::BTreeMap;

use super::anatomy::Atlas;
use super::bench::{Bench, Verdict};
use super::cache::Found;
use super::candidates::Candidates;
use super::{Opener, Task, Tuning, TuningReport, WrongVariant};
use crate::selection::{Selection, ShapeClass};
use crate::{DeviceError, DeviceInfo, Executor};

/// How many right candidates `quick` times at most.
const QUICK: usize = 3;

/// `quick` leaves out what the cost model takes to be so many times slower than its best.
const NOT_WORTH_TRYING: f64 = 4.0;

/// One kind of adapter being tuned.
pub(super) struct Session<'a> {
    effort: Tuning,
    info: &'a DeviceInfo,
    open: Opener<'a>,
    device: Option<Box<dyn Executor>>,
    atlas: Atlas,
    selection: Selection,
    report: TuningReport,
}

impl<'a> Session<'a> {
    pub(super) fn new(effort: Tuning, info: &'a DeviceInfo, open: Opener<'a>) -> Self {
        Self {
            effort,
            info,
            open,
            device: None,
            atlas: Atlas::default(),
            selection: Selection::default(),
            report: TuningReport::default(),
        }
    }

    /// What was chosen and excluded, and what that took.
    pub(super) fn finish(self) -> (Selection, TuningReport) {
        (self.selection, self.report)
    }

    fn candidates(&mut self, task: &Task) -> Candidates {
        Candidates::of(task, &self.info.limits, &self.selection, &mut self.atlas)
    }

    /// Takes from the cache what still holds for these tasks: first what is wrong, then what is fastest.
    pub(super) fn recall(
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
    pub(super) fn measure(
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
