//! Whether a plan fits the memory that each device may use. Adapters report no budget of their own, so it is told.

use std::fmt::Write;
use std::ops::Range;

use brigade_devices::CountingExecutor;
use brigade_pipeline::Placement;
use brigade_pipeline::plan::{Plan, PlanOptions, RunLength};
use brigade_pipeline::schedule::Schedule;

use crate::failure::{Failure, Status};
use crate::settings::Settings;

/// Holds every device's need against the budget before any is opened: what its stages need together. Where the length of the run is known, the need
/// is that of all that it will submit, a smaller last step included.
///
/// # Errors
/// Lists need and budget of each device, and a batch or a number of stages that fits.
pub fn check_budget(
    settings: &Settings,
    placement: &Placement,
    devices: &[CountingExecutor],
    run: Option<RunLength>,
) -> Result<(), Failure> {
    let Some(budget) = settings.memory_budget else { return Ok(()) };
    let wanted = Wanted { settings, devices, run };
    let ranges: Vec<_> = placement.stages.iter().map(|(_, range)| range.clone()).collect();
    let needs = wanted.needs(&ranges, settings.batch)?;
    if fits(&needs, budget) {
        return Ok(());
    }
    let mut message = String::from("the plan does not fit the memory budget:");
    for (first, need) in needs.iter().enumerate() {
        let verdict = if *need > budget { "too much" } else { "fits" };
        let stages: Vec<_> = (first..ranges.len()).step_by(needs.len()).map(|stage| stage.to_string()).collect();
        let (stages, device) = (stages.join(", "), &placement.stages[first].0);
        let _ = write!(message, " stage {stages} ({device}) needs {} of {}, {verdict};", mib(*need), mib(budget));
    }
    message.push_str(&wanted.advice(&ranges, budget)?);
    Err(Failure::new(Status::Memory, message))
}

/// A run whose memory is asked for.
struct Wanted<'a> {
    settings: &'a Settings,
    devices: &'a [CountingExecutor],
    run: Option<RunLength>,
}

impl Wanted<'_> {
    /// Bytes that the stages of each device need on it; where there are more stages than devices are given, these come
    /// round again. Tuning may choose kernels that want more or less scratch memory than those it begins with.
    fn needs(&self, ranges: &[Range<usize>], batch: usize) -> Result<Vec<u64>, Failure> {
        let Settings { schedule, microbatches, staleness, .. } = *self.settings;
        let options = PlanOptions { schedule, batch, microbatches: microbatches.min(batch), staleness, run: self.run };
        let counting: Vec<_> = self.devices.iter().cloned().cycle().take(ranges.len()).collect();
        let plan = Plan::new(&self.settings.model, ranges, options, &counting)?;
        let rows = Schedule::new(schedule, ranges.len());
        let mut needs = vec![0; rows.devices()];
        plan.stages.iter().for_each(|stage| needs[rows.device(stage.stage)] += stage.memory.peak);
        Ok(needs)
    }

    /// The largest halved batch that fits these stages, and the fewest further stages that this batch fits.
    fn advice(&self, ranges: &[Range<usize>], budget: u64) -> Result<String, Failure> {
        let mut batch = self.settings.batch / 2;
        while batch > 0 && !fits(&self.needs(ranges, batch)?, budget) {
            batch /= 2;
        }
        let model = &self.settings.model;
        let stages = (ranges.len() + 1..=model.layers.len()).find(|&stages| {
            let balanced = Placement::balanced(model, &vec![""; stages]).map_err(Failure::from);
            let needs = balanced.and_then(|placement| {
                let ranges: Vec<_> = placement.stages.into_iter().map(|(_, range)| range).collect();
                self.needs(&ranges, self.settings.batch)
            });
            needs.is_ok_and(|needs| fits(&needs, budget))
        });
        Ok(match (batch, stages) {
            (0, None) => " neither a smaller batch nor more stages fit; give a larger --memory-budget".into(),
            (0, Some(stages)) => format!(" --stages {stages} fits"),
            (batch, None) => format!(" --batch {batch} fits"),
            (batch, Some(stages)) => format!(" --batch {batch} fits, or --stages {stages}"),
        })
    }
}

fn fits(needs: &[u64], budget: u64) -> bool {
    needs.iter().all(|&need| need <= budget)
}

/// Rounded up: a budget of what is said to be needed is enough.
fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", (bytes as f64 / 10_485.76).ceil() / 100.0)
}
