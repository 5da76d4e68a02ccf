//! The tables as text.

use brigade::Failure;

use super::speedup::{Figure, OfModel};
use super::{Report, WORKERS};
use crate::output::line;

const MEGA: f64 = 1e6;

pub(super) fn tables(report: &Report) -> Result<(), Failure> {
    traffic(report)?;
    memory(report)?;
    shares(report)?;
    report.speedup.iter().flat_map(|speedup| &speedup.models).try_for_each(speedup)?;
    match &report.acceleration_per_gigabyte {
        Some(rate) => line(format!(
            "\nspeed-up per GB: pipeline {:.2} (simulated), shared bus {:.2} at best",
            rate.pipeline, rate.shared_bus_at_best
        )),
        None => Ok(()),
    }
}

fn traffic(report: &Report) -> Result<(), Failure> {
    line(format!("{} over {WORKERS} workers, cut after {}: MB moved in a step", report.model, report.cuts.join(", ")))?;
    line("batch   pipeline  shared bus        ring  bus/pipeline  ring/pipeline")?;
    for row in &report.traffic.rows {
        line(format!(
            "{:5} {:10.2}  {:10.2}  {:10.2}  {:12.2}  {:13.2}",
            row.batch,
            row.pipeline_bytes as f64 / MEGA,
            row.shared_bus_bytes as f64 / MEGA,
            row.ring_bytes as f64 / MEGA,
            row.ratio,
            row.ring_ratio
        ))?;
    }
    match &report.traffic.counted {
        Some(counted) => line(format!(
            "counted at batch {}: pipeline {} bytes, shared bus {} bytes",
            report.batch, counted.pipeline_bytes, counted.shared_bus_bytes
        )),
        None => line("nothing was counted (--quick)"),
    }
}

fn memory(report: &Report) -> Result<(), Failure> {
    line("\nMB of memory, planned")?;
    line("batch  shared bus  layer-block-wise  1f1b-async")?;
    for row in &report.memory.planned {
        line(format!(
            "{:5}  {:10.1}  {:16.1}  {:10.1}",
            row.batch,
            row.shared_bus as f64 / MEGA,
            row.layer_block_wise as f64 / MEGA,
            row.one_f_one_b_async as f64 / MEGA
        ))?;
    }
    let Some(counted) = &report.memory.counted else { return Ok(()) };
    line(format!(
        "by ledger at batch {}: shared bus {:.1} MB on the workers and {:.1} MB on the host",
        report.batch,
        counted.shared_bus_workers.total as f64 / MEGA,
        counted.shared_bus_host.total as f64 / MEGA
    ))?;
    counted.pipelines.iter().try_for_each(|pipeline| {
        line(format!(
            "  {}: {:.1} MB, {:.1} % less ({:.1} % less than the workers alone)",
            pipeline.schedule,
            pipeline.ledger.total as f64 / MEGA,
            100.0 * pipeline.saving,
            100.0 * pipeline.saving_on_devices
        ))
    })
}

fn shares(report: &Report) -> Result<(), Failure> {
    line("\nshare of the floating-point operations, and the bound on the speed-up by them")?;
    report.shares.iter().try_for_each(|partition| {
        let shares: Vec<_> = partition.shares.iter().map(|share| format!("{:.1} %", 100.0 * share)).collect();
        line(format!("  {}: {}; at most {:.2}", partition.name, shares.join(" "), partition.bound))
    })
}

fn speedup(of: &OfModel) -> Result<(), Failure> {
    line(format!("\nspeed-up of {} under layer-block-wise", of.model))?;
    of.stages.iter().try_for_each(|of| {
        line(format!("  {} stages, simulated: {}", of.stages, figure(&of.simulated)))?;
        let Some(measured) = &of.measured else { return Ok(()) };
        let error = 100.0 * measured.prediction_error;
        let figure = figure(&measured.figure);
        line(format!("  {} stages, measured:  {figure}; the simulator is {error:.1} % off", of.stages))
    })
}

fn figure(Figure { speedup, bound, efficiency }: &Figure) -> String {
    format!("{speedup:.2} of at most {bound:.2}, {efficiency:.3} of its bound")
}
