//! Whether a plan fits the memory that each device may use. Adapters report no budget of their own, so it is told.

use std::fmt::Write;
use std::ops::Range;

use brigade_devices::{CountingExecutor, DeviceInfo};
use brigade_pipeline::Placement;
use brigade_pipeline::plan::{Plan, PlanOptions};

use crate::failure::{Failure, Status};
use crate::settings::Settings;

/// Holds every stage's need against the budget before any device is opened.
///
/// # Errors
/// Lists need and budget of each stage, and a batch or a number of stages that fits.
pub fn check_budget(settings: &Settings, placement: &Placement, devices: &[DeviceInfo]) -> Result<(), Failure> {
    let Some(budget) = settings.memory_budget else { return Ok(()) };
    let ranges: Vec<_> = placement.stages.iter().map(|(_, range)| range.clone()).collect();
    let needs = needs(settings, &ranges, devices, settings.batch)?;
    if fits(&needs, budget) {
        return Ok(());
    }
    let mut message = String::from("the plan does not fit the memory budget:");
    for (stage, (need, (device, _))) in needs.iter().zip(&placement.stages).enumerate() {
        let verdict = if *need > budget { "too much" } else { "fits" };
        let _ = write!(message, " stage {stage} ({device}) needs {} of {}, {verdict};", mib(*need), mib(budget));
    }
    message.push_str(&advice(settings, &ranges, devices, budget)?);
    Err(Failure::new(Status::Memory, message))
}

/// Bytes that each stage needs on its device; where there are more stages than devices, these come round again. Tuning may
/// choose kernels that want more or less scratch memory than those it begins with.
fn needs(
    settings: &Settings,
    ranges: &[Range<usize>],
    devices: &[DeviceInfo],
    batch: usize,
) -> Result<Vec<u64>, Failure> {
    let options = PlanOptions {
        schedule: settings.schedule,
        batch,
        microbatches: settings.microbatches.min(batch),
        staleness: settings.staleness,
        run: None,
    };
    let counting = devices.iter().cloned().map(CountingExecutor::new).cycle().take(ranges.len());
    let plan = Plan::new(&settings.model, ranges, options, &counting.collect::<Vec<_>>())?;
    Ok(plan.stages.iter().map(|stage| stage.memory.total).collect())
}

fn fits(needs: &[u64], budget: u64) -> bool {
    needs.iter().all(|&need| need <= budget)
}

/// The largest halved batch that fits these stages, and the fewest further stages that this batch fits.
fn advice(
    settings: &Settings,
    ranges: &[Range<usize>],
    devices: &[DeviceInfo],
    budget: u64,
) -> Result<String, Failure> {
    let mut batch = settings.batch / 2;
    while batch > 0 && !fits(&needs(settings, ranges, devices, batch)?, budget) {
        batch /= 2;
    }
    let stages = (ranges.len() + 1..=settings.model.layers.len()).find(|&stages| {
        let balanced = Placement::balanced(&settings.model, &vec![""; stages]).map_err(Failure::from);
        let needs = balanced.and_then(|placement| {
            let ranges: Vec<_> = placement.stages.into_iter().map(|(_, range)| range).collect();
            needs(settings, &ranges, devices, settings.batch)
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

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / 1_048_576.0)
}
