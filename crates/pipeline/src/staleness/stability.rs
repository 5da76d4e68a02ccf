//! How much a rate must shrink for delayed gradients to be stable.

use std::f64::consts::PI;

/// From this staleness on a run without corrections is warned about: less than a quarter of the rates that are stable
/// without staleness are left.
pub const DEEP: usize = 3;

/// Gradient descent on λ/2·w² with gradients that are `staleness` updates old is stable only for ηλ below this:
/// 2·sin(π/(4D + 2)) (Yang et al. 2021, lemma 1); 2 without staleness.
pub fn stable_rate(staleness: usize) -> f64 {
    2.0 * (PI / (4.0 * staleness as f64 + 2.0)).sin()
}
