//! `brigade bench`: measuring this machine.

use brigade::Failure;
use clap::Subcommand;

mod pipeline;

/// The flags of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// How much faster several stages are than one, and what the stages' times allow
    Pipeline(pipeline::Args),
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.bench {
        Bench::Pipeline(args) => pipeline::run(args),
    }
}
