//! Accuracy and loss against steps as SVG: a file for each data set and number of stages.

use std::fmt::Write;
use std::path::Path;

use brigade::Failure;

use super::results::{Epoch, Trained};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 60.0;
/// Where the lines end and the names begin.
const RIGHT: f64 = 380.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 40.0;

/// Told apart without colour vision (Okabe and Ito); a second round of them is dashed.
const COLOURS: [&str; 7] = ["#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];

/// What is drawn of an epoch.
type Figure = fn(&Epoch) -> f64;

/// A case's mean over its seeds, epoch by epoch.
struct Curve {
    name: String,
    /// Steps and value.
    points: Vec<(f64, f64)>,
}

/// Writes `TASK-STAGES.svg` for each that has results; one stage is drawn in every picture of its task.
pub(super) fn write(out: &Path, results: &[Trained]) -> Result<(), Failure> {
    let mut pictures: Vec<(&str, usize)> = results.iter().map(|one| (one.task.as_str(), one.stages)).collect();
    pictures.sort_unstable();
    pictures.dedup();
    for (task, stages) in pictures.into_iter().filter(|(_, stages)| *stages > 1) {
        let shown: Vec<&Trained> =
            results.iter().filter(|one| one.task == task && [1, stages].contains(&one.stages)).collect();
        let path = out.join(format!("{task}-{stages}.svg"));
        let failed = |error: std::io::Error| Failure::storage(format!("{}: {error}", path.display()));
        std::fs::write(&path, picture(&shown)).map_err(failed)?;
    }
    Ok(())
}

fn picture(shown: &[&Trained]) -> String {
    let panels: [(&str, Figure); 2] =
        [("test accuracy, %", |epoch| 100.0 * epoch.test_accuracy), ("training loss", |epoch| epoch.train_loss)];
    let body: String = panels
        .iter()
        .enumerate()
        .map(|(index, (title, value))| {
            let panel = panel(&curves(shown, *value), title);
            format!("<g transform=\"translate(0 {})\">{panel}</g>\n", index as f64 * HEIGHT)
        })
        .collect();
    let height = HEIGHT * panels.len() as f64;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

fn curves(shown: &[&Trained], value: Figure) -> Vec<Curve> {
    let mut cases: Vec<&str> = Vec::new();
    for one in shown {
        if !cases.contains(&one.case.as_str()) {
            cases.push(&one.case);
        }
    }
    cases.sort_by_key(|case| case.matches('/').count());
    cases.into_iter().map(|case| curve(case, shown, value)).collect()
}

/// A row that diverged ends where its last whole epoch does; the mean goes as far as all seeds do.
fn curve(case: &str, shown: &[&Trained], value: Figure) -> Curve {
    let seeds: Vec<&[Epoch]> = shown.iter().filter(|one| one.case == case).map(|one| &one.epochs[..]).collect();
    let epochs = seeds.iter().map(|epochs| epochs.len()).min().unwrap_or(0);
    let mean = |index: usize| seeds.iter().map(|epochs| value(&epochs[index])).sum::<f64>() / seeds.len() as f64;
    let points = (0..epochs).map(|index| (seeds[0][index].steps as f64, mean(index)));
    let (_, name) = case.split_once('/').unwrap_or(("", case));
    let name = if name == "1" { "one stage".to_owned() } else { name.replace('/', " ") };
    Curve { name, points: points.filter(|(_, y)| y.is_finite()).collect() }
}

fn panel(curves: &[Curve], title: &str) -> String {
    let all = || curves.iter().flat_map(|curve| &curve.points);
    let most_steps = all().map(|point| point.0).fold(1.0, f64::max);
    let (low, high) =
        all().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), point| (low.min(point.1), high.max(point.1)));
    let ticks = ticks(low, high);
    let (low, high) = (ticks.first().copied().unwrap_or(0.0), ticks.last().copied().unwrap_or(1.0));
    let x = |steps: f64| LEFT + steps / most_steps * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value - low) / (high - low).max(1e-9) * (HEIGHT - TOP - BOTTOM);
    let mut body = text(LEFT, 18.0, "start", title);
    for &tick in &ticks {
        // Writing to a string cannot fail.
        let _ = write!(body, r##"<path d="M{LEFT} {0:.1}H{1:.1}" stroke="#cccccc"/>"##, y(tick), x(most_steps));
        body += &text(LEFT - 6.0, y(tick) + 4.0, "end", &format!("{}", (tick * 1e6).round() / 1e6));
    }
    for tick in self::ticks(0.0, most_steps).into_iter().filter(|&tick| tick <= most_steps) {
        body += &text(x(tick), HEIGHT - BOTTOM + 16.0, "middle", &format!("{tick}"));
    }
    body += &text(x(most_steps), HEIGHT - BOTTOM + 32.0, "end", "steps");
    for (index, curve) in curves.iter().enumerate() {
        let (colour, dash) = (COLOURS[index % COLOURS.len()], if index < COLOURS.len() { "none" } else { "5 3" });
        let points: Vec<_> = curve.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let (points, row) = (points.join(" "), TOP + 10.0 + index as f64 * 17.0);
        let stroke = format!(r#"fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}""#);
        let key = WIDTH - RIGHT + 16.0;
        let _ = write!(body, r#"<polyline {stroke} points="{points}"/><path {stroke} d="M{key} {row}h20"/>"#);
        body += &text(key + 26.0, row + 4.0, "start", &curve.name);
    }
    body
}

/// Round values from at most `low` to at least `high`, four to eleven of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    if !(low.is_finite() && high.is_finite() && high > low) {
        return Vec::new();
    }
    let rough = (high - low) / 8.0;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough).unwrap_or(rough);
    let (first, last) = ((low / step).floor() as i64, (high / step).ceil() as i64);
    (first..=last).map(|index| index as f64 * step).collect()
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!(r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_hold_the_range() {
        let ticks = ticks(41.3, 70.2);
        assert_eq!((ticks[0], *ticks.last().unwrap()), (40.0, 75.0));
        assert!(ticks.windows(2).all(|pair| (pair[1] - pair[0] - 5.0).abs() < 1e-9));
    }
}
