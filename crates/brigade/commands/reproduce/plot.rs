//! Small plots as SVG: lines over powers of two on logarithmic axes, and bars.

use std::fmt::Write;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 20.0;
const BOTTOM: f64 = 45.0;

/// Told apart without colour vision (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// A named line: points of a positive x and a positive y.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// A bar, and what its end is held against, drawn as a mark.
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) value: f64,
    pub(super) mark: Option<f64>,
}

/// Lines over logarithmic axes; ticks of x are its own points, those of y powers of ten.
pub(super) fn lines(lines: &[Line], x_label: &str, y_label: &str) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let (x_low, x_high) = extent(all().map(|point| point.0.log2()));
    let (y_low, y_high) = extent(all().map(|point| point.1.log10()));
    let (y_low, y_high) = (y_low.floor(), y_high.ceil());
    let x = |value: f64| LEFT + (value.log2() - x_low) / (x_high - x_low).max(1e-9) * (WIDTH - LEFT - RIGHT);
    let y =
        |value: f64| HEIGHT - BOTTOM - (value.log10() - y_low) / (y_high - y_low).max(1e-9) * (HEIGHT - TOP - BOTTOM);
    let mut body = String::new();
    for &(value, _) in lines.first().map_or(&[][..], |line| &line.points) {
        text(&mut body, x(value), HEIGHT - BOTTOM + 18.0, "middle", &format!("{value}"));
    }
    for power in y_low as i32..=y_high as i32 {
        let value = 10f64.powi(power);
        rule(&mut body, LEFT, y(value), WIDTH - RIGHT);
        text(&mut body, LEFT - 8.0, y(value) + 4.0, "end", &format!("{value}"));
    }
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<_> = line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        // Writing to a string cannot fail.
        let _ =
            write!(body, r#"<polyline fill="none" stroke="{colour}" stroke-width="2" points="{}"/>"#, points.join(" "));
        if let Some(&(last_x, last_y)) = line.points.last() {
            text(&mut body, x(last_x) + 6.0, y(last_y) + 4.0, "start", &line.name);
        }
    }
    text(&mut body, (LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0, "middle", x_label);
    text(&mut body, 4.0, 14.0, "start", y_label);
    svg(HEIGHT, &body)
}

/// Bars from zero, one below the other, each with its value.
pub(super) fn bars(bars: &[Bar], unit: &str) -> String {
    const ROW: f64 = 30.0;
    const NAMES: f64 = 240.0;
    let most = bars.iter().flat_map(|bar| [bar.value, bar.mark.unwrap_or(0.0)]).fold(f64::MIN_POSITIVE, f64::max);
    let x = |value: f64| NAMES + value / most * (WIDTH - NAMES - 90.0);
    let mut body = String::new();
    for (row, bar) in bars.iter().enumerate() {
        let y = TOP + row as f64 * ROW;
        let (width, colour) = (x(bar.value) - NAMES, COLOURS[row % COLOURS.len()]);
        let _ = write!(body, r#"<rect x="{NAMES}" y="{y}" width="{width:.1}" height="20" fill="{colour}"/>"#);
        text(&mut body, NAMES - 8.0, y + 15.0, "end", &bar.name);
        let mut end = x(bar.value);
        if let Some(mark) = bar.mark {
            let at = x(mark);
            let bottom = y + 24.0;
            let _ = write!(
                body,
                r#"<path d="M{at:.1} {:.1}V{bottom:.1}" stroke="currentColor" stroke-width="2"/>"#,
                y - 4.0
            );
            end = end.max(at);
        }
        text(&mut body, end + 6.0, y + 15.0, "start", &format!("{:.2} {unit}", bar.value));
    }
    svg(TOP + bars.len() as f64 * ROW, &body)
}

fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
}

fn rule(body: &mut String, from: f64, y: f64, to: f64) {
    let _ = write!(body, r#"<path d="M{from:.1} {y:.1}H{to:.1}" stroke="currentColor" stroke-opacity="0.2"/>"#);
}

fn text(body: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = write!(body, r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

fn svg(height: f64, body: &str) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img" font-family="sans-serif" font-size="12" fill="currentColor">{body}</svg>"#
    )
}
