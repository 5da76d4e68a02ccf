//! `brigade bench`: measuring this machine.

use brigade::Failure;
use clap::Subcommand;

mod checkpoint;
mod kernels;
mod pipeline;
mod statistics;
mod step;

pub(crate) use statistics::median;

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How fast every variant of every kernel is, beside what the adapter can do at most
    Kernels(kernels::Args),
    /// How long a training step takes, and what it spends its time on
    Step(step::Args),
    /// How much faster several stages are than one, and what the stages' times allow
    Pipeline(pipeline::Args),
    /// What checkpoints, and checksums on the links, cost training
    Checkpoint(checkpoint::Args),
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.bench {
        Bench::Kernels(args) => kernels::run(args),
        Bench::Step(args) => step::run(args),
        Bench::Pipeline(args) => pipeline::run(args),
        Bench::Checkpoint(args) => checkpoint::run(args),
    }
}
