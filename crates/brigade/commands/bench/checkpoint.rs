//! `brigade bench checkpoint`: what it costs training that nothing may be lost.
//!
//! Four ways to train the same steps take turns, several rounds of each, so that a machine whose speed drifts slows them
//! alike. What each costs is its time beside that of the bare one in the same round; the median over the rounds is told.

mod run;

use std::path::PathBuf;

use brigade::{Failure, Tuning};
use serde::Serialize;

use super::statistics::Spread;
use crate::output;
use run::{Bench, Way};

/// The flags of `bench checkpoint`.
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
    /// Steps between two checkpoints
    #[arg(long, default_value_t = 100)]
    checkpoint_every: usize,
    /// Checkpoints of a round; it has an interval more of steps
    #[arg(long, default_value_t = 2)]
    checkpoints: usize,
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Tuning of kernels: off, quick or full
    #[arg(long, default_value_t)]
    tune: Tuning,
    /// Where checkpoints are written while this measures; must not be there, and is removed afterwards
    #[arg(long, default_value = "bench-checkpoints")]
    out: PathBuf,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Steps of a round.
    const fn steps(&self) -> usize {
        self.checkpoint_every.saturating_mul(self.checkpoints.saturating_add(1))
    }

    /// The part of a round that snapshots are to be held against: an interval for each.
    fn share(&self, way: Way) -> f64 {
        match way {
            Way::Bare | Way::LinkChecksums => 1.0,
            Way::Snapshots | Way::Checkpoints => {
                (self.checkpoint_every * self.checkpoints) as f64 / (self.steps() - 1) as f64
            }
        }
    }
}

/// Everything that was measured.
#[derive(Debug, Serialize)]
struct Report {
    model: String,
    devices: Vec<String>,
    schedule: String,
    batch: usize,
    microbatches: usize,
    checkpoint_every: usize,
    /// Steps of a round.
    steps: usize,
    rounds: usize,
    ways: Vec<Cost>,
}

/// One way to train.
#[derive(Debug, Serialize)]
struct Cost {
    way: Way,
    /// Of a step, over the rounds.
    milliseconds: Spread,
    /// What it takes more than the bare way in the same round, over the time of the bare way; for snapshots and
    /// checkpoints what one takes over the steps of an interval. 0.01 is a hundredth more.
    cost: Spread,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if [args.batch, args.checkpoint_every, args.checkpoints, args.rounds].contains(&0) || args.threads == Some(0) {
        let what = "bench checkpoint: batch, checkpoint-every, checkpoints, rounds and threads are at least one";
        return Err(Failure::usage(what));
    }
    let mut bench = Bench::new(args)?;
    let seconds = bench.seconds(args.rounds);
    // What was written is of no use to anyone, however it ended.
    let removed = std::fs::remove_dir_all(&args.out);
    let seconds = seconds?;
    removed.map_err(|error| Failure::storage(format!("{}: {error}", args.out.display())))?;
    let cost_of = |(way, mine): (Way, &Vec<f64>)| cost(args, way, mine, &seconds[0]);
    let report = Report {
        model: args.model.clone(),
        devices: bench.devices(),
        schedule: args.schedule.clone(),
        batch: args.batch,
        microbatches: args.microbatches,
        checkpoint_every: args.checkpoint_every,
        steps: args.steps(),
        rounds: args.rounds,
        ways: Way::ALL.into_iter().zip(&seconds).filter_map(cost_of).collect(),
    };
    if args.json { output::json(&report) } else { report.ways.iter().try_for_each(print) }
}

fn cost(args: &Args, way: Way, mine: &[f64], bare: &[f64]) -> Option<Cost> {
    // The first step of a round is not timed.
    let milliseconds: Vec<_> = mine.iter().map(|seconds| 1e3 * seconds / (args.steps() - 1) as f64).collect();
    let costs: Vec<_> = mine.iter().zip(bare).map(|(mine, bare)| (mine / bare - 1.0) / args.share(way)).collect();
    Some(Cost { way, milliseconds: Spread::of(&milliseconds)?, cost: Spread::of(&costs)? })
}

fn print(Cost { way, milliseconds, cost }: &Cost) -> Result<(), Failure> {
    output::line(format!(
        "{:<15} {:8.2} ms a step ({:.2} to {:.2}), {:+.2} % ({:+.2} to {:+.2})",
        way.name(),
        milliseconds.median,
        milliseconds.least,
        milliseconds.most,
        100.0 * cost.median,
        100.0 * cost.least,
        100.0 * cost.most
    ))
}
