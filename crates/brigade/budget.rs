//! Whether a plan fits the memory that each device may use. Adapters report no budget of their own, so it is told; what is
//! known is the memory of the host, which the reference and software adapters share.

use std::fmt::Write;
use std::ops::Range;

use brigade_devices::{CountingExecutor, Executor, Kind};
use brigade_pipeline::Placement;
use brigade_pipeline::plan::{Plan, PlanOptions, RunLength};
use brigade_pipeline::schedule::Schedule;

use crate::failure::{Failure, Status};
use crate::host;
use crate::settings::Settings;

/// Holds every device's need against the budget before any is opened: what its stages need together. Where the length of
/// the run is known, the need is that of all that it will submit, a smaller last step included, and what is needed of the
/// host is held against its memory.
///
/// # Errors
/// Lists need and budget of each device, and a batch or a number of stages that fits.
pub fn check_budget(
    settings: &Settings,
    placement: &Placement,
    devices: &[CountingExecutor],
    run: Option<RunLength>,
) -> Result<(), Failure> {
    let wanted = Wanted { settings, devices, run };
    if let Some(budget) = settings.memory_budget {
        wanted.check_devices(placement, budget)?;
    }
    // Without a run this is a plan, perhaps for another machine.
    let asked = run.is_some() && devices.iter().any(shares_host);
    let memory = asked.then(host::memory_bytes).flatten();
    memory.map_or(Ok(()), |memory| wanted.check_host(placement, memory))
}

/// A run whose memory is asked for.
struct Wanted<'a> {
    settings: &'a Settings,
    devices: &'a [CountingExecutor],
    run: Option<RunLength>,
}

impl Wanted<'_> {
    fn check_devices(&self, placement: &Placement, budget: u64) -> Result<(), Failure> {
        let ranges = ranges(placement);
        let needs = self.needs(&ranges, self.settings.batch)?;
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
        message.push_str(&self.advice(&ranges, budget));
        Err(Failure::new(Status::Memory, message))
    }

    fn check_host(&self, placement: &Placement, memory: u64) -> Result<(), Failure> {
        let ranges = ranges(placement);
        let on_host = |needs: &[u64]| -> u64 {
            let needs = needs.iter().zip(self.devices);
            needs.filter(|(_, device)| shares_host(device)).map(|(need, _)| need).sum()
        };
        // What cannot be planned is told where it is tried: other variants may be possible there.
        let need = self.needs(&ranges, self.settings.batch).map_or(0, |needs| on_host(&needs));
        if need <= memory {
            return Ok(());
        }
        let batch = match self.smaller_batch(&ranges, |needs| on_host(needs) <= memory) {
            0 => "no smaller batch fits".to_owned(),
            batch => format!("--batch {batch} fits"),
        };
        let message = format!(
            "the plan does not fit the memory of this machine: the stages on the reference and on software adapters need \
             {} together, and it has {}; {batch}, and a schedule with fewer activation sets in flight needs less",
            mib(need),
            mib(memory)
        );
        Err(Failure::new(Status::Memory, message))
    }

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
    fn advice(&self, ranges: &[Range<usize>], budget: u64) -> String {
        let batch = self.smaller_batch(ranges, |needs| fits(needs, budget));
        let model = &self.settings.model;
        let stages = (ranges.len() + 1..=model.layers.len()).find(|&stages| {
            let balanced = Placement::balanced(model, &vec![""; stages]).map_err(Failure::from);
            let needs = balanced.and_then(|placement| {
                let ranges: Vec<_> = placement.stages.into_iter().map(|(_, range)| range).collect();
                self.needs(&ranges, self.settings.batch)
            });
            needs.is_ok_and(|needs| fits(&needs, budget))
        });
        match (batch, stages) {
            (0, None) => " neither a smaller batch nor more stages fit; give a larger --memory-budget".into(),
            (0, Some(stages)) => format!(" --stages {stages} fits"),
            (batch, None) => format!(" --batch {batch} fits"),
            (batch, Some(stages)) => format!(" --batch {batch} fits, or --stages {stages}"),
        }
    }

    /// The largest halved batch that is possible and whose needs fit these stages; 0 for none.
    fn smaller_batch(&self, ranges: &[Range<usize>], fits: impl Fn(&[u64]) -> bool) -> usize {
        let mut batch = self.settings.batch / 2;
        while batch > 0 && !self.needs(ranges, batch).is_ok_and(|needs| fits(&needs)) {
            batch /= 2;
        }
        batch
    }
}

fn ranges(placement: &Placement) -> Vec<Range<usize>> {
    placement.stages.iter().map(|(_, range)| range.clone()).collect()
}

fn shares_host(device: &CountingExecutor) -> bool {
    matches!(device.info().kind, Kind::Reference | Kind::Software)
}

fn fits(needs: &[u64], budget: u64) -> bool {
    needs.iter().all(|&need| need <= budget)
}

/// Rounded up: a budget of what is said to be needed is enough.
fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", (bytes as f64 / 10_485.76).ceil() / 100.0)
}
