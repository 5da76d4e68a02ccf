//! `brigade study`: experiments of many runs, that go on where they were stopped.

mod curves;
mod results;
mod rows;
mod runner;
mod table;

use std::num::NonZero;
use std::path::PathBuf;

use brigade::{Failure, Status};
use clap::Subcommand;

use crate::output;
use results::Results;
use rows::{CIFAR10, GLYPHS, MNIST, Row, Rows, Task};
use runner::Runner;

/// The flags of `study`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    study: Study,
}

#[derive(Debug, Subcommand)]
enum Study {
    /// Accuracy and loss against steps: stages, schedules, weight policies, corrections, seeds
    Convergence(Convergence),
}

/// The flags of `study convergence`.
#[derive(Debug, clap::Args)]
struct Convergence {
    /// Folder of CIFAR-10 as pictures, train/CLASS/… and test/CLASS/…; without it those rows are left out
    #[arg(long)]
    cifar10: Option<PathBuf>,
    /// Folder of MNIST in IDX format; without it those rows are left out
    #[arg(long)]
    mnist: Option<PathBuf>,
    /// A stand-in of seconds on generated glyphs, to see what the command does
    #[arg(long)]
    quick: bool,
    /// Which rows; with --quick all [default: default]
    #[arg(long)]
    rows: Option<Rows>,
    /// Only rows whose name contains one of these, of all of them where --rows is not given
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seeds of each row
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The device of every stage, opened once for each
    #[arg(long, default_value = "llvmpipe")]
    device: String,
    /// Rows side by side [default: the cores]
    #[arg(long)]
    jobs: Option<NonZero<usize>>,
    /// Where results, table and plots are written; rows whose results are there are not run again
    #[arg(long, default_value = "convergence")]
    out: PathBuf,
    /// Writes table and plots from the results that are there, and runs nothing
    #[arg(long)]
    report: bool,
    /// Prints the `train` command of every row, and runs nothing
    #[arg(long)]
    list: bool,
    /// Prints the table as one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    match &args.study {
        Study::Convergence(args) => convergence(args),
    }
}

fn convergence(args: &Convergence) -> Result<(), Failure> {
    let runner = Runner::new(args)?;
    if args.list {
        return rows(args)?.iter().try_for_each(|row| output::line(runner.command_line(row)));
    }
    let mut results = Results::open(&args.out)?;
    if !args.report {
        runner.run(&rows(args)?, &mut results)?;
    }
    let table = table::Table::new(results.all());
    table.write(&args.out)?;
    curves::write(&args.out, results.all())?;
    if args.json { output::json(&table) } else { output::line(table.markdown()) }
}

/// The rows that are asked for and whose data is at hand.
fn rows(args: &Convergence) -> Result<Vec<Row>, Failure> {
    let tasks: Vec<&'static Task> = match args.quick {
        true => vec![&GLYPHS],
        false => {
            let known = [(&CIFAR10, &args.cifar10), (&MNIST, &args.mnist)];
            known.into_iter().filter(|(_, folder)| folder.is_some()).map(|(task, _)| task).collect()
        }
    };
    if tasks.is_empty() {
        return Err(Failure::usage(
            "study convergence: no data; name a folder with --cifar10 or --mnist, or take --quick",
        ));
    }
    let wanted = |row: &Row| args.only.is_empty() || args.only.iter().any(|part| row.name().contains(part.as_str()));
    // What is asked for by name, or takes seconds, need not be small.
    let usual = if args.quick || !args.only.is_empty() { Rows::All } else { Rows::Default };
    let rows: Vec<Row> =
        rows::rows(&tasks, args.seeds, args.rows.unwrap_or(usual)).into_iter().filter(wanted).collect();
    if rows.is_empty() {
        return Err(Failure::new(Status::Usage, "study convergence: --only leaves no row; --list prints their names"));
    }
    Ok(rows)
}
