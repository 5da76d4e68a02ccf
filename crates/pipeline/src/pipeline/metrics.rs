//! Loss and right answers.

use crate::PipelineError;

/// Loss and right answers over some samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Metrics {
    /// Samples counted.
    pub samples: usize,
    /// Sum of their losses.
    pub loss_sum: f64,
    /// How many answers were right.
    pub correct: usize,
}

impl Metrics {
    /// Mean loss of a sample.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.samples.max(1) as f64
    }

    /// Fraction of right answers, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        self.correct as f64 / self.samples.max(1) as f64
    }

    /// From what the loss leaves: the losses of `samples` samples, then for each whether its answer was right.
    pub(crate) fn read(samples: usize, bytes: &[u8]) -> Self {
        let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[..8 * samples]);
        let (losses, correct) = values.split_at(samples);
        let loss_sum = losses.iter().map(|&loss| f64::from(loss)).sum();
        Self { samples, loss_sum, correct: correct.iter().filter(|&&right| right > 0.5).count() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.samples += other.samples;
        self.loss_sum += other.loss_sum;
        self.correct += other.correct;
    }
}

/// Whether the loss of a step, which `stage` computed, is a number.
pub(crate) fn check_finite(stage: usize, step: usize, metrics: Metrics) -> Result<(), PipelineError> {
    let value = metrics.loss();
    if value.is_finite() {
        return Ok(());
    }
    Err(PipelineError::NotFinite { stage, step, tensor: "the loss".to_owned(), value })
}
