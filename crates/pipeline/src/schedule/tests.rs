//! The family's table, held for every P = 1…8 and M = 1…16.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

const UNIT: Durations = Durations::whole(1.0, 1.0, 0.0);

pub(super) fn every_schedule() -> impl Iterator<Item = (Schedule, usize)> {
    let plain = Kind::ALL.into_iter().flat_map(|kind| (1..=8).map(move |stages| Schedule::new(kind, stages)));
    plain
        .chain(every_mixture())
        .chain(every_interleaved())
        .flat_map(|schedule| (1..=16).map(move |microbatches| (schedule, microbatches)))
}

/// Two and three layer-blocks on each of up to eight devices.
fn every_interleaved() -> impl Iterator<Item = Schedule> {
    [2, 3].into_iter().flat_map(|blocks| (1..=8).map(move |devices| interleaved(blocks, devices)))
}

pub(super) fn interleaved(blocks: usize, devices: usize) -> Schedule {
    Schedule::new(format!("interleaved={blocks}").parse().unwrap(), blocks * devices)
}

/// Every choice of slack for up to seven links.
fn every_mixture() -> impl Iterator<Item = Schedule> {
    (2..=8usize).flat_map(|stages| {
        (0..1u32 << (stages - 1)).map(move |bits| {
            let words: Vec<String> = (0..stages - 1).map(|link| (bits >> link & 1).to_string()).collect();
            Schedule::new(Kind::Mixed(words.join(",").parse().unwrap()), stages)
        })
    })
}

/// Slack of the links at or after a stage, in all.
fn slack_after(schedule: &Schedule, stage: usize) -> usize {
    match schedule.kind {
        Kind::Mixed(slack) => (stage..schedule.stages - 1).map(|link| slack.of(link)).sum(),
        _ => 0,
    }
}

#[test]
fn a_mixture_of_all_or_none_is_one_of_the_plain_kinds() {
    for (text, kind) in [("1,1,1", Kind::LayerBlockWise), ("0,0,0", Kind::OneForwardOneBackwardAsync)] {
        let mixed = Schedule::new(format!("mixed={text}").parse().unwrap(), 4);
        for stage in 0..4 {
            assert_eq!(mixed.row(stage, &[2; 9]), Schedule::new(kind, 4).row(stage, &[2; 9]));
        }
    }
    let kind: Kind = "mixed=1,0".parse().unwrap();
    assert_eq!(serde_json::to_string(&kind).unwrap(), "\"mixed=1,0\"");
    assert_eq!(serde_json::from_str::<Kind>("\"mixed=1,0\"").unwrap(), kind);
    for kind in Kind::ALL {
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
    }
    for (text, error) in [("interleaved", true), ("interleaved=1", true), ("interleaved=2", false)] {
        assert_eq!(text.parse::<Kind>().is_err(), error, "{text}");
    }
    assert!("mixed".parse::<Kind>().unwrap_err().to_string().contains("mixed=S"));
}

#[test]
fn rows_print_as_in_the_papers() {
    let print = |kind, stage, steps: &[usize]| {
        let row = Schedule::new(kind, 3).row(stage, steps);
        row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(print(Kind::OneForwardOneBackward, 0, &[4]), "F0 F1 F2 B0 F3 B1 B2 B3 U0");
    assert_eq!(print(Kind::GPipe, 2, &[2, 1]), "F0 F1 B0 B1 U0 F2 B2 U1");
    assert_eq!(print(Kind::LayerBlockWise, 1, &[1; 5]), "F0 F1 F2 B0 U0 F3 B1 U1 F4 B2 U2 B3 U3 B4 U4");
    assert_eq!(print(Kind::ZeroBubble, 0, &[4]), "F0 F1 F2 I0 W0 F3 I1 W1 I2 W2 I3 W3 U0");
    assert_eq!(print(Kind::ZeroBubble, 2, &[4]), "F0 I0 F1 I1 F2 I2 W0 F3 I3 W1 W2 W3 U0");
    assert_eq!(print(Kind::OneForwardOneBackwardAsync, 2, &[1; 3]), "F0 B0 U0 F1 B1 U1 F2 B2 U2");
    let rows: Vec<_> = (0..4).map(|stage| interleaved(2, 2).row(stage, &[4])).collect();
    let rows = rows.iter().map(|row| row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    let wanted = [
        "F0 F1 F2 F3 B0 B1 B2 B3 U0",
        "F0 F1 F2 B0 F3 B1 B2 B3 U0",
        "F0 F1 B0 B1 F2 F3 B2 B3 U0",
        "F0 B0 F1 B1 F2 B2 F3 B3 U0",
    ];
    assert_eq!(rows.collect::<Vec<_>>(), wanted);
}

#[test]
fn no_schedule_deadlocks_with_links_of_the_computed_capacity() {
    for (schedule, microbatches) in every_schedule() {
        let steps = vec![microbatches; 40 / microbatches + 2];
        let capacity = |link| schedule.capacity(link, microbatches);
        let durations = vec![UNIT; schedule.stages];
        let run = simulate(&schedule, &steps, &durations, &[], capacity);
        assert!(run.is_ok(), "{schedule:?}, {microbatches} microbatches: {run:?}");
    }
}

/// Activation sets and staleness of a stage by the table of `docs/pipeline.md`, the latter with one microbatch a step.
pub(super) fn table(schedule: &Schedule, stage: usize, microbatches: usize) -> (usize, usize) {
    let (p, s) = (schedule.stages, stage + 1);
    match schedule.kind {
        Kind::LayerBlockWise => (2 * p - 2 * s + 1, 2 * (p - s)),
        Kind::OneForwardOneBackwardAsync => (p - s + 1, p - s),
        Kind::Mixed(_) => (p - s + 1 + slack_after(schedule, stage), p - s + slack_after(schedule, stage)),
        Kind::GPipe => (microbatches, 0),
        Kind::OneForwardOneBackward => (microbatches.min(p - s + 1), 0),
        // The most that 1f1b holds, which is its first stage's; every stage may reach it.
        Kind::ZeroBubble => (microbatches.min(p), 0),
        Kind::Interleaved(_) => unreachable!("its sets are those of a device, and have a test of their own"),
    }
}

#[test]
fn activation_sets_and_staleness_are_those_of_the_table() {
    let plain = every_schedule().filter(|(schedule, _)| !matches!(schedule.kind, Kind::Interleaved(_)));
    for (schedule, microbatches) in plain {
        let steps = vec![microbatches; 40 / microbatches + 2];
        for stage in 0..schedule.stages {
            let (sets, staleness) = table(&schedule, stage, microbatches);
            let row = schedule.row(stage, &steps);
            assert_eq!(most_in_flight(&row), sets, "{schedule:?} stage {stage}");
            assert_eq!(schedule.activation_sets(stage, microbatches), sets);
            let warmup =
                if schedule.kind == Kind::ZeroBubble { microbatches.min(schedule.stages - stage) } else { sets };
            assert_eq!(schedule.warmup(stage, microbatches), warmup);
            if microbatches == 1 || schedule.kind.flushes() {
                assert_eq!(measured_staleness(&row, microbatches), staleness, "{schedule:?} stage {stage}");
                assert_eq!(schedule.staleness(stage), staleness);
            }
        }
    }
}

#[test]
fn interleaved_devices_take_every_block_of_every_microbatch_once_and_hold_what_is_published() {
    for schedule in every_interleaved() {
        let (devices, blocks) = (schedule.devices(), schedule.kind.blocks());
        for microbatches in 1..=16 {
            for device in 0..devices {
                let steps = [microbatches, 1, microbatches];
                let mut row = Vec::new();
                for stage in (device..schedule.stages).step_by(devices) {
                    let (actions, turns) = (schedule.row(stage, &steps), schedule.turns(stage, &steps));
                    assert_eq!(actions.len(), turns.len());
                    let steps_of_all_sizes: Vec<_> = (1..=microbatches).collect();
                    let most = most_in_flight(&schedule.row(stage, &steps_of_all_sizes));
                    assert_eq!(most, schedule.activation_sets(stage, microbatches));
                    assert_eq!(schedule.staleness(stage), 0);
                    row.extend(turns.into_iter().zip(actions).filter_map(|(turn, action)| Some((turn?, action))));
                }
                row.sort_by_key(|(turn, _)| *turn);
                let all = 2 * blocks * (2 * microbatches + 1);
                assert!(row.iter().map(|(turn, _)| *turn).eq(0..all), "{schedule:?} device {device}");
                // Narayanan et al. 2021: 2(P − 1 − p) + (V − 1)P forwards before the first pair, with groups of P.
                let group = microbatches.div_ceil((microbatches / devices).max(1));
                let warmup = 2 * (devices - 1 - device) + (blocks - 1) * group + 1;
                let actions: Vec<_> = row.into_iter().map(|(_, action)| action).collect();
                assert_eq!(most_in_flight(&actions), warmup.min(blocks * microbatches), "{schedule:?} device {device}");
            }
        }
    }
}

#[test]
fn long_interleaved_steps_hold_no_more_than_shorter_ones() {
    for (blocks, devices) in (2..=5).flat_map(|blocks| (1..=6).map(move |devices| (blocks, devices))) {
        let schedule = interleaved(blocks, devices);
        for (stage, count) in (0..schedule.stages).flat_map(|stage| (1..=80).map(move |count| (stage, count))) {
            let most = most_in_flight(&schedule.row(stage, &[count]));
            assert!(
                most <= schedule.activation_sets(stage, 1 << 16),
                "{schedule:?} stage {stage}, {count} microbatches"
            );
        }
    }
}

/// The last step of an epoch may have fewer microbatches than the others.
#[test]
fn shorter_steps_fit_in_the_sets_of_longer_ones() {
    for (schedule, microbatches) in every_schedule() {
        for (stage, fewer) in (0..schedule.stages).flat_map(|stage| (1..=microbatches).map(move |fewer| (stage, fewer)))
        {
            let row = schedule.row(stage, &[microbatches, fewer]);
            let (most, sets) = (most_in_flight(&row), schedule.activation_sets(stage, microbatches));
            assert!(
                most <= sets,
                "{schedule:?} stage {stage}, {fewer} of {microbatches} microbatches: {most} of {sets}"
            );
        }
    }
}

/// Most microbatches whose forward is done and whose backward, in all its parts, is not.
fn most_in_flight(row: &[Action]) -> usize {
    let mut in_flight = 0usize;
    let mut most = 0;
    for action in row {
        match action.verb {
            Verb::Forward => in_flight += 1,
            Verb::Backward | Verb::WeightGradient => in_flight -= 1,
            Verb::InputGradient | Verb::Update => {}
        }
        most = most.max(in_flight);
    }
    most
}

/// Updates between a forward and the update of its own step, at the middle of the row.
fn measured_staleness(row: &[Action], microbatches: usize) -> usize {
    let step = row.iter().filter(|action| action.verb == Verb::Update).count() / 2;
    let forward = row.iter().position(|&action| action == Action::forward(step * microbatches)).unwrap();
    let update = row.iter().position(|&action| action == Action::update(step)).unwrap();
    row[forward..update].iter().filter(|action| action.verb == Verb::Update).count()
}

#[test]
fn a_row_cut_short_is_the_row_of_fewer_steps_until_its_forwards_run_out() {
    for (schedule, microbatches) in every_schedule() {
        let (long, short) = (vec![microbatches; 6], vec![microbatches; 3]);
        for stage in 0..schedule.stages {
            let (long, short) = (schedule.row(stage, &long), schedule.row(stage, &short));
            let end = long.iter().position(|&action| action == Action::forward(3 * microbatches)).unwrap();
            assert_eq!(long[..end], short[..end], "{schedule:?} stage {stage}");
        }
    }
}

#[test]
fn flushing_schedules_take_the_published_time() {
    // 1F1B and GPipe over P equal stages and M microbatches: (M + P − 1)(forward + backward).
    for kind in [Kind::GPipe, Kind::OneForwardOneBackward] {
        for (p, m) in [(2, 4), (4, 8), (8, 16)] {
            let schedule = Schedule::new(kind, p);
            let durations = vec![Durations::whole(1.0, 2.0, 0.0); p];
            let run = simulate(&schedule, &[m], &durations, &[], |link| schedule.capacity(link, m)).unwrap();
            assert!((run.makespan() - 3.0 * (m + p - 1) as f64).abs() < 1e-9, "{kind} {p} {m}: {}", run.makespan());
        }
    }
}

#[test]
fn slack_hides_a_transfer_behind_computing() {
    let steps = [1; 200];
    let durations = [Durations::whole(1.0, 1.0, 0.0); 4];
    let time = |kind| {
        let schedule = Schedule::new(kind, 4);
        let transfers = [Transfer::alike(0.4); 3];
        simulate(&schedule, &steps, &durations, &transfers, |link| schedule.capacity(link, 1)).unwrap().makespan()
            / 400.0
    };
    assert!(time(Kind::LayerBlockWise) < 1.05, "{}", time(Kind::LayerBlockWise));
    assert!(time(Kind::OneForwardOneBackwardAsync) > 1.15, "{}", time(Kind::OneForwardOneBackwardAsync));
}

/// A finish runs over the stages as they were built: in their activation sets, through their links.
#[test]
fn a_finish_fits_what_its_schedule_was_built_with() {
    for (schedule, microbatches) in every_schedule() {
        let finish = schedule.finish();
        assert!(finish.kind.flushes());
        for stage in 0..schedule.stages {
            let [wanted, there] = [finish, schedule].map(|s| s.activation_sets(stage, microbatches));
            assert!(
                wanted <= there,
                "{schedule:?} stage {stage}, {microbatches} microbatches: {wanted} of {there} sets"
            );
            if stage + 1 < schedule.stages {
                let [wanted, there] = [finish, schedule].map(|s| s.capacity(stage, microbatches));
                assert!(wanted <= there, "{schedule:?} link {stage}, {microbatches} microbatches: {wanted} of {there}");
            }
        }
    }
}
