//! `brigade bench step`: a training step through the real pipeline, on synthetic data.
//!
//! Two pipelines are measured in turn: one as training runs it, for the time of a step, and one on devices that are
//! profiled, for what the step consists of. Shares are of the profiled steps, so that both sides of a ratio were
//! measured together.

use brigade::{Failure, Placement, Schedule, Tuning, built_in, check_stages, choose};
use brigade_kernels::Precision;

use crate::output;

mod report;
mod run;

/// The flags of `bench step`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Built-in model
    #[arg(long, default_value = "cnn-small")]
    model: String,
    /// Samples of a step
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Devices, one for each stage or one for all [default: every GPU]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    /// Stages [default: one for each device]
    #[arg(long)]
    stages: Option<usize>,
    /// Schedule
    #[arg(long, default_value = "layer-block-wise")]
    schedule: String,
    /// Microbatches of a step
    #[arg(long, default_value_t = 1)]
    microbatches: usize,
    /// Driver threads of each software adapter [default: the cores shared among them]
    #[arg(long)]
    threads: Option<usize>,
    /// Steps that are measured of each pipeline, in all rounds
    #[arg(long, default_value_t = 20)]
    steps: usize,
    /// Rounds, in which the two pipelines take turns
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// Tuning of kernels: off, quick or full
    #[arg(long, default_value_t)]
    tune: Tuning,
    /// What operands of products may be rounded to
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.steps == 0 || args.rounds == 0 || args.batch == 0 || args.threads == Some(0) {
        return Err(Failure::usage("bench step: batch, steps, rounds and threads are at least one"));
    }
    let model = built_in(&args.model)?;
    if let Some(stages) = args.stages {
        check_stages(&model, stages)?;
    }
    let schedule: Schedule = args.schedule.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let devices = choose(&args.devices, args.stages, false)?;
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    let placement = Placement::balanced(&model, &names)?;
    let mut plain = run::Bench::new(args, &model, &placement, schedule, false)?;
    let mut profiled = run::Bench::new(args, &model, &placement, schedule, true)?;
    let steps = args.steps.div_ceil(args.rounds);
    for round in 0..args.rounds {
        output::tell(format_args!("round {} of {}", round + 1, args.rounds));
        plain.round(steps)?;
        profiled.round(steps)?;
    }
    let report = report::Report::new(args, &model, &placement, &plain, &profiled);
    if args.json { output::json(&report) } else { report.print() }
}
