use super::*;
use crate::model::built_in;
use crate::schedule::{Kind, Schedule};

const SECOND: Duration = Duration::from_secs(1);

/// A watchdog over stages of a small model, and the time.
struct Watch {
    watchdog: Watchdog,
    now: Instant,
}

impl Watch {
    fn new(stages: usize) -> Self {
        let patience = Patience { computing: 25 * SECOND, transfer: 20 * SECOND };
        let now = Instant::now();
        Self { watchdog: Watchdog::new(stages, patience, now), now }
    }

    /// Every stage begins with `doing`.
    fn start(&mut self, doing: Doing) {
        let schedule = Schedule::new(Kind::OneForwardOneBackwardAsync, self.watchdog.places.len());
        self.watchdog.start(doing, Some(Walked { schedule, steps: vec![1; 20] }), self.now);
    }

    /// Every stage has gone through so many actions, a tenth of a second each.
    fn warm(stages: usize) -> Self {
        let mut watch = Self::new(stages);
        watch.start(Doing::Start);
        for index in 0..MEASURED {
            for stage in 0..stages {
                watch.now += SECOND / 10;
                watch.watchdog.note(stage, Action::forward(index), false, watch.now);
            }
        }
        watch
    }

    /// Looks as often as a pipeline does, until it finds a hang or the time is over.
    fn wait(&mut self, time: Duration) -> Option<String> {
        let end = self.now + time;
        while self.now < end {
            self.now += LOOK;
            if let Err(error) = self.watchdog.check(self.now) {
                return Some(error.to_string());
            }
        }
        None
    }
}

#[test]
fn a_hang_in_the_first_actions_is_found_within_a_minute() {
    let mut watch = Watch::new(2);
    watch.start(Doing::Start);
    watch.watchdog.note(0, Action::forward(0), false, watch.now);
    watch.watchdog.note(1, Action::forward(0), true, watch.now);
    assert_eq!(watch.wait(20 * SECOND), None);
    let found = watch.wait(10 * SECOND).unwrap();
    assert!(found.contains("stage 0 hangs at F0") && found.contains("\nstage 1: [F0]"), "{found}");
}

#[test]
fn a_hang_before_the_first_action_is_one_of_the_row_s_start() {
    let mut watch = Watch::warm(2);
    watch.start(Doing::Start);
    watch.watchdog.note(1, Action::forward(0), true, watch.now);
    let found = watch.wait(20 * SECOND).unwrap();
    assert!(found.contains("stage 0 hangs at the start of its row"), "{found}");
}

#[test]
fn a_hang_while_parameters_are_copied_is_found() {
    for (doing, words) in [(Doing::Read, "the reading"), (Doing::Write, "the writing")] {
        let mut watch = Watch::warm(2);
        watch.start(doing);
        watch.watchdog.rest(0, watch.now);
        assert_eq!(watch.wait(19 * SECOND), None);
        let found = watch.wait(2 * SECOND).unwrap();
        assert!(found.contains(&format!("stage 1 hangs at {words} of its parameters")), "{found}");
        assert!(found.contains("stage 0: is done"), "{found}");
    }
}

#[test]
fn a_stage_that_is_done_is_not_the_one_that_hangs() {
    let mut watch = Watch::warm(2);
    watch.watchdog.note(1, Action::update(19), false, watch.now);
    watch.watchdog.rest(1, watch.now);
    watch.now += SECOND;
    watch.watchdog.note(0, Action::backward(19), false, watch.now);
    let found = watch.wait(60 * SECOND).unwrap();
    assert!(found.contains("stage 0 hangs at B19"), "{found}");
}

#[test]
fn a_stage_that_does_not_end_hangs_at_what_it_was_about() {
    let mut watch = Watch::warm(3);
    watch.watchdog.rest(2, watch.now);
    for (ended, words) in
        [([true, false, true], "stage 1 hangs at F7"), ([true, true, false], "stage 2 hangs at the letting go")]
    {
        watch.watchdog.start_end(watch.now);
        let mut look = |after| {
            watch.now += after;
            watch.watchdog.check_end(|stage| ended[stage], watch.now)
        };
        for _ in 0..39 {
            look(LOOK).unwrap();
        }
        let error = look(LOOK).unwrap_err().to_string();
        assert!(error.contains(words) && error.contains("\nstage 0: is done"), "{error}");
    }
}

#[test]
fn a_process_that_was_stopped_does_not_hang() {
    for mut watch in [Watch::warm(2), Watch::new(2)] {
        watch.start(Doing::Start);
        assert_eq!(watch.wait(SECOND), None);
        watch.now += 3600 * SECOND;
        // On waking nobody has said anything yet.
        assert_eq!(watch.wait(SECOND), None);
        // Nor has the pause become a measure of silence.
        watch.watchdog.hear(watch.now);
        assert!(watch.wait(40 * SECOND).is_some());
    }
}

#[test]
fn data_may_take_the_time_it_likes() {
    let mut watch = Watch::warm(2);
    watch.watchdog.note(0, Action::forward(9), true, watch.now);
    watch.watchdog.note(1, Action::forward(9), true, watch.now);
    assert_eq!(watch.wait(1000 * SECOND), None);
}

#[test]
fn a_slow_start_is_no_measure_for_small_models_and_slow_actions_are_one_for_large_ones() {
    let hangs_after = |longest: Duration| {
        let mut watch = Watch::warm(1);
        watch.watchdog.longest = longest;
        let began = watch.now;
        watch.wait(1000 * SECOND).map(|_| watch.now - began).unwrap()
    };
    // Of five seconds of compiling no hundred follow.
    assert_eq!([SECOND / 10, SECOND, 5 * SECOND].map(hangs_after), [10, 20, 25].map(|seconds| seconds * SECOND));
    assert_eq!(hangs_after(30 * SECOND), 120 * SECOND);
}

#[test]
fn patience_grows_with_the_model() {
    let patience = |model: &str, kind| {
        let model = built_in(model).unwrap();
        let device = DeviceInfo { kind, ..brigade_devices::ReferenceExecutor::describe() };
        Patience::of(&model, &[(0..model.layers.len(), device)], 32).unwrap()
    };
    let small = patience("lenet5", brigade_devices::Kind::Software);
    assert!(small.computing.max(small.transfer) < 25 * SECOND, "{small:?}");
    // A whole backward in one submission takes tens of seconds there.
    let large = patience("vgg-f", brigade_devices::Kind::Software);
    assert!(large.computing > 120 * SECOND && large.transfer > 40 * SECOND, "{large:?}");
}
