//! Staleness against the rows, what goes together, and the numbers of the corrections.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use super::*;
use crate::schedule::{Action, Kind, Verb};

fn options(weights: WeightPolicy, corrections: &str) -> StalenessOptions {
    StalenessOptions { weights, corrections: Corrections::parse(corrections.split(',')).unwrap() }
}

/// For each microbatch of a row the updates between its forward and that of its own step.
fn counted(row: &[Action], microbatches: usize) -> Vec<usize> {
    let place = |wanted: Action| row.iter().position(|&action| action == wanted).unwrap();
    let updates = |from: usize, to: usize| row[from..to].iter().filter(|action| action.verb == Verb::Update).count();
    let forwards = row.iter().filter(|action| action.verb == Verb::Forward);
    forwards.map(|f| updates(place(*f), place(Action::update(f.index / microbatches)))).collect()
}

#[test]
fn staleness_is_what_the_rows_say() {
    for kind in Kind::ALL {
        for (stages, microbatches) in (1..=8).flat_map(|p| (1..=6).map(move |m| (p, m))) {
            let schedule = Schedule::new(kind, stages);
            let steps = vec![microbatches; 20];
            for stage in 0..stages {
                let row = schedule.row(stage, &steps);
                let found = counted(&row, microbatches);
                let steady = &found[15 * microbatches..16 * microbatches];
                let most = staleness(&schedule, stage, microbatches);
                assert_eq!(*steady.iter().max().unwrap(), most, "{kind} {stages} {microbatches} {stage}");
                // The corrections go by the mean, which is d/M.
                let ahead = run_ahead(&schedule, stage);
                assert_eq!(steady.iter().sum::<usize>(), ahead, "{kind} {stages} {microbatches} {stage}");
                assert!(found.iter().all(|&updates| updates <= most));
            }
        }
    }
}

#[test]
fn no_older_version_is_overwritten_before_its_last_backward() {
    for kind in [Kind::LayerBlockWise, Kind::OneForwardOneBackwardAsync] {
        for (stages, microbatches) in (1..=6).flat_map(|p| (1..=4).map(move |m| (p, m))) {
            for first_step in [0, 7] {
                let schedule = Schedule::new(kind, stages);
                (0..stages).for_each(|stage| walk(&schedule, stage, microbatches, first_step));
            }
        }
    }
}

/// Walks a row with slots that hold the numbers of versions.
fn walk(schedule: &Schedule, stage: usize, microbatches: usize, first_step: usize) {
    let plan = StagePlan::new(&options(WeightPolicy::Stashed, "none"), schedule, stage, microbatches).unwrap();
    let steps = vec![microbatches; 20];
    let row = schedule.row(stage, &steps);
    let versions = Versions::new(plan, &row, &steps, first_step);
    let mut slots = vec![first_step; plan.kept];
    let mut current = first_step;
    let mut read = vec![0; 20 * microbatches];
    for action in row {
        let held = |copy: WeightCopy, current: usize| match copy {
            WeightCopy::Kept(slot) => slots[slot],
            _ => current,
        };
        match action.verb {
            Verb::Forward => read[action.index] = held(versions.forward(action.index), current),
            Verb::Backward | Verb::InputGradient | Verb::WeightGradient => {
                assert_eq!(held(versions.backward(action.index), current), read[action.index]);
            }
            Verb::Update => {
                if let Some(slot) = versions.kept_by_update(action.index) {
                    slots[slot] = current;
                }
                current += 1;
            }
        }
    }
}

#[test]
fn the_bound_is_that_of_a_simulated_quadratic() {
    for delay in [0, 1, 3, 6, 14] {
        let bound = stable_rate(delay);
        assert!(last_weight(0.97 * bound, delay) < 1.0, "{delay}");
        assert!(last_weight(1.03 * bound, delay) > 1.0, "{delay}");
    }
}

/// |w| after many steps w ← w − ηλ·w(delay steps ago) from w = 1.
fn last_weight(rate: f64, delay: usize) -> f64 {
    let mut weights = vec![1.0; delay + 1];
    for step in delay..delay + 4000 {
        weights.push(weights[step] - rate * weights[step - delay]);
    }
    weights[weights.len() - 4 * (delay + 1)..].iter().map(|w: &f64| w.abs()).fold(0.0, f64::max)
}

#[test]
fn corrections_are_read_as_they_are_written() {
    for word in Correction::ALL.map(|correction| correction.to_string()) {
        assert_eq!(Corrections::parse([word.as_str()]).unwrap().list()[0].to_string(), word);
    }
    assert_eq!(Corrections::parse(["none"]).unwrap(), Corrections::default());
    for wrong in ["momentum", "accumulation=0", "accumulation=x", "discrepancy=2", ""] {
        assert!(Corrections::parse([wrong]).is_err(), "{wrong}");
    }
    assert!(Corrections::parse(["linear-prediction", "look-ahead"]).is_err());
    assert!(Corrections::parse(["discrepancy", "discrepancy"]).is_err());
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    use WeightPolicy::{DoubleBuffered, Single, Stashed};
    let check =
        |weights, corrections: &str, nesterov| options(weights, corrections).corrections.check(weights, nesterov);
    for (weights, corrections, nesterov) in [
        (Single, "discrepancy,momentum-prediction", false),
        (Stashed, "discrepancy", false),
        (DoubleBuffered, "discrepancy", false),
        (Single, "spike-compensation", true),
        (Single, "look-ahead", true),
        (Single, "look-ahead,spike-compensation", false),
    ] {
        assert!(check(weights, corrections, nesterov).is_err(), "{weights} {corrections} {nesterov}");
    }
    for (weights, corrections) in [
        (Single, "discrepancy,rate-per-stage,spike-compensation,accumulation,synchronous-finish"),
        (Stashed, "momentum-prediction,spike-compensation"),
        (DoubleBuffered, "linear-prediction"),
    ] {
        assert!(check(weights, corrections, false).is_ok(), "{weights} {corrections}");
    }
}

#[test]
fn double_buffered_weights_need_microbatches() {
    let schedule = Schedule::new(Kind::LayerBlockWise, 4);
    let double = options(WeightPolicy::DoubleBuffered, "none");
    let error = StagePlan::new(&double, &schedule, 0, 4).unwrap_err().to_string();
    assert!(error.contains("stage 0") && error.contains("at least 6 microbatches"), "{error}");
    assert_eq!(StagePlan::new(&double, &schedule, 0, 6).unwrap().kept, 1);
}

/// Every action with its activation set and the copy of the weights that it reads, over `steps` steps.
fn met(plan: StagePlan, schedule: &Schedule, microbatches: usize, steps: usize) -> BTreeSet<(Verb, usize, WeightCopy)> {
    let sets = schedule.activation_sets(0, microbatches);
    let steps = vec![microbatches; steps];
    let row = schedule.row(0, &steps);
    let versions = Versions::new(plan, &row, &steps, 0);
    let copy = |action: &Action| match action.verb {
        Verb::Forward => Some(versions.forward(action.index)),
        Verb::Backward => Some(versions.backward(action.index)),
        _ => None,
    };
    row.iter().filter_map(|action| Some((action.verb, action.index % sets, copy(action)?))).collect()
}

#[test]
fn fewer_steps_an_update_meet_the_same_versions_in_the_same_sets() {
    for kind in [Kind::LayerBlockWise, Kind::OneForwardOneBackwardAsync] {
        for (stages, microbatches) in [(2, 1), (3, 1), (3, 2), (4, 3)] {
            let schedule = Schedule::new(kind, stages);
            let sets = schedule.activation_sets(0, microbatches);
            for weights in [WeightPolicy::Single, WeightPolicy::Stashed, WeightPolicy::DoubleBuffered] {
                for accumulation in [2 * sets, 3 * sets, 5 * sets + 1, 7 * sets - 1] {
                    let options = options(weights, &format!("accumulation={accumulation}"));
                    let plan = StagePlan::new(&options, &schedule, 0, microbatches).unwrap();
                    let short = plan.shortened(sets);
                    assert!(short.accumulation < 3 * sets);
                    let round = |plan: StagePlan| met(plan, &schedule, microbatches, (sets + 2) * plan.accumulation);
                    assert_eq!(round(short), round(plan), "{schedule:?} {microbatches} {weights} {accumulation}");
                }
            }
        }
    }
}
