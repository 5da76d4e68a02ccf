//! Random pictures of any shape: to measure speed, not to learn from.

use std::sync::Arc;

use crate::dataset::{About, Report};
use crate::source::Source;
use crate::{DataError, Dataset, Random, Shape, Split};

/// Keeps these pictures apart from all other uses of the same seed.
const PURPOSE: u64 = u64::from_le_bytes(*b"noise\0\0\0");

/// Pictures made anew at each reading: every byte and every label evenly distributed.
struct Noise {
    seed: u64,
    split: Split,
    count: usize,
    classes: u64,
}

impl Source for Noise {
    fn len(&self) -> usize {
        self.count
    }

    fn read(&self, index: usize, pixels: &mut [u8]) -> Result<u32, DataError> {
        let mut random = Random::new(&[PURPOSE, self.seed, self.split as u64, index as u64]);
        let label = random.below(self.classes) as u32;
        random.fill(pixels);
        Ok(label)
    }
}

/// `counts` are those of the training and of the test split.
pub(crate) fn open(
    seed: u64,
    shape: Shape,
    classes: usize,
    counts: (usize, usize),
) -> Result<(Dataset, Dataset), DataError> {
    let noise = |split, count| Arc::new(Noise { seed, split, count, classes: classes as u64 });
    let class_names = (0..classes).map(|class| class.to_string()).collect();
    let about = About { name: "synthetic".to_owned(), shape, class_names, report: Report::default() };
    Dataset::pair(about, noise(Split::Train, counts.0), noise(Split::Test, counts.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_repeatable_and_differ() {
        let shape = Shape::new(3, 7, 5).unwrap();
        let (train, test) = open(1, shape, 1000, (20, 5)).unwrap();
        let (again, _) = open(1, shape, 1000, (20, 5)).unwrap();
        assert_eq!(train.sample(3).unwrap(), again.sample(3).unwrap());
        assert_eq!(train.fingerprint(), again.fingerprint());
        assert_ne!(train.sample(3).unwrap(), train.sample(4).unwrap());
        assert_ne!(train.sample(3).unwrap(), test.sample(3).unwrap());
        assert_ne!(open(2, shape, 1000, (20, 5)).unwrap().0.fingerprint(), train.fingerprint());
    }

    #[test]
    fn normalised_noise_has_mean_0_and_deviation_1() {
        let (train, _) = open(1, Shape::new(3, 16, 16).unwrap(), 10, (200, 1)).unwrap();
        let batch = train.batch(&(0..200).collect::<Vec<_>>()).unwrap();
        let count = batch.pixels.len() as f32;
        let mean = batch.pixels.iter().sum::<f32>() / count;
        let variance = batch.pixels.iter().map(|x| x * x).sum::<f32>() / count;
        assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 1e-3, "{mean} {variance}");
        assert!(batch.labels.iter().all(|&label| label < 10));
    }
}
