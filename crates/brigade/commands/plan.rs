//! `brigade plan`: what a run will need of each stage, before it starts.

use std::cmp::Reverse;
use std::path::PathBuf;

use brigade::{Failure, Placement, Settings, Words};
use brigade_devices::CountingExecutor;
use brigade_pipeline::plan::{MemoryPlan, Plan, PlanOptions};
use brigade_pipeline::schedule::picture::grid;
use brigade_pipeline::schedule::{Durations, Schedule, simulate};
use serde::Serialize;

use super::setup;
use crate::output;

/// The flags of `plan`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run file
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    words: Words,
    /// Prints the schedule of this many steps as a grid: a column is the time of a forward, a backward takes two
    #[arg(long, value_name = "STEPS")]
    grid: Option<usize>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Microbatches that a grid shows, at most: more would be no picture.
const MOST_SHOWN: usize = 4096;

/// Largest buffer where no device is named: that of WebGPU's defaults would split VGG-F's weights.
const UNNAMED_BUFFER_BYTES: u64 = 1 << 30;

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let settings = Settings::new(args.config.as_deref(), args.words)?;
    let grid = args.grid.map(|steps| Grid::new(&settings, steps)).transpose()?;
    let (placement, devices) = placement(&settings)?;
    let ranges: Vec<_> = placement.stages.iter().map(|(_, range)| range.clone()).collect();
    let options = PlanOptions {
        schedule: settings.schedule,
        batch: settings.batch,
        microbatches: settings.microbatches,
        staleness: settings.staleness,
        run: None,
    };
    let plan = Plan::new(&settings.model, &ranges, options, &devices)?;
    let grid = grid.map(|grid| grid.drawn(&settings, placement.stages.len())).transpose()?;
    if args.json {
        return output::json(&Document { plan: &plan, grid });
    }
    print(&plan, &placement)?;
    grid.map_or(Ok(()), output::line)
}

/// The plan as one JSON document.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    grid: Option<String>,
}

/// A picture of so many steps.
struct Grid {
    steps: usize,
}

impl Grid {
    fn new(settings: &Settings, steps: usize) -> Result<Self, Failure> {
        let most = MOST_SHOWN / settings.microbatches;
        match steps {
            0 => Err(Failure::usage("grid: 0 is not possible; at least 1 is")),
            _ if steps > most => Err(Failure::usage(format!(
                "grid: {steps} steps of {} microbatches are not possible; at most {MOST_SHOWN} microbatches are",
                settings.microbatches
            ))),
            _ => Ok(Self { steps }),
        }
    }

    fn drawn(&self, settings: &Settings, stages: usize) -> Result<String, Failure> {
        let schedule = Schedule::new(settings.schedule, stages);
        let durations = vec![Durations::whole(1.0, 2.0, 0.0); stages];
        let capacity = |link| schedule.capacity(link, settings.microbatches);
        let steps = vec![settings.microbatches; self.steps];
        let simulation = simulate(&schedule, &steps, &durations, &[], capacity)?;
        Ok(format!("{}{:.1} % idle", grid(&simulation.timeline, 1.0), 100.0 * simulation.bubble))
    }
}

/// A plan needs no device: where none is named the stages have none.
fn placement(settings: &Settings) -> Result<(Placement, Vec<CountingExecutor>), Failure> {
    if settings.devices.is_empty() {
        return setup::placement_anywhere(settings, UNNAMED_BUFFER_BYTES);
    }
    let (placement, devices) = setup::placement(settings, None)?;
    Ok((placement, devices.into_iter().map(CountingExecutor::new).collect()))
}

/// What a stage's memory is for, the largest first.
fn purposes(memory: &MemoryPlan) -> String {
    let mut parts = [
        ("weights", memory.weights),
        ("gradients", memory.gradients),
        ("optimiser", memory.optimiser),
        ("weight versions", memory.weight_versions),
        ("activations", memory.activations),
        ("activation gradients", memory.activation_gradients),
        ("staging", memory.staging),
        ("workspace", memory.workspace),
        ("small", memory.small),
    ];
    parts.sort_by_key(|&(_, bytes)| Reverse(bytes));
    let held = parts.iter().filter(|&&(_, bytes)| bytes > 0);
    held.map(|&(purpose, bytes)| format!("{purpose} {}", output::bytes(bytes))).collect::<Vec<_>>().join(" · ")
}

fn print(plan: &Plan, placement: &Placement) -> Result<(), Failure> {
    output::line(format!(
        "{}: {} parameters, {:.3} GFLOP a step of {}, schedule {}, at most {:.2} × one stage by FLOPs",
        plan.model,
        plan.parameters,
        plan.flops as f64 / 1e9,
        plan.batch,
        plan.schedule,
        plan.speedup_bound
    ))?;
    for (stage, (device, _)) in plan.stages.iter().zip(&placement.stages) {
        let layers: Vec<_> = stage.layers.iter().map(|layer| layer.name.as_str()).collect();
        output::line(format!(
            "stage {} on {device}: {}\n  {} parameters · {:.1} % of the FLOPs · {} activation sets · staleness {} · {} of memory",
            stage.stage,
            layers.join(" "),
            stage.parameters,
            100.0 * stage.share,
            stage.activation_sets,
            stage.staleness,
            output::bytes(stage.memory.total)
        ))?;
        output::line(format!("  {}", purposes(&stage.memory)))?;
    }
    plan.links.iter().try_for_each(|link| {
        output::line(format!(
            "link {} → {}: {} of activations forward, {} of gradients back, a step",
            link.from,
            link.to,
            output::bytes(link.activation_bytes),
            output::bytes(link.gradient_bytes)
        ))
    })
}
