//! `train --timeline`: the plan and what came of it, one above the other.

use std::ops::Range;
use std::path::Path;
use std::time::Instant;

use brigade::{Failure, Pipeline};
use brigade_pipeline::schedule::picture::{Panel, svg};
use brigade_pipeline::schedule::{Action, Durations, Span, Timeline, Verb, simulate};
use brigade_pipeline::{Record, RunReport, StageReport, Walked, transfers, write_file};

/// Microbatches that the picture shows: more would not be readable.
const SHOWN: usize = 16;

/// Draws the middle of the last stretch of training to `path`.
///
/// # Errors
/// Where the file cannot be written.
pub(super) fn write(path: &Path, report: &RunReport, pipeline: &Pipeline) -> Result<(), Failure> {
    let nothing = Walked { schedule: pipeline.schedule(), steps: Vec::new() };
    let Walked { schedule, steps } = report.walked.as_ref().unwrap_or(&nothing);
    let rows = spans(&report.stages.iter().map(last_stretch).collect::<Vec<_>>());
    let measured = Timeline { rows, devices: schedule.devices() };
    let durations: Vec<Durations> = report.stages.iter().map(StageReport::durations).collect();
    let capacity = |link| pipeline.schedule().capacity(link, steps.iter().copied().max().unwrap_or(1));
    let planned = simulate(schedule, steps, &durations, &transfers(&report.stages), capacity)?.timeline;

    let shown = middle(steps);
    let (planned, measured) = (part(&planned, steps, &shown), part(&measured, steps, &shown));
    let names: Vec<String> = pipeline.devices().iter().map(|device| device.name.clone()).collect();
    let panels = [
        Panel { title: "planned, with the mean times of this run's actions", timeline: &planned },
        Panel { title: "measured", timeline: &measured },
    ];
    Ok(write_file(path, svg(&panels, &names).as_bytes())?)
}

/// As many steps from the middle of a stretch as have the microbatches that are shown, one at least.
fn middle(steps: &[usize]) -> Range<usize> {
    let count = (SHOWN / steps.first().copied().unwrap_or(1).max(1)).max(1);
    let first = (steps.len() / 2).saturating_sub(count / 2);
    first..(first + count).min(steps.len())
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

/// What the devices do from the first action of the `shown` steps to the last, from time 0 on. All that happens meanwhile
/// is in it, cut off at its edges: of a full pipeline, each stage's row of the same microbatches begins and ends elsewhere.
fn part(timeline: &Timeline, steps: &[usize], shown: &Range<usize>) -> Timeline {
    let before = |step: usize| steps[..step].iter().sum::<usize>();
    let microbatches = before(shown.start)..before(shown.end);
    let is_shown = |span: &&Span| if is_update(span) { shown } else { &microbatches }.contains(&span.action.index);
    let inside: Vec<&Span> = timeline.rows.iter().flatten().filter(is_shown).collect();
    let begin = inside.iter().map(|span| span.start).fold(f64::INFINITY, f64::min);
    let end = inside.iter().map(|span| span.end).fold(f64::NEG_INFINITY, f64::max);
    let cut = |span: &Span| {
        let (from, to) = (span.start.max(begin), span.end.min(end));
        let touches = is_shown(&span) || from < to;
        touches.then_some(Span { start: from - begin, end: to - begin, ..*span })
    };
    let rows = timeline.rows.iter().map(|row| row.iter().filter_map(cut).collect()).collect();
    Timeline { rows, devices: timeline.devices }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_pipeline::schedule::{Kind, Schedule};

    use super::*;

    fn planned(kind: Kind, stages: usize, steps: &[usize]) -> Timeline {
        let schedule = Schedule::new(kind, stages);
        let durations = vec![Durations::whole(1.0, 1.0, 0.0); stages];
        simulate(&schedule, steps, &durations, &[], |link| schedule.capacity(link, steps[0])).unwrap().timeline
    }

    #[test]
    fn the_middle_of_a_full_pipeline_is_as_busy_as_the_run() {
        for stages in [4, 8] {
            let steps = [1; 400];
            let run = planned(Kind::LayerBlockWise, stages, &steps);
            let shown = part(&run, &steps, &middle(&steps));
            // Of 400 steps the pipes fill and empty once.
            assert!(run.bubble() < 0.04 && shown.bubble() < 0.04, "{stages}: {} of {}", shown.bubble(), run.bubble());
        }
    }

    #[test]
    fn a_step_that_flushes_is_shown_with_its_bubble() {
        let steps = [4; 9];
        let shown = part(&planned(Kind::OneForwardOneBackward, 4, &steps), &steps, &middle(&steps));
        assert!((shown.bubble() - 3.0 / 7.0).abs() < 1e-9, "{}", shown.bubble());
        assert_eq!(shown.rows[0].iter().filter(|span| is_update(span)).count(), 4);
    }

    #[test]
    fn short_steps_are_shown_as_short_as_they_are() {
        let steps = [4, 4, 1];
        let shown = part(&planned(Kind::GPipe, 2, &steps), &steps, &middle(&steps));
        let forwards = shown.rows[0].iter().filter(|span| span.action.verb == Verb::Forward);
        assert_eq!(forwards.count(), 9);
        assert_eq!(middle(&[]), 0..0);
        assert!(part(&Timeline { rows: vec![Vec::new()], devices: 1 }, &[], &middle(&[])).rows[0].is_empty());
    }
}
