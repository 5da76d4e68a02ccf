//! The published formulas of idle time, which hold for stages that are alike.

use super::{Durations, Kind, Schedule};

impl Schedule {
    /// Fraction of the devices' time in which they do nothing in a step of M microbatches, where every stage takes
    /// `durations`, transfers take no time and neither do updates. `None` where nothing is flushed, and where the
    /// formula's conditions do not hold.
    ///
    /// - `gpipe`, `1f1b`: (P − 1) / (M + P − 1) (Narayanan et al. 2021);
    /// - `interleaved=V` on P devices: (P − 1) / (V·M + P − 1), where P divides M (the same);
    /// - `zero-bubble`: each device idles (P − 1)(F + I − W) beside M(F + I + W) of work (Qi et al. 2023, table 1), where
    ///   W ≤ F, W ≤ I and M ≥ P: with longer `W`s, or with fewer microbatches, there is not room for all of them where
    ///   they were put.
    pub fn bubble(&self, microbatches: usize, durations: &Durations) -> Option<f64> {
        let (fills, count) = ((self.devices() - 1) as f64, microbatches as f64);
        match self.kind {
            Kind::GPipe | Kind::OneForwardOneBackward => Some(fills / (count + fills)),
            Kind::Interleaved(blocks) => {
                microbatches.is_multiple_of(self.devices()).then(|| fills / (blocks.count() as f64 * count + fills))
            }
            Kind::ZeroBubble => {
                let Durations { forward, input_gradient, weight_gradient, .. } = *durations;
                let holds = microbatches >= self.stages && weight_gradient <= forward.min(input_gradient);
                let idle = fills * (forward + input_gradient - weight_gradient);
                let work = count * (forward + input_gradient + weight_gradient);
                (holds && work > 0.0).then(|| idle / (work + idle))
            }
            Kind::LayerBlockWise | Kind::OneForwardOneBackwardAsync | Kind::Mixed(_) => None,
        }
    }
}
