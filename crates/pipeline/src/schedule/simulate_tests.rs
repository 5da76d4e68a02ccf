//! What the simulator gives, held against the table and against times worked out by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::tests::{every_schedule, interleaved, table};
use super::*;

/// Floating-point sums of at most some thousand terms.
const ROUNDING: f64 = 1e-9;

fn whole(kind: Kind, times: &[(f64, f64)], steps: &[usize], transfers: &[Transfer]) -> Simulation {
    let schedule = Schedule::new(kind, times.len());
    let durations: Vec<_> = times.iter().map(|&(f, b)| Durations::whole(f, b, 0.0)).collect();
    simulate(&schedule, steps, &durations, transfers, |link| schedule.capacity(link, steps[0])).unwrap()
}

/// With M microbatches a step, what runs d microbatches ahead is at most ⌈d/M⌉ updates stale (`docs/staleness.md`). Stages
/// differ in speed, transfers take time: neither changes the order of a row.
#[test]
fn sets_and_staleness_of_a_simulation_are_those_of_the_table() {
    for (schedule, microbatches) in every_schedule() {
        let steps = vec![microbatches; 40 / microbatches + 2];
        let durations: Vec<_> =
            (0..schedule.stages).map(|s| Durations::whole(1.0 + (s % 3) as f64, 2.0, 0.1)).collect();
        let transfers = vec![Transfer { activation: 0.3, gradient: 0.7 }; schedule.stages];
        let capacity = |link| schedule.capacity(link, microbatches);
        let run = simulate(&schedule, &steps, &durations, &transfers, capacity).unwrap();
        if let Kind::Interleaved(_) = schedule.kind {
            assert!(run.staleness.iter().all(|&stale| stale == 0), "{schedule:?}");
            interleaved_devices_hold_what_is_published(&schedule, microbatches, &run.timeline);
            continue;
        }
        for stage in 0..schedule.stages {
            let (sets, ahead) = table(&schedule, stage, microbatches);
            assert_eq!(run.activation_sets[stage], sets, "{schedule:?}, {microbatches}, stage {stage}");
            assert_eq!(
                run.staleness[stage],
                ahead.div_ceil(microbatches),
                "{schedule:?}, {microbatches}, stage {stage}"
            );
        }
    }
}

/// Narayanan et al. 2021: 2(P − 1 − p) + (V − 1)P forwards before the first pair, with groups of P.
fn interleaved_devices_hold_what_is_published(schedule: &Schedule, microbatches: usize, timeline: &Timeline) {
    let (devices, blocks) = (schedule.devices(), schedule.kind.blocks());
    for device in 0..devices {
        let mut spans: Vec<Span> = timeline.rows.iter().skip(device).step_by(devices).flatten().copied().collect();
        spans.sort_by(|a, b| a.start.total_cmp(&b.start));
        let of_device = Timeline { rows: vec![spans], devices: 1 };
        let group = microbatches.div_ceil((microbatches / devices).max(1));
        let warmup = 2 * (devices - 1 - device) + (blocks - 1) * group + 1;
        let sets = warmup.min(blocks * microbatches);
        assert_eq!(of_device.activation_sets(), [sets], "{schedule:?}, {microbatches}, device {device}");
    }
}

/// Stage 0 has 16 units of work, stage 1 has 80 and begins after one; stage 0 ends one after it. That stage 0 waits for
/// room meanwhile is no work.
#[test]
fn waiting_for_room_is_idle() {
    let run = whole(Kind::GPipe, &[(1.0, 1.0), (5.0, 5.0)], &[8], &[]);
    assert!((run.makespan() - 82.0).abs() < ROUNDING, "{}", run.makespan());
    assert!((run.bubble - (1.0 - 96.0 / 164.0)).abs() < ROUNDING, "{}", run.bubble);
}

/// Two stages, unit forwards, backwards of two: F0 at the second stage ends at 1 + a + 1, B0 there at 4 + a, and the first
/// stage has its gradient g later.
#[test]
fn transfers_differ_by_direction_and_by_link() {
    let transfer = |activation, gradient| Transfer { activation, gradient };
    let times = [(1.0, 2.0); 3];
    let end = |transfers: &[Transfer]| whole(Kind::GPipe, &times, &[1], transfers).makespan();
    assert!((end(&[]) - 9.0).abs() < ROUNDING);
    for transfers in [[transfer(0.5, 0.25), transfer(2.0, 4.0)], [transfer(0.0, 3.0), transfer(0.75, 0.0)]] {
        let crossed: f64 = transfers.iter().map(|link| link.activation + link.gradient).sum();
        assert!((end(&transfers) - 9.0 - crossed).abs() < ROUNDING, "{transfers:?}");
    }
}

/// Forwards take 1 and a message 3: the k-th, from 1, has crossed at 1 + 3k, not at k + 3.
#[test]
fn a_message_occupies_its_link_while_it_crosses() {
    let run =
        whole(Kind::LayerBlockWise, &[(1.0, 0.0), (1.0, 0.0)], &[1; 6], &[Transfer { activation: 3.0, gradient: 0.0 }]);
    let forwards: Vec<f64> =
        run.timeline.rows[1].iter().filter(|span| span.action.verb == Verb::Forward).map(|span| span.start).collect();
    // Three forwards run ahead; the fourth waits for the first gradient, which is back at 5, when its forward begins.
    assert_eq!(forwards, [4.0, 7.0, 10.0, 13.0, 16.0, 19.0]);
}

/// The directions of a link do not wait for one another.
#[test]
fn activations_and_gradients_cross_side_by_side() {
    let steps = [1; 100];
    let both = whole(Kind::LayerBlockWise, &[(1.0, 1.0); 2], &steps, &[Transfer::alike(1.5)]);
    // Three microbatches are under way over a round of 1 + 1.5 + 2 + 1.5 + 1 units: a step takes 7/3 of a unit. Crossing in
    // turn, the two messages of a step alone would take three.
    assert!(both.makespan() < 2.5 * 100.0, "{}", both.makespan());
}

/// As `capacity` says: where every sender waits for room, a step takes as long as with room for all messages.
#[test]
fn waiting_for_room_makes_no_step_longer() {
    for (p, m) in [(2, 8), (3, 5), (4, 16), (8, 16)] {
        let schedule = Schedule::new(Kind::GPipe, p);
        for turn in 0..p {
            let times =
                |s: usize| Durations::whole(1.0 + ((s * 5 + turn) % p) as f64, 2.0 + ((s * 3 + turn) % p) as f64, 0.0);
            let durations: Vec<_> = (0..p).map(times).collect();
            let took = |capacity| simulate(&schedule, &[m], &durations, &[], |_| capacity).unwrap().makespan();
            assert!((took(schedule.capacity(0, m)) - took(m)).abs() < ROUNDING, "{p} {m} {turn}");
        }
    }
}

/// Equal stages; of a backward that is not split, I and W together. The bubble as simulated, by formula where there is one,
/// and whether that is exact.
fn alike(kind: Kind, stages: usize, microbatches: usize, [f, i, w]: [f64; 3]) -> (Simulation, f64, bool) {
    let schedule = Schedule::new(kind, stages);
    let times = Durations { forward: f, backward: i + w, input_gradient: i, weight_gradient: w, update: 0.0 };
    let capacity = |link| schedule.capacity(link, microbatches);
    let run = simulate(&schedule, &[microbatches], &vec![times; stages], &[], capacity).unwrap();
    (run, schedule.bubble(microbatches, &times).unwrap(), schedule.bubble_is_exact(microbatches, &times))
}

/// Exact where it says so, and never more than a step comes to.
fn held_to_the_formula((run, formula, exact): (Simulation, f64, bool), what: &str) {
    assert!(run.bubble > formula - ROUNDING, "{what}: {} and {formula}", run.bubble);
    assert!(!exact || run.bubble < formula + ROUNDING, "{what}: {} and {formula}", run.bubble);
}

#[test]
fn bubbles_are_those_of_the_formulas() {
    for p in 1..=8 {
        for m in 1..=16 {
            for kind in [Kind::GPipe, Kind::OneForwardOneBackward] {
                let step = alike(kind, p, m, [1.0, 1.5, 0.5]);
                assert!(step.2);
                held_to_the_formula(step, &format!("{kind} {p} {m}"));
            }
            for blocks in [2, 3] {
                let Schedule { kind, stages } = interleaved(blocks, p);
                let step = alike(kind, stages, m, [1.0, 1.5, 0.5]);
                assert_eq!(step.2, m % p == 0);
                held_to_the_formula(step, &format!("{kind} {p} {m}"));
            }
        }
    }
    let times = Durations::whole(1.0, 2.0, 0.0);
    for kind in [Kind::LayerBlockWise, Kind::OneForwardOneBackwardAsync] {
        assert_eq!(Schedule::new(kind, 4).bubble(8, &times), None);
    }
}

#[test]
fn the_bubble_of_zero_bubble_is_that_of_the_formula_where_its_conditions_hold() {
    let short =
        [[1.0, 1.0, 1.0], [2.0, 1.0, 1.0], [1.0, 2.0, 0.5], [1.0, 1.25, 0.75], [3.0, 2.0, 0.25], [1.5, 1.0, 0.0]];
    let long = [[1.0, 1.5, 1.5], [2.0, 1.0, 1.5], [0.5, 0.5, 2.0]];
    for (p, m) in (1..=8).flat_map(|p| (1..=16).map(move |m| (p, m))) {
        for times in short.into_iter().chain(long) {
            let step = alike(Kind::ZeroBubble, p, m, times);
            assert_eq!(step.2, p == 1 || (m >= p && short.contains(&times)));
            held_to_the_formula(step, &format!("{p} {m} {times:?}"));
        }
    }
    // Idle time of each device, where (P − 1)(F + I − W) is 3.
    for (m, times, idle) in [(8, [1.0, 1.5, 1.5], 4.5), (2, [1.0, 1.0, 1.0], 5.0)] {
        let (run, _, exact) = alike(Kind::ZeroBubble, 4, m, times);
        assert!(!exact && (run.bubble * run.makespan() - idle).abs() < ROUNDING, "{}", run.bubble * run.makespan());
    }
}
