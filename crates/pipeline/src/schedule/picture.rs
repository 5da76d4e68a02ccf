//! Pictures of a timeline, planned or measured: a grid of text, and SVG.

use std::fmt::Write;

use super::{Span, Timeline, Verb};

/// Pixels of the picture: its width, the column of names, a row, and what is above and below the rows of a panel.
const WIDTH: f64 = 1200.0;
const NAMES: f64 = 190.0;
const ROW: f64 = 26.0;
const TITLE: f64 = 30.0;
const AXIS: f64 = 34.0;
/// Width of a digit in the labels.
const GLYPH: f64 = 6.5;

/// One timeline of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What happens; times are in seconds.
    pub timeline: &'a Timeline,
}

/// A column for each `unit` of time and a line for each stage; an action that takes longer goes on as dots.
pub fn grid(timeline: &Timeline, unit: f64) -> String {
    let slots = |time: f64| (time / unit).round() as usize;
    let labels = timeline.rows.iter().flatten().map(|span| span.action.to_string().len());
    let width = labels.max().unwrap_or(1).max(2) + 1;
    let mut text = String::new();
    for (stage, row) in timeline.rows.iter().enumerate() {
        let mut line = format!("stage {stage:<2}");
        let mut at = 0;
        for span in row.iter().filter(|span| slots(span.end) > slots(span.start)) {
            line.push_str(&" ".repeat(width * (slots(span.start) - at)));
            let _ = write!(line, " {:<1$}", span.action.to_string(), width - 1);
            line.push_str(&format!(" {:<1$}", "·", width - 1).repeat(slots(span.end) - slots(span.start) - 1));
            at = slots(span.end);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// The panels one above the other on one scale of time, with the names of the stages beside their rows.
pub fn svg(panels: &[Panel<'_>], names: &[String]) -> String {
    let seconds = panels.iter().map(|panel| panel.timeline.makespan()).fold(f64::MIN_POSITIVE, f64::max);
    let heights: Vec<f64> = panels.iter().map(|panel| TITLE + ROW * panel.timeline.rows.len() as f64 + AXIS).collect();
    let height = heights.iter().sum::<f64>() + TITLE;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let mut top = 0.0;
    for (panel, height) in panels.iter().zip(&heights) {
        draw_panel(&mut text, panel, names, top, seconds);
        top += height;
    }
    draw_legend(&mut text, top);
    text.push_str("</svg>\n");
    text
}

fn draw_panel(text: &mut String, panel: &Panel<'_>, names: &[String], top: f64, seconds: f64) {
    let bubble = 100.0 * panel.timeline.bubble();
    let title = format!("{}: {:.1} ms, {bubble:.1} % idle", panel.title, 1e3 * panel.timeline.makespan());
    put_text(text, 8.0, top + 20.0, "font-weight=\"bold\"", &title);
    let scale = (WIDTH - NAMES - 10.0) / seconds;
    for (stage, row) in panel.timeline.rows.iter().enumerate() {
        let y = top + TITLE + ROW * stage as f64;
        let name = names.get(stage).map_or_else(String::new, |name| format!(" {}", shortened(name, 20)));
        put_text(text, 8.0, y + 16.0, "", &format!("stage {stage}{name}"));
        let _ = writeln!(
            text,
            "<rect x=\"{NAMES}\" y=\"{y}\" width=\"{:.2}\" height=\"{}\" fill=\"#f2f2f2\"/>",
            WIDTH - NAMES - 10.0,
            ROW - 4.0
        );
        row.iter().for_each(|span| draw_span(text, span, y, scale));
    }
    draw_axis(text, top + TITLE + ROW * panel.timeline.rows.len() as f64, seconds, scale);
}

fn draw_span(text: &mut String, span: &Span, y: f64, scale: f64) {
    let (x, width) = (NAMES + span.start * scale, ((span.end - span.start) * scale).max(0.5));
    let label = span.action.to_string();
    let _ = writeln!(
        text,
        "<rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{}\" fill=\"{}\" stroke=\"white\" \
         stroke-width=\"0.5\"><title>{label}: {:.2} to {:.2} ms</title></rect>",
        ROW - 4.0,
        colour(span.action.verb),
        1e3 * span.start,
        1e3 * span.end
    );
    if width > GLYPH * label.len() as f64 + 2.0 {
        put_text(text, x + width / 2.0, y + 15.0, "text-anchor=\"middle\" font-size=\"11\"", &label);
    }
}

/// Ticks at 1, 2 or 5 times a power of ten milliseconds, five to twelve of them.
fn draw_axis(text: &mut String, y: f64, seconds: f64, scale: f64) {
    let rough = 1e3 * seconds / 10.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|by| by * power).find(|&step| step >= rough).unwrap_or(power);
    let mut tick = 0.0;
    while tick <= 1e3 * seconds {
        let x = NAMES + tick / 1e3 * scale;
        let _ = writeln!(text, "<line x1=\"{x:.2}\" x2=\"{x:.2}\" y1=\"{y}\" y2=\"{}\" stroke=\"#888\"/>", y + 5.0);
        let label = if step < 1.0 { format!("{tick:.2}") } else { format!("{tick:.0}") };
        put_text(text, x, y + 17.0, "text-anchor=\"middle\" font-size=\"10\" fill=\"#555\"", &label);
        tick += step;
    }
    put_text(text, NAMES - 8.0, y + 17.0, "text-anchor=\"end\" font-size=\"10\" fill=\"#555\"", "ms");
}

fn draw_legend(text: &mut String, y: f64) {
    let words = ["forward", "backward", "input gradient", "weight gradient", "update"];
    for (place, (verb, word)) in Verb::ALL.into_iter().zip(words).enumerate() {
        let x = NAMES + 150.0 * place as f64;
        let fill = colour(verb);
        let _ = writeln!(text, "<rect x=\"{x}\" y=\"{}\" width=\"14\" height=\"14\" fill=\"{fill}\"/>", y + 6.0);
        put_text(text, x + 20.0, y + 17.0, "", &format!("{verb} {word}"));
    }
}

/// Colours that people who see red and green alike can tell apart (Okabe and Ito 2008).
const fn colour(verb: Verb) -> &'static str {
    match verb {
        Verb::Forward => "#8cc8f0",
        Verb::Backward => "#f0b450",
        Verb::InputGradient => "#f5d97a",
        Verb::WeightGradient => "#c8a2c8",
        Verb::Update => "#4fb89a",
    }
}

fn put_text(text: &mut String, x: f64, y: f64, style: &str, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(text, "<text x=\"{x:.2}\" y=\"{y:.2}\" {style}>{content}</text>");
}

fn shortened(name: &str, most: usize) -> String {
    if name.chars().count() <= most {
        return name.to_owned();
    }
    name.chars().take(most - 1).chain(['…']).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::schedule::{Durations, Kind, Schedule, simulate};

    fn planned(kind: Kind, stages: usize, microbatches: usize) -> Timeline {
        let schedule = Schedule::new(kind, stages);
        let durations = vec![Durations::whole(1.0, 2.0, 0.0); stages];
        simulate(&schedule, &[microbatches], &durations, &[], |link| schedule.capacity(link, microbatches))
            .unwrap()
            .timeline
    }

    #[test]
    fn a_grid_reads_as_the_papers_figures() {
        let grid = grid(&planned(Kind::ZeroBubble, 2, 3), 1.0);
        let wanted = "stage 0  F0 F1    I0 W0 F2 I1 W1 I2 W2\nstage 1     F0 I0 F1 I1 W0 F2 I2 W1 W2\n";
        assert_eq!(grid, wanted, "{grid}");
    }

    #[test]
    fn a_picture_has_every_action_and_every_name() {
        let timeline = planned(Kind::OneForwardOneBackward, 2, 4);
        let names = ["one & only".to_owned(), "a name that is much longer than its column".to_owned()];
        let picture = svg(&[Panel { title: "planned", timeline: &timeline }], &names);
        assert!(picture.contains("stage 0 one &amp; only") && picture.contains("a name that is much…"), "{picture}");
        assert_eq!(picture.matches("<title>F").count(), 8);
        assert_eq!(picture.matches("<title>B").count(), 8);
        assert!(picture.ends_with("</svg>\n"));
    }
}
