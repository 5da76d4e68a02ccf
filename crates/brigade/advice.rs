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
    /// Of the optimiser.
    pub momentum: f64,
}

/// A warning where staleness is deep and nothing corrects it for all of the run, or where the run is too short for an update.
pub fn staleness_warning(schedule: &Schedule, options: &StalenessOptions, run: Length) -> Option<String> {
    if let Some(gathered) = options.corrections.accumulation.filter(|&gathered| gathered > run.steps) {
        let steps = run.steps;
        return Some(format!(
            "warning: no weight is ever updated: the run has {steps} steps, and `accumulation={gathered}` updates after {gathered}"
        ));
    }
    let (stage, updates) = worst_staleness(schedule, options, run.microbatches)?;
    let corrections = options.corrections;
    let finished = corrections.synchronous_finish.is_some_and(|epochs| epochs >= run.epochs);
    let annealing = corrections.rate_per_stage.unwrap_or(0);
    let corrected = corrections.correct_gradients(run.momentum) || annealing >= run.steps || finished;
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
        let run = Length { microbatches, steps: 100, epochs: 4, momentum: 0.9 };
        staleness_warning(&Schedule::new(kind, stages), &options, run)
    }

    /// Without momentum the terms that predict by it are none.
    #[test]
    fn corrections_by_a_momentum_that_is_not_there_are_warned_about() {
        for (correction, corrects) in
            [("momentum-prediction", false), ("spike-compensation", false), ("linear-prediction", true)]
        {
            let corrections = Corrections::parse([correction]).unwrap();
            let options = StalenessOptions { corrections, ..StalenessOptions::default() };
            let run = Length { microbatches: 1, steps: 100, epochs: 4, momentum: 0.0 };
            let warning = staleness_warning(&Schedule::new(Kind::LayerBlockWise, 4), &options, run);
            assert_eq!(warning.is_none(), corrects, "{correction}");
        }
    }

    /// Fewer steps than an update gathers.
    #[test]
    fn a_run_that_never_updates_is_warned_about() {
        assert!(warned(Kind::LayerBlockWise, 4, "accumulation=101", 1).unwrap().contains("no weight is ever updated"));
        assert_eq!(warned(Kind::LayerBlockWise, 4, "accumulation=100", 1), None);
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
