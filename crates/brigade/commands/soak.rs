//! `brigade soak`: trains for minutes under faults at random moments, and says what they cost.

mod faults;
mod memory;
mod report;
mod steps;
mod supervisor;

use std::path::PathBuf;
use std::time::Duration;

use brigade::Failure;

use crate::output;
use faults::Plan;
use supervisor::Supervisor;

/// The flags of `soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// Faults in a minute, on average; their moments are random
    #[arg(long, default_value_t = 2.0)]
    faults_per_minute: f64,
    /// Kinds of faults to take turns in [default: all that this build can inject]
    #[arg(long, value_delimiter = ',')]
    kinds: Vec<String>,
    /// The devices, a stage on each
    #[arg(long, value_delimiter = ',', default_value = "reference,reference")]
    devices: Vec<String>,
    /// Run file of what is trained [default: lenet5 on glyphs]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Steps between checkpoints
    #[arg(long, default_value_t = 20)]
    checkpoint_every: usize,
    /// Seed of the moments and of the order of the kinds
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where checkpoints, events and what the runs say are written; it must be empty or not there
    #[arg(long, default_value = "soak")]
    out: PathBuf,
    /// Prints the report as one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if !(args.minutes > 0.0 && args.minutes < 1e6 && args.faults_per_minute >= 0.0 && args.faults_per_minute < 1e3) {
        return Err(Failure::usage("soak: --minutes must be above 0 and --faults-per-minute from 0 to 1000"));
    }
    if args.checkpoint_every == 0 {
        return Err(Failure::usage("soak: --checkpoint-every must be from 1 on"));
    }
    let length = Duration::from_secs_f64(60.0 * args.minutes);
    let plan = Plan::new(&args.kinds, length, args.faults_per_minute, args.seed)?;
    let report = Supervisor::new(args)?.run(&plan, length)?;
    if args.json { output::json(&report) } else { output::line(report.text()) }?;
    report.verdict()
}
