//! Rows of processes that end at any moment: one run is ended over and over, goes on each time, and comes in the end to
//! the bits of a run that nothing disturbed.
#![cfg(unix)]

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use brigade_kernels::Random;

use crate::common::command::{Outcome, Place};
use crate::support::newest_verifies;

/// A schedule that never flushes, with a checkpoint every other step: most moments lie within a save or next to one.
const RUN: &str = "--stages 2 --epochs 100000 --checkpoint-every 2 --keep 3";
/// Shells report a process that a signal ended as 128 and its number.
const INTERRUPTED: i32 = 130;

/// How often a test ends the run, unless the variable says.
fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().map_or(default, |times| times.parse().unwrap())
}

/// Ends the run `times` times by `signal`, each at a random moment of its first `longest`; `ended` judges how it ended.
fn disturbed(signal: &str, times: usize, longest: Duration, ended: fn(ExitStatus)) {
    let place = Place::new();
    let mut random = Random::new(7);
    for time in 0..times {
        let line = format!("train --config @small.toml {RUN} --checkpoint-dir @ck --events @events{}", resume(&place));
        let before = newest_step(&place);
        let mut child = place.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(longest.mul_f64(random.between(0.0, 1.0)));
        let sent = std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "signal {time}: still running after a minute");
            std::thread::sleep(Duration::from_millis(1));
        };
        ended(status);
        let (newest, told) = (newest_step(&place), told(&place));
        assert!(newest >= before && newest >= told, "signal {time}: step {newest} of {before} and {told} published");
        if newest > 0 {
            newest_verifies(&place.path("ck"));
        }
    }
    comes_to_the_same(&place);
}

fn resume(place: &Place) -> &'static str {
    if newest_step(place) > 0 { " --resume" } else { "" }
}

/// The step of the newest checkpoint; 0 where there is none.
fn newest_step(place: &Place) -> usize {
    let entries = std::fs::read_dir(place.path("ck")).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_prefix("step-")?.parse().ok()).max().unwrap_or(0)
}

/// The last checkpoint that the run told of.
fn told(place: &Place) -> usize {
    let events = std::fs::read_to_string(place.path("events")).unwrap_or_default();
    let last = events.rsplit("step-").next().filter(|_| events.contains("step-"));
    last.and_then(|rest| rest.get(..8)).map_or(0, |step| step.parse().unwrap())
}

fn comes_to_the_same(place: &Place) {
    let end = newest_step(place) + 4;
    let run = format!("{RUN} --steps {end}");
    place.small("train", &format!("{run} --checkpoint-dir @ck{} --save @parts", resume(place))).done();
    place.small("train", &format!("{run} --checkpoint-dir @whole --save @all")).done();
    assert!(place.read("parts") == place.read("all"), "the run came to other weights at step {end}");
}

#[test]
fn row_18_killed_at_random_moments() {
    disturbed("KILL", times("BRIGADE_KILLS", 12), Duration::from_millis(120), |status| {
        assert_eq!(status.signal(), Some(9));
    });
}

#[test]
fn row_24_interrupted_at_random_moments() {
    disturbed("INT", times("BRIGADE_INTERRUPTS", 12), Duration::from_millis(120), |status| {
        // Before the command listens the signal ends it as it ends any process.
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
        assert_eq!(code, Some(INTERRUPTED));
    });
}

/// An epoch of 20,000 steps with a checkpoint at its end: so far apart are the places that `--checkpoint-every` alone empties.
const FAR: &str = "--stages 2 --train-samples 160000 --checkpoint-every 1000000";

/// How a run ends that is interrupted as soon as it has trained a step.
fn interrupted(place: &Place, flags: &str) -> Outcome {
    let mut command = place.command(&format!("train --config @small.toml {FAR} --events @events {flags}"));
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while !std::fs::read_to_string(place.path("events")).is_ok_and(|events| events.contains("\"step\"")) {
        assert!(begun.elapsed() < Duration::from_secs(50), "no step after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(1));
    }
    let sent = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    child.wait_with_output().unwrap().into()
}

#[test]
fn row_24_interrupted_long_before_a_checkpoint() {
    let place = Place::new();
    let outcome = interrupted(&place, "--checkpoint-dir @ck");
    let step = newest_step(&place);
    assert!(step > 0 && step < 20_000 && step.is_multiple_of(500), "stopped after step {step}");
    // It says where it stops as soon as it knows, and stops there.
    outcome.refused(INTERRUPTED, &[&format!("stopping at step {step},"), &format!("stopped after step {step};")]);
    newest_verifies(&place.path("ck"));
    let run = format!("{FAR} --steps {}", step + 20);
    place.small("train", &format!("{run} --checkpoint-dir @ck --resume --save @parts")).done();
    place.small("train", &format!("{run} --save @all")).done();
    assert!(place.read("parts") == place.read("all"), "the run came to other weights after step {step}");
}

/// Where nothing is saved there is nothing to wait for.
#[test]
fn row_24_interrupted_without_checkpoints() {
    let outcome = interrupted(&Place::new(), "").refused(INTERRUPTED, &["stopping;", "nothing was saved"]);
    assert!(!outcome.error.contains("stopping at step"), "{outcome:?}");
}
