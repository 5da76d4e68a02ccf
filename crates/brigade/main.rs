//! The command `brigade`.

// What is printed goes through `output`, which survives readers that have gone away; `println!` and `eprintln!` panic.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod output;
mod progress;
mod signals;

use std::process::ExitCode;

use brigade::Failure;
use clap::{Parser, Subcommand};

/// Train one neural network across every GPU in the box, whatever their vendors.
///
/// Exit status: 0 done · 2 command line or run file · 3 data · 4 checkpoint or model file · 5 device · 6 memory ·
/// 7 storage · 8 numerics · 9 a stage hangs · 10 directory in use · 70 internal error · 130/143 stopped by a signal,
/// after a checkpoint.
#[derive(Debug, Parser)]
#[command(name = "brigade", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the adapters that can be used
    Devices(commands::devices::Args),
    /// Hold every kernel against the reference, and recorded cases, on the named devices
    Check(commands::check::Args),
    /// Say what a run will need of each stage, before it starts
    Plan(commands::plan::Args),
    /// Train a model over the devices
    Train(commands::train::Args),
    /// Measure the accuracy of a checkpoint
    Eval(commands::eval::Args),
    /// Measure this machine
    Bench(commands::bench::Args),
    /// Reproduce the published evaluation: transfers, memory and speed-up of VGG-F over four workers
    Reproduce(commands::reproduce::Args),
    /// Run an experiment of many runs, going on where it was stopped
    Study(commands::study::Args),
    /// Train for minutes under faults at random moments, and say what they cost
    Soak(commands::soak::Args),
    /// Write the generated parts of docs/, or check that they are true
    Docs(commands::docs::Args),
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,wgpu=error,wgpu_hal=error,wgpu_core=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false).init();
    std::panic::set_hook(Box::new(report_panic));
    let command = Cli::parse().command;
    // Nothing is used afterwards that a panic could have left half done.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(command)));
    let outcome = outcome.unwrap_or_else(|panic| Err(Failure::panic(panic.as_ref())));
    #[cfg(feature = "faults")]
    brigade_devices::fault::write_counts();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::tell(format_args!("brigade: {failure}"));
            ExitCode::from(failure.status as u8)
        }
    }
}

/// A panic is a bug, told as an error with its thread and place; what catches it says what becomes of the run.
fn report_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let (thread, message) = (thread.name().unwrap_or("unnamed"), panic.payload_as_str().unwrap_or("without a message"));
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!("thread {thread} at {place}: {message}");
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Devices(args) => commands::devices::run(&args),
        Command::Check(args) => commands::check::run(&args),
        Command::Plan(args) => commands::plan::run(args),
        Command::Train(args) => commands::train::run(args),
        Command::Eval(args) => commands::eval::run(args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Reproduce(args) => commands::reproduce::run(&args),
        Command::Study(args) => commands::study::run(&args),
        Command::Soak(args) => commands::soak::run(&args),
        Command::Docs(args) => commands::docs::run(&args),
    }
}
