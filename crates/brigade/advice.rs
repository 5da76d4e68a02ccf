//! What is said before a run whose weights will be deeply stale.

use brigade_pipeline::schedule::Schedule;
use brigade_pipeline::staleness::{Corrections, DEEP, StalenessOptions, stable_rate, worst_staleness};

/// The combination that keeps the accuracy of one stage best, by `docs/convergence.md`.
pub const RECOMMENDED: &str = "--schedule 1f1b-async --microbatches P (as many as there are stages) --correction \
                               momentum-prediction";

/// A warning where staleness is deep and no correction is on.
pub fn staleness_warning(schedule: &Schedule, options: &StalenessOptions, microbatches: usize) -> Option<String> {
    let (stage, updates) = worst_staleness(schedule, options, microbatches)?;
    let uncorrected = options.corrections == Corrections::default();
    (uncorrected && updates >= DEEP).then(|| {
        format!(
            "warning: gradients of stage {stage} are {updates} updates old and no correction is on; delayed SGD is stable \
             only for learning rate × curvature < 2·sin(π/(4·{updates} + 2)) = {:.2}, in place of 2; recommended: \
             {RECOMMENDED}",
            stable_rate(updates)
        )
    })
}

#[cfg(test)]
mod tests {
    use brigade_pipeline::schedule::Kind;

    use super::*;

    fn warned(kind: Kind, stages: usize, corrections: &str, microbatches: usize) -> Option<String> {
        let corrections = Corrections::parse([corrections]).unwrap();
        let options = StalenessOptions { corrections, ..StalenessOptions::default() };
        staleness_warning(&Schedule::new(kind, stages), &options, microbatches)
    }

    #[test]
    fn deep_staleness_without_correction_is_warned_about() {
        let warning = warned(Kind::LayerBlockWise, 4, "none", 1).unwrap();
        // 2·sin(π/26).
        assert!(warning.contains("stage 0 are 6 updates") && warning.contains("0.24"), "{warning}");
        assert!(warning.contains(RECOMMENDED), "{warning}");
    }

    #[test]
    fn what_is_not_deep_or_corrected_is_not() {
        assert_eq!(warned(Kind::LayerBlockWise, 1, "none", 1), None);
        assert_eq!(warned(Kind::LayerBlockWise, 4, "none", 8), None);
        assert_eq!(warned(Kind::OneForwardOneBackward, 8, "none", 1), None);
        assert_eq!(warned(Kind::LayerBlockWise, 8, "momentum-prediction", 1), None);
    }
}
