//! What is said before a run whose weights will be deeply stale.

use brigade_pipeline::schedule::Schedule;
use brigade_pipeline::staleness::{DEEP, StalenessOptions, stable_rate, worst_staleness};

/// The combination that keeps the accuracy of one stage best, by `docs/convergence.md`.
pub const RECOMMENDED: &str = "--schedule 1f1b-async --microbatches P (as many as there are stages) --correction \
                               momentum-prediction";

/// A run, as far as it decides about its staleness.
#[derive(Debug, Clone, Copy)]
pub struct Length {
    /// Microbatches of a step.
    pub microbatches: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Epochs of the whole run.
    pub epochs: usize,
}

/// A warning where staleness is deep and nothing corrects it for all of the run.
pub fn staleness_warning(schedule: &Schedule, options: &StalenessOptions, run: Length) -> Option<String> {
    let (stage, updates) = worst_staleness(schedule, options, run.microbatches)?;
    let corrections = options.corrections;
    let finished = corrections.synchronous_finish.is_some_and(|epochs| epochs >= run.epochs);
    let annealing = corrections.rate_per_stage.unwrap_or(0);
    let corrected = corrections.correct_gradients() || annealing >= run.steps || finished;
    let when = if annealing > 0 { format!(" after step {annealing}") } else { String::new() };
    (!corrected && updates >= DEEP).then(|| {
        format!(
            "warning: gradients of stage {stage} are {updates} updates old and no correction is on{when}; delayed SGD is stable \
             only for learning rate × curvature < 2·sin(π/(4·{updates} + 2)) = {:.2}, in place of 2; recommended: \
             {RECOMMENDED}",
            stable_rate(updates)
        )
    })
}

#[cfg(test)]
mod tests {
    use brigade_pipeline::schedule::Kind;
    use brigade_pipeline::staleness::Corrections;

    use super::*;

    /// Of a run of 100 steps in 4 epochs.
    fn warned(kind: Kind, stages: usize, corrections: &str, microbatches: usize) -> Option<String> {
        let corrections = Corrections::parse(corrections.split(',')).unwrap();
        let options = StalenessOptions { corrections, ..StalenessOptions::default() };
        staleness_warning(&Schedule::new(kind, stages), &options, Length { microbatches, steps: 100, epochs: 4 })
    }

    #[test]
    fn deep_staleness_without_correction_is_warned_about() {
        let warning = warned(Kind::LayerBlockWise, 4, "none", 1).unwrap();
        // 2·sin(π/26).
        assert!(warning.contains("stage 0 are 6 updates") && warning.contains("0.24"), "{warning}");
        assert!(warning.contains(RECOMMENDED), "{warning}");
    }

    /// They change when and how fast weights move, and leave gradients as old as they are.
    #[test]
    fn what_does_not_correct_the_whole_run_is_warned_about() {
        for corrections in ["accumulation=1", "synchronous-finish=3", "rate-per-stage=1", "rate-per-stage=99"] {
            assert!(warned(Kind::LayerBlockWise, 4, corrections, 1).is_some(), "{corrections}");
        }
        let warning = warned(Kind::LayerBlockWise, 4, "rate-per-stage=50,synchronous-finish=1", 1).unwrap();
        assert!(warning.contains("no correction is on after step 50"), "{warning}");
        for corrections in
            ["accumulation=3", "synchronous-finish=4", "rate-per-stage=100", "accumulation=1,discrepancy"]
        {
            assert_eq!(warned(Kind::LayerBlockWise, 4, corrections, 1), None, "{corrections}");
        }
    }

    #[test]
    fn what_is_not_deep_or_corrected_is_not() {
        assert_eq!(warned(Kind::LayerBlockWise, 1, "none", 1), None);
        assert_eq!(warned(Kind::LayerBlockWise, 4, "none", 8), None);
        assert_eq!(warned(Kind::OneForwardOneBackward, 8, "none", 1), None);
        assert_eq!(warned(Kind::LayerBlockWise, 8, "momentum-prediction", 1), None);
    }
}
