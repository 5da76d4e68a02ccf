//! What a speed-up is made of, on the reference executor: seconds in place of minutes.

use super::*;

/// A small network over two stages.
fn measured(rounds: usize) -> OfModel {
    let device = brigade::choose(&["reference".to_owned()], None, false).unwrap().remove(0);
    let subject = Subject { model: "lenet5", batch: 2, steps: 8, turns: 2, turns_alone: 1, alone: 1, side_by_side: 2 };
    Bench::over(&device, subject, &[2]).unwrap().measure(rounds).unwrap()
}

/// Of one basis, a speed-up is at most its bound, whatever the machine does meanwhile.
#[test]
fn no_speedup_exceeds_its_bound() {
    let of = measured(2);
    let [two] = &of.stages[..] else { panic!("two stages were asked for: {of:?}") };
    let measured = two.measured.as_ref().map(|measured| measured.figure);
    for Figure { speedup, bound, efficiency, spread } in std::iter::once(two.simulated).chain(measured) {
        assert!(speedup > 0.0 && bound > 0.0 && efficiency > 0.0, "{of:?}");
        assert!(efficiency <= 1.0 + 1e-9, "{of:?}");
        assert!(0.0 < spread[0] && spread[0] <= spread[1] && spread[1].is_finite(), "{of:?}");
    }
    let slowest = two.stage_times.iter().copied().fold(0.0, f64::max);
    assert!(two.stage_times.len() == 2 && (two.simulated.bound * slowest - 1.0).abs() < 1e-9, "{of:?}");
    // Both stages together hold at least the weights, gradients and momentum of all parameters.
    let parameters = built_in("lenet5").unwrap().parameter_elements() as u64;
    assert!(two.memory_bytes > 3 * 4 * parameters, "{of:?}");
}

#[test]
fn a_single_round_foresees_no_other() {
    let foreseen = |rounds| {
        let of = measured(rounds);
        of.stages[0].measured.as_ref().map(|measured| measured.prediction_error_of_next_round.is_some())
    };
    // `None` on a machine of one core, where nothing is measured side by side.
    assert!(foreseen(1).is_none_or(|foreseen| !foreseen) && foreseen(2).is_none_or(|foreseen| foreseen));
}
