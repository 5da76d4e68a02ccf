//! Random numbers that are a function of where they are used.

/// The odd number nearest to 2⁶⁴ divided by the golden ratio: steps of it fill 64 bits evenly.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A counter-based generator: the n-th number is a hash of the key and n, and nothing else.
///
/// The key is a row of words such as (purpose, seed, split, sample), so that no two uses share a
/// sequence and none depends on what ran before. Only integer arithmetic, `+`, `*` and `/` are
/// used: the numbers are the same on every platform. Not for cryptography.
#[derive(Clone, Debug)]
pub struct Random {
    key: u64,
    counter: u64,
}

impl Random {
    /// The sequence that belongs to `words`.
    pub fn new(words: &[u64]) -> Self {
        let key = words
            .iter()
            .fold(words.len() as u64, |key, &word| mix(key.wrapping_add(GOLDEN) ^ mix(word.wrapping_add(GOLDEN))));
        Self { key, counter: 0 }
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(1);
        mix(self.key.wrapping_add(self.counter.wrapping_mul(GOLDEN)))
    }

    /// A whole number in `0..bound`, each equally likely; 0 where `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of bits × bound is even but for the lowest (2⁶⁴ mod bound) low halves.
        let unfair = if bound == 0 { 0 } else { bound.wrapping_neg() % bound };
        loop {
            let product = u128::from(self.bits()) * u128::from(bound);
            if product as u64 >= unfair {
                return (product >> 64) as u64;
            }
        }
    }

    /// A number in `[0, 1)`, a multiple of 2⁻²⁴.
    pub fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// A number between `low` and `high`.
    pub fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.unit()
    }

    /// A bell-shaped number of mean 0 and variance 1, within ±3.5: the sum of four uniform ones.
    pub fn bell(&mut self) -> f32 {
        let bits = self.bits();
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        // Four uniform numbers in 0..65536 have mean 4 · 32767.5 and variance 4 · 65536² / 12.
        (sum as f32 - 131_070.0) / 37_837.2
    }

    /// Fills `bytes` with evenly distributed bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(8) {
            let bits = self.bits().to_le_bytes();
            part.copy_from_slice(&bits[..part.len()]);
        }
    }

    /// Puts `items` into random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }
}

/// A bijection of 64 bits in which each bit of the input moves about half of the output.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_their_order_matter() {
        let first = |words: &[u64]| Random::new(words).bits();
        let keys: [&[u64]; 6] = [&[], &[0], &[0, 0], &[0, 1], &[1, 0], &[1]];
        let mut found: Vec<u64> = keys.iter().map(|key| first(key)).collect();
        assert_eq!(first(&[0, 1]), first(&[0, 1]));
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), keys.len());
    }

    #[test]
    fn below_is_even_and_bounded() {
        let mut random = Random::new(&[3]);
        let mut seen = [0u32; 7];
        for _ in 0..70_000 {
            seen[random.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (9_600..10_400).contains(&n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
    }

    #[test]
    fn bell_has_mean_0_and_variance_1() {
        let mut random = Random::new(&[4]);
        let (mut sum, mut squares) = (0.0f64, 0.0f64);
        for _ in 0..100_000 {
            let x = f64::from(random.bell());
            sum += x;
            squares += x * x;
        }
        assert!((sum / 1e5).abs() < 0.02);
        assert!((squares / 1e5 - 1.0).abs() < 0.02);
    }
}
