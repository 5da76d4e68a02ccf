//! Lines and curves drawn with a round pen, anti-aliased. Only `+ − × ÷ √`: the same bits everywhere.

/// x to the right, y downwards.
pub(crate) type Point = [f32; 2];

/// A square picture, each pixel between 0 (paper) and 1 (ink); pixel (x, y) has its centre at (x, y).
pub(crate) struct Canvas {
    side: usize,
    /// Rows from top to bottom.
    pub(crate) ink: Vec<f32>,
}

impl Canvas {
    pub(crate) fn new(side: usize) -> Self {
        Self { side, ink: vec![0.0; side * side] }
    }

    /// Draws along `points`, where crossing strokes do not add up. `radius` is half the pen's
    /// width in pixels; the edge fades over one pixel.
    pub(crate) fn stroke(&mut self, points: &[Point], radius: f32, ink: f32) {
        for ends in points.windows(2) {
            let reach = radius + 1.0;
            for y in self.pixels(ends[0][1], ends[1][1], reach) {
                for x in self.pixels(ends[0][0], ends[1][0], reach) {
                    let away = distance([x as f32, y as f32], ends[0], ends[1]);
                    let covered = (radius + 0.5 - away).clamp(0.0, 1.0) * ink;
                    let pixel = &mut self.ink[y * self.side + x];
                    *pixel = pixel.max(covered);
                }
            }
        }
    }

    /// The rows or columns within `reach` of the span between `a` and `b`.
    fn pixels(&self, a: f32, b: f32, reach: f32) -> std::ops::Range<usize> {
        let first = (a.min(b) - reach).max(0.0) as usize;
        let end = (a.max(b) + reach + 1.0).max(0.0) as usize;
        first..end.min(self.side)
    }
}

/// From `point` to the line between `a` and `b`.
fn distance(point: Point, a: Point, b: Point) -> f32 {
    let (along, to) = ([b[0] - a[0], b[1] - a[1]], [point[0] - a[0], point[1] - a[1]]);
    let length = along[0] * along[0] + along[1] * along[1];
    let part = if length > 0.0 { ((to[0] * along[0] + to[1] * along[1]) / length).clamp(0.0, 1.0) } else { 0.0 };
    let (x, y) = (to[0] - part * along[0], to[1] - part * along[1]);
    (x * x + y * y).sqrt()
}

/// The points of a row of parabolas: start, control, end, control, end …
pub(crate) fn curve(points: &[Point]) -> Vec<Point> {
    const PIECES: usize = 6;
    let mut path: Vec<Point> = points.first().copied().into_iter().collect();
    for [a, b, c] in points.windows(3).step_by(2).filter_map(|three| <[Point; 3]>::try_from(three).ok()) {
        for piece in 1..=PIECES {
            let t = piece as f32 / PIECES as f32;
            let at = |axis: usize| (1.0 - t) * ((1.0 - t) * a[axis] + 2.0 * t * b[axis]) + t * t * c[axis];
            path.push([at(0), at(1)]);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pen_of_one_pixel_covers_its_row_and_nothing_else() {
        let mut canvas = Canvas::new(8);
        canvas.stroke(&[[-5.0, 3.0], [20.0, 3.0]], 0.5, 0.8);
        for (index, &ink) in canvas.ink.iter().enumerate() {
            assert_eq!(ink, if index / 8 == 3 { 0.8 } else { 0.0 }, "pixel {index}");
        }
    }

    #[test]
    fn ink_is_the_area_of_the_stroke() {
        let mut canvas = Canvas::new(40);
        canvas.stroke(&[[8.3, 9.7], [30.1, 22.2]], 1.5, 1.0);
        let length = (21.8f32 * 21.8 + 12.5 * 12.5).sqrt();
        let area = length * 3.0 + std::f32::consts::PI * 1.5 * 1.5;
        let ink: f32 = canvas.ink.iter().sum();
        assert!((ink / area - 1.0).abs() < 0.03, "{ink} for {area}");
    }

    #[test]
    fn a_curve_passes_through_its_ends() {
        let path = curve(&[[0.0, 0.0], [1.0, 2.0], [2.0, 0.0], [3.0, -2.0], [4.0, 0.0]]);
        assert_eq!(path.len(), 13);
        assert_eq!((path[3], path[6], path[12]), ([1.0, 1.0], [2.0, 0.0], [4.0, 0.0]));
        assert!(curve(&[]).is_empty());
    }
}
