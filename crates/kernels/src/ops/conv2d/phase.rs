//! The gradient of the input of a strided convolution, as correlations of stride 1.
//!
//! Input position h meets tap r where h + padding − r·dilation is a multiple of the stride. Positions with the same
//! remainder by the stride meet the same taps r₀, r₀ + step, r₀ + 2·step, …, with step = stride / gcd(stride,
//! dilation), and each further tap lies dilation / gcd positions earlier in `dy`.

/// The input positions of one axis with the same remainder by the stride: first + stride · i for i < grid. Each gets
/// Σ over t < taps of dy\[i + t·dilation − padding\] · w\[last_tap − t·tap_step\].
#[derive(Debug, Clone, Copy)]
pub(super) struct Phase {
    pub(super) first: usize,
    pub(super) grid: usize,
    /// Zero where the positions meet no tap; their gradient is zero.
    pub(super) taps: usize,
    pub(super) last_tap: usize,
    pub(super) tap_step: usize,
    pub(super) dilation: usize,
    /// Zeros before `dy` that the first position wants; may be negative.
    pub(super) padding: i64,
}

impl Phase {
    /// Zeros that must lie before `dy` so that no phase starts earlier.
    pub(super) fn border(phases: &[Self]) -> usize {
        phases.iter().map(|phase| phase.padding).max().unwrap_or(0).max(0) as usize
    }

    /// Where the first tap of the first position lies behind `border` zeros.
    pub(super) const fn origin(&self, border: usize) -> usize {
        (border as i64 - self.padding) as usize
    }

    /// Positions that are read from behind `border` zeros, when those of the grid are computed `block` at a time.
    pub(super) const fn extent(&self, border: usize, block: usize) -> usize {
        self.origin(border) + self.grid.next_multiple_of(block) + self.taps.saturating_sub(1) * self.dilation
    }
}

/// The phases of an axis.
pub(super) fn phases(input: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Vec<Phase> {
    let divisor = gcd(stride, dilation);
    let (tap_step, step) = (stride / divisor, dilation / divisor);
    let phase = |first: usize| {
        let grid = (input - first).div_ceil(stride);
        let met = |tap: &usize| (first + padding).abs_diff(tap * dilation).is_multiple_of(stride);
        let Some(nearest) = (0..kernel).find(met) else {
            return Phase { first, grid, taps: 0, last_tap: 0, tap_step, dilation: step, padding: 0 };
        };
        let taps = (kernel - nearest).div_ceil(tap_step);
        let position = ((first + padding) as i64 - (nearest * dilation) as i64) / stride as i64;
        let padding = ((taps - 1) * step) as i64 - position;
        Phase { first, grid, taps, last_tap: nearest + (taps - 1) * tap_step, tap_step, dilation: step, padding }
    };
    (0..stride.min(input)).map(phase).collect()
}

const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_meeting_of_a_position_and_a_tap_is_in_just_one_phase() {
        for (input, kernel, stride, padding, dilation) in
            [(7, 3, 1, 1, 1), (9, 3, 2, 1, 1), (5, 2, 4, 3, 1), (11, 5, 3, 0, 2), (8, 3, 2, 4, 2), (6, 4, 4, 2, 6)]
        {
            let mut wanted = Vec::new();
            for h in 0..input as i64 {
                for r in 0..kernel as i64 {
                    let reach = h + padding as i64 - r * dilation as i64;
                    if reach % stride as i64 == 0 {
                        wanted.push((h, r, reach / stride as i64));
                    }
                }
            }
            let mut found = Vec::new();
            for phase in phases(input, kernel, stride, padding, dilation) {
                for (i, t) in (0..phase.grid).flat_map(|i| (0..phase.taps).map(move |t| (i, t))) {
                    let position = (i + t * phase.dilation) as i64 - phase.padding;
                    let tap = phase.last_tap - t * phase.tap_step;
                    found.push(((phase.first + i * stride) as i64, tap as i64, position));
                }
            }
            found.sort_unstable();
            wanted.sort_unstable();
            assert_eq!(found, wanted, "{input} {kernel} {stride} {padding} {dilation}");
        }
    }
}
