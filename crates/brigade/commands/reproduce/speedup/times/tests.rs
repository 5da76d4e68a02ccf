//! What a machine does whose speed changes, to a real turn on the reference executor.

use std::time::Duration;

use brigade::{Placement, Trainer, built_in};

use super::super::super::runs::samples;
use super::super::run::Run;
use super::*;

/// Of two stages, and of one.
fn turns() -> [Turn; 2] {
    let model = built_in("lenet5").unwrap();
    [2, 1].map(|stages| {
        let placement = Placement::balanced(&model, &vec!["reference"; stages]).unwrap();
        let trainer = Trainer::new(model.clone(), placement).schedule(SCHEDULES[0], 1).batch(1);
        Run::new(trainer.start().unwrap(), samples(&model, 1), 2).unwrap().turn(2).unwrap()
    })
}

/// The turn with every time so many times as long; of one stage alone where it is given.
fn slower(turn: &Turn, by: u32, only: Option<usize>) -> Turn {
    let slow = |time: &mut Duration| *time *= by;
    let mut stages = turn.stages.clone();
    for stage in stages.iter_mut().filter(|of| only.is_none_or(|only| of.stage == only)) {
        let tallies = [&mut stage.forward, &mut stage.backward, &mut stage.update];
        let received = [&mut stage.activations_received, &mut stage.gradients_received];
        tallies.into_iter().chain(received).for_each(|tally| slow(&mut tally.time));
        [&mut stage.waited, &mut stage.elapsed].into_iter().for_each(slow);
    }
    Turn { steps: turn.steps, seconds: turn.seconds * f64::from(if only.is_none() { by } else { 1 }), stages }
}

/// The machine is three times slower in the second turn, and disturbs one of the stages in the third and the other in the
/// fourth and fifth: of five turns, no action's median has moved.
#[test]
fn neither_drift_nor_a_disturbed_stage_changes_a_prediction() {
    let [two, one] = turns();
    let beside = |turn: Turn, by: u32| Beside { turn, one: slower(&one, by, None) };
    let steady = [beside(slower(&two, 1, None), 1)];
    let drifting = [
        beside(slower(&two, 1, None), 1),
        beside(slower(&two, 3, None), 3),
        beside(slower(&two, 9, Some(0)), 1),
        beside(slower(&two, 9, Some(1)), 1),
        beside(slower(&two, 9, Some(1)), 1),
    ];
    let of_devices = [&steady[..], &drifting].map(|turns| Times::of_devices(turns).run(16));
    let of_wall = [&steady[..], &drifting].map(|turns| Times::of_wall(turns).run(16));
    for [steady, drifting] in [of_devices, of_wall] {
        // Durations are whole nanoseconds, of actions that take many microseconds.
        assert!(steady > 0.0 && (drifting / steady - 1.0).abs() < 1e-3, "{steady} and {drifting}");
    }
    assert!((drifting[1].speedup() / steady[0].speedup() - 1.0).abs() < 1e-9);
}
