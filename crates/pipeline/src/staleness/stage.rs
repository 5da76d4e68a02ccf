//! Policy and corrections worked out for one stage.

use super::{Prediction, StalenessError, StalenessOptions, WeightPolicy, run_ahead};
use crate::schedule::Schedule;

/// PipeMare's D: what is left of a velocity in the moving average after the stage's staleness, e⁻² (Yang et al. 2021).
const DISCREPANCY_MEMORY: f64 = 0.135_335_283_236_612_7;

/// What one stage does about staleness. The identity under a schedule that flushes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct StagePlan {
    weights: WeightPolicy,
    /// Updates between a microbatch's forward and its own update, at most.
    pub(crate) staleness: usize,
    /// The same on average over the microbatches of an update, which the corrections go by.
    mean: f64,
    /// Older versions of the weights that are kept.
    pub(crate) kept: usize,
    /// Steps of an update.
    pub(crate) accumulation: usize,
    annealing: Option<usize>,
    discrepancy: bool,
    spike_compensation: bool,
    prediction: Option<Prediction>,
}

impl StagePlan {
    /// For `stage` of `schedule`, with `microbatches` a step.
    ///
    /// # Errors
    /// Where double-buffered weights would have to keep more than one older version.
    pub(crate) fn new(
        options: &StalenessOptions,
        schedule: &Schedule,
        stage: usize,
        microbatches: usize,
    ) -> Result<Self, StalenessError> {
        if schedule.kind.flushes() {
            return Ok(Self::synchronous());
        }
        let StalenessOptions { weights, corrections } = *options;
        let accumulation = corrections.accumulation.unwrap_or(1);
        let (ahead, per_update) = (run_ahead(schedule, stage), microbatches.saturating_mul(accumulation));
        let overtaken = ahead.div_ceil(per_update);
        let double_buffered = weights == WeightPolicy::DoubleBuffered;
        if double_buffered && overtaken > 1 {
            let microbatches = ahead.div_ceil(accumulation);
            return Err(StalenessError::TooFewMicrobatches { stage, staleness: overtaken, microbatches });
        }
        // The mean of ⌈(d − r)/M⌉ over r = 0…M − 1 is d/M exactly.
        let mean = if double_buffered { 1.0 } else { ahead as f64 / per_update as f64 };
        Ok(Self {
            weights,
            staleness: if double_buffered { 1 } else { overtaken },
            mean,
            kept: match weights {
                WeightPolicy::Single => 0,
                WeightPolicy::Stashed => overtaken,
                WeightPolicy::DoubleBuffered => 1,
            },
            accumulation,
            annealing: corrections.rate_per_stage,
            discrepancy: corrections.discrepancy && mean > 0.0,
            spike_compensation: corrections.spike_compensation,
            prediction: corrections.prediction.filter(|&prediction| prediction == Prediction::LookAhead || mean > 0.0),
        })
    }

    /// Nothing is stale, nothing is corrected.
    pub(crate) const fn synchronous() -> Self {
        Self {
            weights: WeightPolicy::Single,
            staleness: 0,
            mean: 0.0,
            kept: 0,
            accumulation: 1,
            annealing: None,
            discrepancy: false,
            spike_compensation: false,
            prediction: None,
        }
    }

    /// The same with fewer steps an update, where those are many: which version meets which of `sets` activation sets
    /// depends on their number modulo the sets alone, once every set meets the newest version between two updates.
    pub(crate) const fn shortened(self, sets: usize) -> Self {
        let enough = 2 * sets;
        if self.accumulation < enough + sets {
            return self;
        }
        Self { accumulation: enough + self.accumulation % sets, ..self }
    }

    /// The policy.
    pub(crate) const fn weights(&self) -> WeightPolicy {
        self.weights
    }

    /// D of the optimiser's spike compensation; 0 for none.
    pub(crate) fn compensated_delay(&self) -> f64 {
        if self.spike_compensation { self.mean } else { 0.0 }
    }

    /// How much less than in full a gradient enters the velocity.
    pub(crate) fn dampening(&self, momentum: f64) -> f64 {
        if self.looks_ahead() { momentum } else { 0.0 }
    }

    /// Whether forwards read predicted weights.
    pub(crate) const fn predicts(&self) -> bool {
        self.prediction.is_some()
    }

    /// Whether both passes read the predicted weights.
    pub(crate) fn looks_ahead(&self) -> bool {
        self.prediction == Some(Prediction::LookAhead)
    }

    /// How many η·v ahead the predicted weights lie; `None` where nothing is predicted.
    pub(crate) fn predicted_steps(&self, momentum: f64) -> Option<f64> {
        self.prediction.map(|prediction| match prediction {
            Prediction::Linear => self.mean,
            Prediction::Momentum => momentum * (1.0 - momentum.powf(self.mean)) / (1.0 - momentum),
            Prediction::LookAhead => momentum,
        })
    }

    /// γ of the moving average and how many of it the backward's weights are set back; `None` where they are not.
    pub(crate) fn set_back(&self) -> Option<[f64; 2]> {
        self.discrepancy.then(|| [DISCREPANCY_MEMORY.powf(1.0 / self.mean), self.mean])
    }

    /// What the learning rate is multiplied with at a step: (s + 1)^−p, p falling from 1 to 0.
    pub(crate) fn rate_factor(&self, step: usize) -> f32 {
        let Some(steps) = self.annealing else { return 1.0 };
        let power = 1.0 - (step as f64 / steps as f64).min(1.0);
        (self.mean + 1.0).powf(-power) as f32
    }

    /// Whether step `step` ends with an update.
    pub(crate) const fn updates_after(&self, step: usize) -> bool {
        (step + 1).is_multiple_of(self.accumulation)
    }

    /// Updates done before step `step` of the run.
    pub(crate) const fn updates_before(&self, step: usize) -> usize {
        step / self.accumulation
    }

    /// The step whose rate the last update before step `step` used.
    pub(crate) const fn last_updated_step(&self, step: usize) -> usize {
        (self.updates_before(step) * self.accumulation).saturating_sub(1)
    }
}
