//! The order in which an epoch visits the samples.

use crate::{DataError, Random};

/// Keeps the shuffling apart from all other uses of the same seed.
const PURPOSE: u64 = u64::from_le_bytes(*b"shuffle\0");

/// Cuts epochs over `count` samples into batches of `batch`; the last one holds what is left, 1 or more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampler {
    count: u32,
    batch: usize,
    /// Natural order where there is none.
    seed: Option<u64>,
}

impl Sampler {
    /// Visits the samples in their natural order.
    ///
    /// # Errors
    /// [`DataError::Setting`] where `count` or `batch` is 0 or `count` does not fit in 32 bits.
    pub fn new(count: usize, batch: usize) -> Result<Self, DataError> {
        if batch == 0 {
            let reason = "a batch of 0 samples trains nothing; give 1 or more".to_owned();
            return Err(DataError::Setting { setting: "batch", reason });
        }
        match u32::try_from(count) {
            Ok(count) if count > 0 => Ok(Self { count, batch, seed: None }),
            _ => {
                let reason = format!("{count} samples; wanted 1 to {}", u32::MAX);
                Err(DataError::Setting { setting: "count", reason })
            }
        }
    }

    /// Visits them in an order that depends on `seed` and the epoch, and on nothing else.
    #[must_use]
    pub fn shuffled(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }

    /// Number of batches in an epoch.
    pub fn batches(&self) -> usize {
        (self.count as usize).div_ceil(self.batch)
    }

    /// The order of epoch number `epoch`.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        let mut order: Vec<u32> = (0..self.count).collect();
        if let Some(seed) = self.seed {
            Random::new(&[PURPOSE, seed, epoch]).shuffle(&mut order);
        }
        Epoch { order, batch: self.batch }
    }
}

/// One epoch: every sample once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    order: Vec<u32>,
    batch: usize,
}

impl Epoch {
    /// Number of batches.
    pub fn batches(&self) -> usize {
        self.order.len().div_ceil(self.batch)
    }

    /// The samples of batch `index`; `None` past the last.
    pub fn batch(&self, index: usize) -> Option<&[u32]> {
        self.order.chunks(self.batch).nth(index)
    }

    /// Every sample, in the order of this epoch.
    pub fn order(&self) -> &[u32] {
        &self.order
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_sample_or_no_batch_is_refused() {
        assert!(Sampler::new(0, 1).unwrap_err().to_string().contains("count"));
        assert!(Sampler::new(1, 0).unwrap_err().to_string().contains("batch"));
        assert!(Sampler::new(1 << 33, 1).is_err());
    }

    #[test]
    fn without_a_seed_the_order_is_natural() {
        let epoch = Sampler::new(5, 2).unwrap().epoch(9);
        assert_eq!(epoch.order(), [0, 1, 2, 3, 4]);
        assert_eq!(epoch.batch(2), Some(&[4u32][..]));
        assert_eq!(epoch.batch(3), None);
    }

    #[test]
    fn the_order_never_changes_from_release_to_release() {
        let order = |seed, epoch| Sampler::new(10, 3).unwrap().shuffled(seed).epoch(epoch).order().to_vec();
        assert_eq!(order(1, 0), ORDER_OF_SEED_1_EPOCH_0);
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }

    /// Printed by this very function once; a change would break the resuming of old checkpoints.
    const ORDER_OF_SEED_1_EPOCH_0: [u32; 10] = [6, 5, 8, 4, 3, 0, 9, 2, 1, 7];

    proptest! {
        #[test]
        fn each_sample_comes_once(count in 1usize..300, batch in 1usize..400, seed: u64, number: u64) {
            let sampler = Sampler::new(count, batch).unwrap().shuffled(seed);
            let epoch = sampler.epoch(number);
            prop_assert_eq!(&epoch, &sampler.epoch(number));
            prop_assert_eq!(epoch.batches(), sampler.batches());
            let mut seen: Vec<u32> = (0..epoch.batches()).flat_map(|b| epoch.batch(b).unwrap().to_vec()).collect();
            prop_assert_eq!(&seen, epoch.order());
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..count as u32).collect::<Vec<_>>());
        }
    }
}
