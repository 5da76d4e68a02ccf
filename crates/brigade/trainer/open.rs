//! The devices of a run: opened, their kernels chosen and held against the reference.

use std::ops::Range;
use std::time::Duration;

use brigade_devices::{DeviceInfo, Executor, OpenOptions, Selection, StandIn, Task, Tuner, TuningReport, Watched};
use brigade_kernels::Limits;
use brigade_pipeline::{Pipeline, PipelineOptions};

use super::{Trainer, resolve, threads_each};
use crate::failure::{Failure, Status};
use crate::self_tests;

/// How long it may take until the first kernel runs: the device is opened meanwhile.
const OPENING: Duration = Duration::from_secs(60);

impl Trainer {
    /// For each range of layers an opened device, its kernels chosen and held against the reference. Where one stage is to
    /// be `alone`, the others have stand-ins.
    pub(super) fn executors(
        &self,
        ranges: &[Range<usize>],
        options: &PipelineOptions,
        alone: Option<usize>,
    ) -> Result<(Vec<Box<dyn Executor>>, TuningReport), Failure> {
        let devices = resolve(&self.placement)?;
        let threads = self.threads.unwrap_or_else(|| threads_each(&devices));
        let tasks = Pipeline::tasks(&self.model, ranges, options)?;
        let (selections, report) = self.tuned(&devices, &tasks, threads)?;
        let computes = |stage: usize| alone.is_none_or(|alone| alone == stage);
        let open = |stage: usize| -> Result<self_tests::Tested, Failure> {
            if !computes(stage) {
                return Ok((Box::new(StandIn::new()), Vec::new()));
            }
            let mut executor = self.open(&devices[stage], threads)?;
            executor.selection_mut().adopt(&selections[stage]);
            Ok((executor, tasks[stage].clone()))
        };
        let opened = (0..devices.len()).map(open).collect::<Result<Vec<_>, _>>()?;
        Ok((self_tests::at_once(opened)?, report))
    }

    /// A selection for each stage. Adapters of one kind are tuned as one, for all their stages together, so that where
    /// a layer runs does not decide with which variant. What a trainer has once found it finds again, so that a recovery
    /// goes on with the same kernels.
    pub(super) fn tuned(
        &self,
        devices: &[DeviceInfo],
        tasks: &[Vec<Task>],
        threads: usize,
    ) -> Result<(Vec<Selection>, TuningReport), Failure> {
        let tuner = Tuner::new(self.tune).remembering(&self.tuned);
        let mut selections = vec![Selection::default(); devices.len()];
        let mut report = TuningReport::default();
        for (first, device) in devices.iter().enumerate() {
            if devices[..first].iter().any(|earlier| earlier.is_like(device)) {
                continue;
            }
            let alike: Vec<usize> = (first..devices.len()).filter(|&stage| devices[stage].is_like(device)).collect();
            let theirs: Vec<Task> = alike.iter().flat_map(|&stage| tasks[stage].clone()).collect();
            let (tuner, opened, options) = (tuner.clone(), device.clone(), self.open_options(threads));
            let limits = Limits { precision: self.precision, ..device.limits.clone() };
            let tuned = DeviceInfo { limits, ..device.clone() };
            let (selection, found) = watched(device, "tuning", move || {
                Ok(tuner.tune(&tuned, &theirs, &mut || brigade_devices::open(&opened, &options))?)
            })?;
            alike.iter().for_each(|&stage| selections[stage] = selection.clone());
            report.absorb(found);
        }
        Ok((selections, report))
    }

    fn open_options(&self, threads: usize) -> OpenOptions {
        OpenOptions { threads: Some(threads), precision: self.precision, ..OpenOptions::default() }
    }

    pub(super) fn open(&self, device: &DeviceInfo, threads: usize) -> Result<Box<dyn Executor>, Failure> {
        let options =
            OpenOptions { profile: self.profile, budget_bytes: self.memory_budget, ..self.open_options(threads) };
        Ok(brigade_devices::open(device, &options)?)
    }
}

/// Work on a device before there are stages, on a thread of its own: where it hangs, that thread is left alone.
///
/// # Errors
/// Those of the work, or that the device hangs.
pub fn watched<T: Send + 'static>(
    device: &DeviceInfo,
    what: &str,
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let name = &device.name;
    let watched = Watched::start(format!("{what} on {name}"), name, what, OPENING, work);
    let failed = |error| Failure::new(Status::Internal, format!("{name}: no thread for {what}: {error}"));
    watched.map_err(failed)?.wait()?
}
