//! What one pass over the training split yields: normalisation and fingerprint.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::source::{Source, reserve};
use crate::{DataError, Shape};

/// Mean and standard deviation of each channel of the training split, in units of `byte / 255`.
///
/// A channel that never changes has standard deviation 0 and is divided by 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Normalisation {
    /// `C` means, each in 0..=1.
    pub mean: Vec<f32>,
    /// `C` standard deviations, each in 0..=0.5.
    pub std: Vec<f32>,
}

impl Normalisation {
    /// For each channel, the float that stands for each of the 256 bytes.
    pub(crate) fn tables(&self) -> Vec<[f32; 256]> {
        let channels = self.mean.iter().zip(&self.std);
        channels
            .map(|(mean, &std)| {
                let divisor = if std > 0.0 { std } else { 1.0 };
                std::array::from_fn(|byte| (byte as f32 / 255.0 - mean) / divisor)
            })
            .collect()
    }

    /// Fails unless there are `channels` finite means and standard deviations ≥ 0.
    pub(crate) fn check(&self, channels: usize) -> Result<(), DataError> {
        let counted = self.mean.len() == channels && self.std.len() == channels;
        let finite = self.mean.iter().all(|x| x.is_finite()) && self.std.iter().all(|x| x.is_finite() && *x >= 0.0);
        if counted && finite {
            return Ok(());
        }
        Err(DataError::Setting {
            setting: "normalisation",
            reason: format!(
                "wanted {channels} finite means and as many standard deviations that are not negative, found mean {:?} and std {:?}",
                self.mean, self.std
            ),
        })
    }
}

/// Normalisation and fingerprint of a split.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) normalisation: Normalisation,
    pub(crate) fingerprint: u32,
}

/// Samples that one task of the thread pool looks at; the result does not depend on it.
const CHUNK: usize = 256;

/// Exact sums over some samples.
struct Sums {
    /// Of each channel: sum of the bytes, and of their squares.
    channels: Vec<(u128, u128)>,
    crc: crc32fast::Hasher,
}

impl Summary {
    /// Reads every sample of `source` once, in parallel. The sums are whole numbers and the
    /// checksums are joined in order, so that the number of threads changes nothing.
    ///
    /// The fingerprint is the CRC-32 of (count, C, H, W, classes) and each picture and its label.
    pub(crate) fn measure(source: &dyn Source, shape: Shape, classes: usize) -> Result<Self, DataError> {
        let count = source.len();
        let parts: Vec<Result<Sums, DataError>> = (0..count.div_ceil(CHUNK))
            .into_par_iter()
            .map(|part| sums(source, shape, part * CHUNK..count.min((part + 1) * CHUNK)))
            .collect();

        let mut crc = crc32fast::Hasher::new();
        for word in [count, shape.channels(), shape.height(), shape.width(), classes] {
            crc.update(&(word as u64).to_le_bytes());
        }
        let mut totals = vec![(0u128, 0u128); shape.channels()];
        for part in parts {
            let part = part?; // in order: the first bad sample is the one reported
            crc.combine(&part.crc);
            for (total, sum) in totals.iter_mut().zip(part.channels) {
                total.0 += sum.0;
                total.1 += sum.1;
            }
        }
        let values = (count * shape.plane()) as f64;
        let (mean, std) = totals.iter().map(|&(sum, squares)| mean_and_std(sum, squares, values)).unzip();
        Ok(Self { normalisation: Normalisation { mean, std }, fingerprint: crc.finalize() })
    }
}

fn sums(source: &dyn Source, shape: Shape, samples: std::ops::Range<usize>) -> Result<Sums, DataError> {
    let mut pixels = reserve("one picture", shape.len())?;
    pixels.resize(shape.len(), 0u8);
    let mut sums = Sums { channels: vec![(0, 0); shape.channels()], crc: crc32fast::Hasher::new() };
    for index in samples {
        let label = source.read(index, &mut pixels)?;
        sums.crc.update(&pixels);
        sums.crc.update(&label.to_le_bytes());
        for (total, plane) in sums.channels.iter_mut().zip(pixels.chunks_exact(shape.plane())) {
            let (sum, squares) = plane.iter().fold((0u64, 0u64), |(sum, squares), &byte| {
                (sum + u64::from(byte), squares + u64::from(byte) * u64::from(byte))
            });
            total.0 += u128::from(sum);
            total.1 += u128::from(squares);
        }
    }
    Ok(sums)
}

/// In units of `byte / 255`, from `values` bytes.
fn mean_and_std(sum: u128, squares: u128, values: f64) -> (f32, f32) {
    let mean = sum as f64 / values;
    let variance = (squares as f64 / values - mean * mean).max(0.0);
    ((mean / 255.0) as f32, (variance.sqrt() / 255.0) as f32)
}

#[cfg(test)]
mod tests {
    use crate::synthetic;

    use super::*;

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let open = || synthetic::open(3, Shape::new(2, 3, 3).unwrap(), 4, (1_500, 1)).unwrap().0;
        let on = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(open);
        let (one, three) = (on(1), on(3));
        assert_eq!(one.normalisation(), three.normalisation());
        assert_eq!(one.fingerprint(), three.fingerprint());

        let mut crc = crc32fast::Hasher::new();
        [1_500u64, 2, 3, 3, 4].iter().for_each(|word| crc.update(&word.to_le_bytes()));
        for (pixels, label) in (0..1_500).map(|index| one.sample(index).unwrap()) {
            crc.update(&pixels);
            crc.update(&label.to_le_bytes());
        }
        assert_eq!(one.fingerprint(), crc.finalize());
    }
}
