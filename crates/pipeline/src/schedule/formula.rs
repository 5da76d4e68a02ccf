//! The published formulas of idle time, which hold for stages that are alike.

use super::{Durations, Kind, Schedule};

impl Schedule {
    /// Fraction of the devices' time in which they do nothing in a step of M microbatches, where every stage takes
    /// `durations`, transfers take no time and neither do updates. `None` where nothing is flushed.
    ///
    /// - `gpipe`, `1f1b`: (P − 1) / (M + P − 1) (Narayanan et al. 2021);
    /// - `interleaved=V` on P devices: (P − 1) / (V·M + P − 1) (the same);
    /// - `zero-bubble`: each device idles (P − 1)(F + I − W) beside M(F + I + W) of work (Qi et al. 2023, table 1).
    ///
    /// Where [`Schedule::bubble_is_exact`] does not hold, it is the least that a step can come to.
    pub fn bubble(&self, microbatches: usize, durations: &Durations) -> Option<f64> {
        let (fills, count) = ((self.devices() - 1) as f64, microbatches as f64);
        let (idle, work) = match self.kind {
            Kind::GPipe | Kind::OneForwardOneBackward => (fills, count),
            Kind::Interleaved(blocks) => (fills, blocks.count() as f64 * count),
            Kind::ZeroBubble => {
                let Durations { forward, input_gradient, weight_gradient, .. } = *durations;
                let idle = (forward + input_gradient - weight_gradient).max(0.0);
                (fills * idle, count * (forward + input_gradient + weight_gradient))
            }
            Kind::LayerBlockWise | Kind::OneForwardOneBackwardAsync | Kind::Mixed(_) => return None,
        };
        Some(if idle > 0.0 { idle / (work + idle) } else { 0.0 })
    }

    /// Whether [`Schedule::bubble`] is what a step comes to: for `interleaved` where P divides M, for `zero-bubble` where
    /// W ≤ F, W ≤ I and M ≥ P. With longer `W`s, or with fewer microbatches, there is not room for all of them where they
    /// were put. One stage never waits.
    pub fn bubble_is_exact(&self, microbatches: usize, durations: &Durations) -> bool {
        let Durations { forward, input_gradient, weight_gradient, .. } = *durations;
        match self.kind {
            Kind::GPipe | Kind::OneForwardOneBackward => true,
            Kind::Interleaved(_) => microbatches.is_multiple_of(self.devices()),
            Kind::ZeroBubble => {
                let short = weight_gradient <= forward && weight_gradient <= input_gradient;
                self.stages == 1 || (short && microbatches >= self.stages)
            }
            Kind::LayerBlockWise | Kind::OneForwardOneBackwardAsync | Kind::Mixed(_) => false,
        }
    }
}
