//! `brigade reproduce`: the tables of the published evaluation, by formula and counted in real runs.
//!
//! H. Kawaguchi, *Hardware Optimization in Distributed Deep Learning* (Kobe University, 2018), and Mori, Youkawa, Izumi,
//! Yoshimoto, Kawaguchi and Inoue (MLSP 2017): VGG-F over four workers. `docs/reproduction.md` holds the figures.

mod memory;
mod page;
mod plot;
mod print;
mod runs;
mod shares;
mod speedup;
mod traffic;

use std::collections::BTreeSet;
use std::path::PathBuf;

use brigade::{DeviceInfo, Failure, Schedule, Status, choose};
use brigade_devices::CountingExecutor;
use serde::Serialize;

use crate::output;
use memory::Memory;
use runs::Counted;
use shares::Partition;
use speedup::{PerGigabyte, Speedup};
use traffic::Traffic;

/// The published evaluation's model, workers and cuts. Which of conv3, conv4, conv5 ends the third block makes no
/// difference to the transfers.
const MODEL: &str = "vgg-f";
const WORKERS: usize = 4;
const CUTS: [&str; WORKERS - 1] = ["pool1", "pool2", "relu3"];

/// Batches of the tables by formula and plan.
const BATCHES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Batches of which runs are counted unless others are asked for. The largest is that of the published table.
const COUNTED: [usize; 3] = [1, 8, 32];

/// Largest batch of a counted run, which is the largest of the tables: its time and memory grow with the batch.
const LARGEST_COUNTED: usize = 256;

/// The flags of `reproduce`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One device, opened once for each worker [default: the first GPU, else the first software adapter]; with `--quick` it
    /// is not opened, and plans keep to its limits
    #[arg(long)]
    device: Option<String>,
    /// Batches of the counted runs: that of the pipeline, and that of each worker of the baseline; what is told of one batch
    /// only is told of the largest
    #[arg(long, value_delimiter = ',', default_values_t = COUNTED)]
    batch: Vec<usize>,
    /// Only what needs no run: formulas and plans
    #[arg(long)]
    quick: bool,
    /// Rounds of each speed-up's measurement; 0 leaves the speed-ups out
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Writes a page with plots, and the JSON document, to this folder
    #[arg(long)]
    out: Option<PathBuf>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// Everything that was computed and measured.
#[derive(Debug, Serialize)]
struct Report {
    model: &'static str,
    workers: usize,
    cuts: [&'static str; WORKERS - 1],
    batch: usize,
    device: Option<String>,
    traffic: Traffic,
    memory: Memory,
    shares: Vec<Partition>,
    /// Absent with `--quick`, as all that is counted, and where no round is asked for.
    speedup: Option<Speedup>,
    acceleration_per_gigabyte: Option<PerGigabyte>,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    check(args)?;
    let report = report(args)?;
    if let Some(folder) = &args.out {
        save(folder, &report)?;
    }
    if args.json { output::json(&report) } else { print::tables(&report) }
}

fn check(args: &Args) -> Result<(), Failure> {
    if args.batch.contains(&0) {
        return Err(Failure::usage("reproduce: the batch is at least one"));
    }
    match args.batch.iter().find(|&&batch| batch > LARGEST_COUNTED && !args.quick) {
        Some(batch) => Err(Failure::usage(format!(
            "reproduce: runs are counted with batches of {LARGEST_COUNTED} at most, and {batch} is more; with --quick it is \
             planned only"
        ))),
        None => Ok(()),
    }
}

fn report(args: &Args) -> Result<Report, Failure> {
    let model = brigade::built_in(MODEL)?;
    let named = args.device.as_deref();
    let device = if args.quick && named.is_none() { None } else { Some(device(named)?) };
    let run_on = device.as_ref().filter(|_| !args.quick);
    let (asked, batch) = (BTreeSet::from_iter(&args.batch), args.batch.iter().copied().max().unwrap_or(1));
    let batches: Vec<usize> = BTreeSet::from_iter(BATCHES.iter().chain(&args.batch)).into_iter().copied().collect();
    // Before any run: what cannot be planned cannot be counted either.
    let unnamed = || CountingExecutor::unnamed(runs::UNNAMED_BUFFER_BYTES);
    let counting = device.clone().map_or_else(unnamed, CountingExecutor::new);
    let planned = memory::plan(&model, &batches, &counting)?;
    let counted = run_on.iter().flat_map(|device| asked.iter().map(move |&&batch| (device, batch)));
    let counted = counted.map(|(device, batch)| Counted::run(&model, device, batch)).collect::<Result<Vec<_>, _>>()?;
    let speedup = run_on.filter(|_| args.rounds > 0).map(|device| Speedup::measure(device, args.rounds)).transpose()?;
    let per_gigabyte = speedup.as_ref().map(|speedup| PerGigabyte::new(speedup, &counting)).transpose()?;
    Ok(Report {
        model: MODEL,
        workers: WORKERS,
        cuts: CUTS,
        batch,
        device: device.map(|device| device.name),
        traffic: Traffic::new(&model, batch, &batches, &counted)?,
        memory: Memory::new(batch, planned, &counted),
        shares: shares::partitions(&model, batch)?,
        acceleration_per_gigabyte: per_gigabyte.flatten(),
        speedup,
    })
}

/// The device that is named; else a GPU, and where there is none the software adapter that is listed first.
fn device(name: Option<&str>) -> Result<DeviceInfo, Failure> {
    let names: Vec<String> = name.map(str::to_owned).into_iter().collect();
    let found = choose(&names, None, false)
        .or_else(|error| if name.is_some() { Err(error) } else { choose(&[], None, true) })?;
    let first = found.into_iter().next();
    first.ok_or_else(|| Failure::new(Status::Device, "reproduce: there is no device; see `brigade devices`"))
}

fn save(folder: &std::path::Path, report: &Report) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::storage(format!("{}: {error}", folder.display()));
    let json = serde_json::to_string_pretty(report);
    let json = json.map_err(|error| Failure::new(Status::Internal, format!("JSON: {error}")))?;
    std::fs::create_dir_all(folder).map_err(failed)?;
    std::fs::write(folder.join("reproduction.json"), json).map_err(failed)?;
    std::fs::write(folder.join("index.html"), page::html(report)).map_err(failed)
}

/// The schedules whose memory is held against the baseline's.
const SCHEDULES: [Schedule; 2] = [Schedule::LayerBlockWise, Schedule::OneForwardOneBackwardAsync];
