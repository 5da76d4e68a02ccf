//! Ten shapes drawn with random strokes, made at run time: a data set that needs no file.
//!
//! Position, size, proportions, slant, rotation and pen vary so much that no single pixel tells
//! anything: a linear classifier stays far behind a small convolutional network.

use std::sync::Arc;

use crate::dataset::{About, Report};
use crate::source::Source;
use crate::strokes::{Canvas, Point, curve};
use crate::{DataError, Dataset, Random, Shape, Split};

/// Keeps these pictures apart from all other uses of the same seed.
const PURPOSE: u64 = u64::from_le_bytes(*b"glyphs\0\0");

/// Rows and columns of a picture.
const SIDE: usize = 28;

/// A part of a shape, inside the square from −1 to 1.
enum Part {
    /// Straight from point to point.
    Line(&'static [Point]),
    /// Parabolas: start, control, end, control, end …
    Curve(&'static [Point]),
}
use Part::{Curve, Line};

const RING: Part = Curve(&[
    [0.0, -1.0],
    [1.0, -1.0],
    [1.0, 0.0],
    [1.0, 1.0],
    [0.0, 1.0],
    [-1.0, 1.0],
    [-1.0, 0.0],
    [-1.0, -1.0],
    [0.0, -1.0],
]);

/// The shapes, in the order of their labels.
const SHAPES: [(&str, &[Part]); 10] = [
    ("ring", &[RING]),
    ("plus", &[Line(&[[-1.0, 0.0], [1.0, 0.0]]), Line(&[[0.0, -1.0], [0.0, 1.0]])]),
    ("triangle", &[Line(&[[0.0, -1.0], [0.95, 0.85], [-0.95, 0.85], [0.0, -1.0]])]),
    ("square", &[Line(&[[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9], [-0.9, -0.9]])]),
    ("zed", &[Line(&[[-0.8, -0.9], [0.8, -0.9], [-0.8, 0.9], [0.8, 0.9]])]),
    ("fork", &[Line(&[[0.0, 1.0], [0.0, 0.0], [-0.85, -1.0]]), Line(&[[0.0, 0.0], [0.85, -1.0]])]),
    (
        "aitch",
        &[Line(&[[-0.75, -1.0], [-0.75, 1.0]]), Line(&[[0.75, -1.0], [0.75, 1.0]]), Line(&[[-0.75, 0.0], [0.75, 0.0]])],
    ),
    ("theta", &[RING, Line(&[[-1.0, 0.0], [1.0, 0.0]])]),
    (
        "cup",
        &[
            Line(&[[-0.85, -1.0], [-0.85, 0.1]]),
            Curve(&[[-0.85, 0.1], [-0.85, 1.0], [0.0, 1.0], [0.85, 1.0], [0.85, 0.1]]),
            Line(&[[0.85, 0.1], [0.85, -1.0]]),
        ],
    ),
    ("arrow", &[Line(&[[0.0, 1.0], [0.0, -1.0]]), Line(&[[-0.75, -0.2], [0.0, -1.0], [0.75, -0.2]])]),
];

/// Pictures drawn anew at each reading, a function of (seed, split, number).
struct Glyphs {
    seed: u64,
    split: Split,
    count: usize,
}

impl Source for Glyphs {
    fn len(&self) -> usize {
        self.count
    }

    fn read(&self, index: usize, pixels: &mut [u8]) -> Result<u32, DataError> {
        let mut random = Random::new(&[PURPOSE, self.seed, self.split as u64, index as u64]);
        let label = random.below(SHAPES.len() as u64);
        draw(SHAPES[label as usize].1, &mut random, pixels);
        Ok(label as u32)
    }
}

/// Where the square of a shape comes to lie: a matrix and a place.
struct Placement {
    x: Point,
    y: Point,
    centre: Point,
}

impl Placement {
    fn random(random: &mut Random) -> Self {
        let size = random.between(5.5, 9.0);
        let (wide, tall) = (size * random.between(0.8, 1.15), size * random.between(0.8, 1.15));
        let slant = random.between(-0.25, 0.25);
        let half = random.between(-0.2, 0.2); // tangent of half the angle: ±22.6°
        let (cos, sin) = ((1.0 - half * half) / (1.0 + half * half), 2.0 * half / (1.0 + half * half));
        let room = 11.5 - size;
        let centre = [13.5 + random.between(-room, room), 13.5 + random.between(-room, room)];
        let (x, y) = ([wide, slant * tall], [0.0, tall]);
        Self {
            x: [cos * x[0] - sin * y[0], cos * x[1] - sin * y[1]],
            y: [sin * x[0] + cos * y[0], sin * x[1] + cos * y[1]],
            centre,
        }
    }

    /// A point of the square, moved by a shaking hand.
    fn place(&self, point: Point, random: &mut Random) -> Point {
        let [x, y] = point.map(|along| along + random.between(-0.08, 0.08));
        [self.centre[0] + self.x[0] * x + self.x[1] * y, self.centre[1] + self.y[0] * x + self.y[1] * y]
    }
}

fn draw(parts: &[Part], random: &mut Random, pixels: &mut [u8]) {
    let mut canvas = Canvas::new(SIDE);
    let placement = Placement::random(random);
    let radius = random.between(0.6, 1.4);
    let ink = random.between(0.6, 0.95);
    for part in parts {
        let (Line(points) | Curve(points)) = part;
        let placed: Vec<Point> = points.iter().map(|&point| placement.place(point, random)).collect();
        let path = if matches!(part, Curve(_)) { curve(&placed) } else { placed };
        canvas.stroke(&path, radius, ink);
    }
    for _ in 0..random.below(3) {
        stray(&mut canvas, random);
    }
    let (paper, noise) = (random.between(0.0, 0.15), random.between(0.02, 0.1));
    for (pixel, covered) in pixels.iter_mut().zip(canvas.ink) {
        let light = paper + covered * (1.0 - paper) + noise * random.bell();
        *pixel = (light * 255.0 + 0.5).clamp(0.0, 255.0) as u8;
    }
}

/// A short fine stroke that belongs to no shape.
fn stray(canvas: &mut Canvas, random: &mut Random) {
    let from = [random.between(0.0, 27.0), random.between(0.0, 27.0)];
    let to = from.map(|along| along + random.between(-5.0, 5.0));
    let ink = random.between(0.3, 0.7);
    canvas.stroke(&[from, to], 0.4, ink);
}

/// `counts` are those of the training and of the test split.
pub(crate) fn open(seed: u64, counts: (usize, usize)) -> Result<(Dataset, Dataset), DataError> {
    let class_names = SHAPES.iter().map(|shape| shape.0.to_owned()).collect();
    let shape = Shape::new(1, SIDE, SIDE)?;
    let about = About { name: "glyphs".to_owned(), shape, class_names, report: Report::default() };
    let source = |split, count| Arc::new(Glyphs { seed, split, count });
    Dataset::pair(about, source(Split::Train, counts.0), source(Split::Test, counts.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_depends_on_seed_split_and_number_alone() {
        let (train, test) = open(5, (30, 30)).unwrap();
        let (longer, _) = open(5, (70, 1)).unwrap();
        assert_eq!(train.sample(29).unwrap(), longer.sample(29).unwrap());
        assert_ne!(train.sample(29).unwrap(), test.sample(29).unwrap());
        assert_ne!(train.sample(29).unwrap(), open(6, (30, 1)).unwrap().0.sample(29).unwrap());
    }

    #[test]
    fn the_pictures_never_change_from_release_to_release() {
        assert_eq!(open(0, (1_000, 1)).unwrap().0.fingerprint(), FINGERPRINT);
    }

    /// Printed by this very test once; recorded figures of training rest on it.
    const FINGERPRINT: u32 = 0xdb71cda3;

    #[test]
    fn classes_are_about_equally_frequent() {
        let (train, _) = open(1, (2_000, 1)).unwrap();
        let mut seen = [0; 10];
        (0..2_000).for_each(|index| seen[train.sample(index).unwrap().1 as usize] += 1);
        assert!(seen.iter().all(|&count| (140..260).contains(&count)), "{seen:?}");
    }
}
