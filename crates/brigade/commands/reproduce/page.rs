//! The report as a page of its own.

use super::plot::{Bar, Line, bars, lines};
use super::speedup::OfModel;
use super::traffic::Row;
use super::{Report, WORKERS};

pub(super) fn html(report: &Report) -> String {
    let mut parts = vec![
        heading(
            "Transfers",
            "Megabytes moved in a step, by formula; the JSON document beside this page has what was counted.",
        ),
        lines(&traffic(&report.traffic.rows), "batch", "MB a step"),
        heading("Memory", "Megabytes planned for all devices together."),
        lines(&planned(report), "batch", "MB"),
    ];
    if let Some(counted) = &report.memory.counted {
        parts.push(heading("Memory by ledger", &format!("From real runs at batch {}.", report.batch)));
        let bar = |name: String, bytes: u64| Bar { name, value: bytes as f64 / 1e6, mark: None };
        let baseline = bar("shared bus, host included".into(), counted.shared_bus_total);
        let pipelines = counted.pipelines.iter().map(|of| bar(of.schedule.to_string(), of.ledger.total));
        parts.push(bars(&std::iter::once(baseline).chain(pipelines).collect::<Vec<_>>(), "MB"));
    }
    parts.push(heading("Bound by partition", "How much faster than one stage floating-point operations allow."));
    let bounds = report.shares.iter();
    let bounds = bounds.map(|of| Bar { name: of.name.into(), value: of.bound, mark: Some(of.shares.len() as f64) });
    parts.push(bars(&bounds.collect::<Vec<_>>(), "×"));
    for model in report.speedup.iter().flat_map(|speedup| &speedup.models) {
        parts.push(heading(&format!("Speed-up of {}", model.model), "The mark is the bound by the stages' own times."));
        parts.push(bars(&speedups(model), "×"));
    }
    page(report, &parts.join("\n"))
}

fn traffic(rows: &[Row]) -> Vec<Line> {
    let line = |name: &str, bytes: fn(&Row) -> u64| Line {
        name: name.into(),
        points: rows.iter().map(|row| (row.batch as f64, bytes(row) as f64 / 1e6)).collect(),
    };
    vec![
        line("pipeline", |row| row.pipeline_bytes),
        line("shared bus", |row| row.shared_bus_bytes),
        line("ring all-reduce", |row| row.ring_bytes),
    ]
}

fn planned(report: &Report) -> Vec<Line> {
    let rows = &report.memory.planned;
    let line = |name: &str, bytes: fn(&super::memory::Totals) -> u64| Line {
        name: name.into(),
        points: rows.iter().map(|row| (row.batch as f64, bytes(&row.totals) as f64 / 1e6)).collect(),
    };
    vec![
        line("layer-block-wise", |totals| totals.layer_block_wise),
        line("shared bus", |totals| totals.shared_bus),
        line("1f1b-async", |totals| totals.one_f_one_b_async),
    ]
}

fn speedups(model: &OfModel) -> Vec<Bar> {
    let bar =
        |name: String, figure: &super::speedup::Figure| Bar { name, value: figure.speedup, mark: Some(figure.bound) };
    let of_stages = |of: &super::speedup::OfStages| {
        let simulated = bar(format!("{} stages, simulated", of.stages), &of.simulated);
        let measured = of.measured.as_ref().map(|run| bar(format!("{} stages, measured", of.stages), &run.figure));
        std::iter::once(simulated).chain(measured)
    };
    model.stages.iter().flat_map(of_stages).collect()
}

fn heading(title: &str, below: &str) -> String {
    format!("<h2>{title}</h2>\n<p>{below}</p>")
}

fn page(report: &Report, body: &str) -> String {
    let (model, cuts) = (report.model, report.cuts.join(", "));
    let title = format!("{model} over {WORKERS} workers");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body {{ max-width: 44rem; margin: 2rem auto; font-family: sans-serif; }} svg {{ max-width: 100%; height: auto; }}</style>\n\
         <h1>{title}</h1>\n<p>Cut after {cuts}.</p>\n{body}\n</html>\n"
    )
}
