//! The tables as text.

use brigade::Failure;

use super::memory::Totals;
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
            "\nspeed-up per GB, batch {}: pipeline {:.2} (simulated), shared bus {:.2} at best",
            rate.batch, rate.pipeline, rate.shared_bus_at_best
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
    if report.traffic.counted.is_none() {
        return line("by formula; nothing was counted (--quick)");
    }
    line("by formula; counted in real runs:")?;
    let mut counted = report.traffic.rows.iter().filter_map(|row| Some((row.batch, row.counted?)));
    counted.try_for_each(|(batch, sums)| {
        line(format!("{batch:5}  pipeline {} bytes, shared bus {} bytes", sums.pipeline_bytes, sums.shared_bus_bytes))
    })
}

fn memory(report: &Report) -> Result<(), Failure> {
    line("\nMB of memory, planned, and by ledger where a run counted them")?;
    line("batch  shared bus  layer-block-wise  1f1b-async")?;
    for row in &report.memory.planned {
        totals(row.batch, &row.totals, "planned")?;
        row.counted.iter().try_for_each(|counted| totals(row.batch, counted, "by ledger"))?;
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

fn totals(batch: usize, totals: &Totals, how: &str) -> Result<(), Failure> {
    line(format!(
        "{batch:5}  {:10.1}  {:16.1}  {:10.1}  {how}",
        totals.shared_bus as f64 / MEGA,
        totals.layer_block_wise as f64 / MEGA,
        totals.one_f_one_b_async as f64 / MEGA
    ))
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
        let [replayed, alone] = [measured.prediction_error, measured.prediction_error_from_stages_alone];
        let next = measured.prediction_error_of_next_round;
        let next = next.map_or(String::new(), |next| format!(", {:.1} % with those of the round before", 100.0 * next));
        line(format!(
            "  {} stages, measured:  {}; the simulator is {:.1} % off with the times of the run{next}, {:.1} % with those of stages alone",
            of.stages,
            figure(&measured.figure),
            100.0 * replayed,
            100.0 * alone
        ))
    })
}

fn figure(Figure { speedup, bound, efficiency, spread: [least, most] }: &Figure) -> String {
    format!("{speedup:.2} ({least:.2} to {most:.2}) of at most {bound:.2}, {efficiency:.3} of its bound")
}
