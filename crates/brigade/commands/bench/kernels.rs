//! `brigade bench kernels`: every variant that an adapter can run, first held against the reference, then timed.
//!
//! The variants of a pass are timed in turn, round by round, so that a machine whose speed drifts slows them alike;
//! the multiply-add and the copy kernel, which give the ceiling, are timed again before each problem.

use brigade::{Failure, Status, choose};
use brigade_devices::{DeviceInfo, OpenOptions};
use brigade_kernels::{Limits, Pass, Precision};

use super::statistics::Spread;
use crate::output;

mod bench;
mod ceiling;
mod problems;
mod report;
mod show;

use report::Report;

/// The flags of `bench kernels`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Devices, as `devices` prints them or parts of their names [default: every GPU]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    /// Driver threads of each software adapter
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Most rounds of each variant; slow ones have fewer
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Only what has this in OPERATION/PROBLEM/PASS, such as `conv2d/3x3` or `update`
    #[arg(long, default_value = "")]
    filter: String,
    /// What operands of products may be rounded to: with `f16` the variants that round are measured too
    #[arg(long, default_value_t)]
    precision: Precision,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    /// Prints the shaders of a variant, as they are compiled, and measures nothing
    #[arg(long, value_name = "OPERATION/PASS/VARIANT")]
    show: Option<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    if args.rounds == 0 || args.threads == 0 {
        return Err(Failure::usage("bench kernels: rounds and threads are at least one"));
    }
    if let Some(wanted) = &args.show {
        return show::show(wanted, &limits(&args.devices)?);
    }
    let problems = problems::problems(&args.filter)?;
    let mut report = Report::default();
    for info in choose(&args.devices, None, false)? {
        report.devices.push(measure(args, &info, &problems)?);
    }
    if args.json { output::json(&report) } else { report.print() }?;
    match report.wrong() {
        0 => Ok(()),
        wrong => Err(Failure::new(Status::Numerics, format!("{wrong} variants are wrong; they were not timed"))),
    }
}

/// Those of the first named device, or what every adapter offers.
fn limits(devices: &[String]) -> Result<Limits, Failure> {
    if devices.is_empty() {
        return Ok(Limits::PORTABLE);
    }
    Ok(choose(devices, None, false)?.first().map_or(Limits::PORTABLE, |info| info.limits.clone()))
}

fn measure(args: &Args, info: &DeviceInfo, problems: &[problems::Problem]) -> Result<report::Device, Failure> {
    let options = OpenOptions { threads: Some(args.threads), precision: args.precision, ..OpenOptions::default() };
    let mut executor = brigade_devices::open(info, &options)?;
    let executor = executor.as_mut();
    let mut ceiling = ceiling::Meter::new(executor)?;
    let mut rows = Vec::new();
    for problem in problems.iter().filter(|problem| !problem.large || !info.is_software()) {
        output::tell(format_args!("{}: {}/{}", info.name, problem.case.operation.name(), problem.name));
        ceiling.sample(executor)?;
        let wanted = |pass: Pass| problem.path(pass).contains(&args.filter);
        rows.extend(bench::rows(executor, problem, &wanted, args.rounds)?);
    }
    ceiling.sample(executor)?;
    Ok(report::Device::new(info, args.threads, ceiling.ceiling(), rows))
}
