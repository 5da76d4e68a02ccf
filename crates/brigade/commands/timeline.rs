//! `train --timeline`: the plan and what came of it, one above the other.

use std::path::Path;
use std::time::Instant;

use brigade::{Failure, Pipeline};
use brigade_pipeline::schedule::picture::{Panel, svg};
use brigade_pipeline::schedule::{Action, Durations, Span, Timeline, Verb, simulate};
use brigade_pipeline::{Record, StageReport, transfers};

/// Microbatches that the picture shows: more would not be readable.
const SHOWN: usize = 16;

/// Draws the middle of the last stretch of training to `path`.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write(
    path: &Path,
    reports: &[StageReport],
    pipeline: &Pipeline,
    microbatches: usize,
) -> Result<(), Failure> {
    let rows = spans(&reports.iter().map(last_stretch).collect::<Vec<_>>());
    let measured = Timeline { rows, devices: pipeline.schedule().devices() };
    let steps = measured.rows.first().map_or(0, |row| row.iter().filter(|span| is_update(span)).count());
    let schedule = pipeline.schedule();
    let durations: Vec<Durations> = reports.iter().map(StageReport::durations).collect();
    let capacity = |link| schedule.capacity(link, microbatches);
    let planned = simulate(&schedule, &vec![microbatches; steps], &durations, &transfers(reports), capacity)?.timeline;

    let first = (steps / 2).saturating_sub(SHOWN / microbatches / 2) * microbatches;
    let shown = |timeline: &Timeline| part(timeline, first..first + SHOWN.max(microbatches), microbatches);
    let (planned, measured) = (shown(&planned), shown(&measured));
    let names: Vec<String> = pipeline.devices().iter().map(|device| device.name.clone()).collect();
    let panels = [
        Panel { title: "planned, with the mean times of this run's actions", timeline: &planned },
        Panel { title: "measured", timeline: &measured },
    ];
    std::fs::write(path, svg(&panels, &names))
        .map_err(|error| Failure::storage(format!("timeline {}: {error}", path.display())))
}

fn is_update(span: &Span) -> bool {
    span.action.verb == Verb::Update
}

/// The records since the pipes were last empty: there the microbatches are counted anew.
fn last_stretch(report: &StageReport) -> &[Record] {
    let start = report.records.iter().rposition(|record| record.action == Action::forward(0)).unwrap_or(0);
    &report.records[start..]
}

/// Seconds since the first record of any stage.
fn spans(records: &[&[Record]]) -> Vec<Vec<Span>> {
    let begin = records.iter().filter_map(|row| row.first()).map(|record| record.start).min();
    let since = |moment: Instant| begin.map_or(0.0, |begin| moment.saturating_duration_since(begin).as_secs_f64());
    let span = |record: &Record| Span { action: record.action, start: since(record.start), end: since(record.end) };
    records.iter().map(|row| row.iter().map(span).collect()).collect()
}

/// The actions of some microbatches, from time 0 on.
fn part(timeline: &Timeline, range: std::ops::Range<usize>, microbatches: usize) -> Timeline {
    let is_shown = |span: &&Span| {
        let microbatch = if is_update(span) { span.action.index * microbatches } else { span.action.index };
        range.contains(&microbatch)
    };
    let rows: Vec<Vec<Span>> = timeline.rows.iter().map(|row| row.iter().filter(is_shown).copied().collect()).collect();
    let begin = rows.iter().flatten().map(|span| span.start).fold(f64::INFINITY, f64::min);
    let moved = |span: Span| Span { start: span.start - begin, end: span.end - begin, ..span };
    let rows = rows.into_iter().map(|row| row.into_iter().map(moved).collect()).collect();
    Timeline { rows, devices: timeline.devices }
}
