//! Stages and devices that hang, at any moment of a run.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::command::Place;
use crate::support::{Halfway, newest_verifies, within_limit};

/// Four epochs of three steps.
const RUN: &str = "--epochs 4 --tune off";

#[track_caller]
fn hangs(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let wanted = place.undisturbed(&run);
    let call = place.calls(&run)["device1.submit"] - 6;
    let outcome = place.train_with(&format!("device1.submit@{call}:hang"), &format!("{run} --checkpoint-dir @saved"));
    let outcome = outcome.refused(9, &["stage 1 hangs at ", "nothing has happened for", "--resume", "stage 0:"]);
    let place_in_row = outcome.error.lines().rfind(|line| line.starts_with("stage 1:")).unwrap();
    assert!(place_in_row.contains('[') && place_in_row.contains("computes"), "{place_in_row}");
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

#[test]
fn row_34_a_stage_hangs_on_reference() {
    hangs("reference,reference");
}

#[test]
fn row_34_a_stage_hangs_on_llvmpipe() {
    hangs("llvmpipe,llvmpipe");
}

#[test]
fn row_34_a_stage_hangs_on_swiftshader() {
    hangs("swiftshader,swiftshader");
}

/// The first submission of the second stage that is no longer of its self-test: of a run of one step come after it its
/// backward, its update and an evaluation of two microbatches.
fn first_submission(place: &Place, run: &str) -> u64 {
    place.calls(&format!("{run} --steps 1"))["device1.submit"] - 4
}

/// An epoch of many more steps than wait before the first stage.
#[test]
fn row_34_a_stage_hangs_early_in_a_long_epoch_on_reference() {
    let place = Place::new();
    let run = "--train-samples 400 --epochs 1 --tune off --devices reference,reference";
    let call = place.calls(run)["device1.submit"] - 100;
    place.train_with(&format!("device1.submit@{call}:hang"), run).refused(9, &["stage 1 hangs at ", "stage 0:"]);
}

/// While what follows the steps is a long evaluation.
#[test]
fn row_34_a_stage_hangs_in_a_long_evaluation_on_reference() {
    let place = Place::new();
    let run = "--test-samples 400 --epochs 1 --tune off --devices reference,reference";
    let call = place.calls(run)["device1.submit"] - 40;
    place.train_with(&format!("device1.submit@{call}:hang"), run).refused(9, &["stage 1 hangs at F", "stage 0:"]);
}

/// In the last epoch, with eleven submissions at each of two stages, the second stage hangs in its first forward.
/// Meanwhile `fault` happens at the third of the first stage, which computes three before it waits for a gradient.
#[track_caller]
fn hangs_while_another_fails(fault: &str, status: i32, words: &[&str]) {
    let place = Place::new();
    let run = format!("{RUN} --devices reference,reference");
    let calls = place.calls(&run);
    let (failing, hanging) = (calls["device0.submit"] - 8, calls["device1.submit"] - 10);
    let faults = format!("device1.submit@{hanging}:hang,device0.submit@{failing}:{fault}");
    let outcome = place.train_with(&faults, &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(status, words);
    newest_verifies(&place.path("saved"));
}

#[test]
fn row_34_a_stage_hangs_while_another_is_lost_on_reference() {
    let words = ["stage 0: reference: lost", "stage 1 hangs at F0", "stage 0: is done", "stage 1: [F0]"];
    hangs_while_another_fails("lost", 9, &words);
}

#[test]
fn row_34_a_stage_hangs_while_another_panics_on_reference() {
    hangs_while_another_fails("panic", 70, &["stage 0: its thread ended", "stage 1 hangs at F0"]);
}

/// What hangs may hold its device for ever: the stages are not built once more beside it.
#[test]
fn row_34_a_device_that_is_opened_again_hangs_on_reference() {
    let place = Place::new();
    let run = format!("{RUN} --devices reference,reference");
    let call = place.calls(&run)["device0.submit"] - 8;
    let faults = format!("device0.submit@{call}:lost,device2.submit@1:hang");
    let started = Instant::now();
    place.train_with(&faults, &run).refused(9, &["stage 0: reference: lost"]);
    // The hang is waited for once; a second time would take as long again.
    assert!(started.elapsed() < Duration::from_secs(38), "{:?}", started.elapsed());
}

/// Before the run's own times are known.
#[track_caller]
fn hangs_at_once(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let call = first_submission(&place, &run);
    let outcome = place.train_with(&format!("device1.submit@{call}:hang"), &run);
    let words = ["stage 1 hangs at F0", "nothing has happened for", "stage 1: [F0] B0 U0", "computes", "--resume"];
    outcome.refused(9, &words);
}

#[test]
fn row_34_the_first_action_hangs_on_reference() {
    hangs_at_once("reference,reference");
}

#[test]
fn row_34_the_first_action_hangs_on_llvmpipe() {
    hangs_at_once("llvmpipe,llvmpipe");
}

#[test]
fn row_34_the_first_action_hangs_on_swiftshader() {
    hangs_at_once("swiftshader,swiftshader");
}

/// While a snapshot is read: the first, before the first step, and one after an epoch.
#[track_caller]
fn reading_hangs(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let wanted = place.undisturbed(&run);
    let words = ["stage 1 hangs at the reading of its parameters", "stage 1: [the reading", "stage 0: is done"];
    place.train_with("device1.read@1:hang", &run).refused(9, &words);
    let last = place.calls(&run)["device1.read"];
    let outcome = place.train_with(&format!("device1.read@{last}:hang"), &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(9, &words);
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

#[test]
fn row_34_reading_hangs_on_reference() {
    reading_hangs("reference,reference");
}

#[test]
fn row_34_reading_hangs_on_llvmpipe() {
    reading_hangs("llvmpipe,llvmpipe");
}

/// While what was saved is written to the devices, and while they are given their first weights.
#[test]
fn row_34_writing_hangs_on_reference() {
    let run = format!("{RUN} --devices reference,reference");
    let halfway = Halfway::new(&run);
    let place = &halfway.place;
    // Two layers with weights and biases on the second stage, each with its momentum.
    let fresh = place.calls(&format!("{run} --steps 1"))["device1.write"];
    for (call, words) in [
        (fresh, "reference: the first writing of its weights has not finished"),
        (fresh + 1, "stage 1 hangs at the writing of its parameters"),
    ] {
        halfway.rest_with(&format!("device1.write@{call}:hang")).refused(9, &[words]);
    }
    halfway.goes_on();
}

/// While the device is tested, before there are stages.
#[track_caller]
fn the_self_test_hangs(devices: &str, name: &str) {
    let halfway = Halfway::new(&format!("{RUN} --devices {devices}"));
    for (site, call) in [("device1.submit", 5), ("device0.wait", 2)] {
        let outcome = halfway.rest_with(&format!("{site}@{call}:hang"));
        outcome.refused(9, &[name, "kernel ", "has not finished after"]);
    }
    halfway.goes_on();
}

#[test]
fn row_34_the_self_test_hangs_on_reference() {
    the_self_test_hangs("reference,reference", "reference: kernel");
}

#[test]
fn row_34_the_self_test_hangs_on_llvmpipe() {
    the_self_test_hangs("llvmpipe,llvmpipe", "llvmpipe");
}

/// While kernels are tuned, and while layers are timed to cut the model.
#[test]
fn row_34_tuning_hangs_on_llvmpipe() {
    let place = Place::new();
    for (words, fault, wanted) in [
        ("--tune quick", "device0.wait@3:hang", "while it is tuned, has not finished after"),
        (
            "--tune off --balance measured --stages 2",
            "device0.wait@3:hang",
            "the time of conv2d has not finished after",
        ),
    ] {
        let mut command = place.command(&format!("train --config @small.toml --devices llvmpipe --steps 1 {words}"));
        command.env("BRIGADE_FAULT", fault).env("BRIGADE_CACHE_DIR", place.path("cache"));
        within_limit(command).refused(9, &["llvmpipe", wanted]);
    }
}

/// `check` tests the same kernels.
#[test]
fn row_34_a_check_hangs_on_reference() {
    let mut command = Place::new().command("check --devices reference");
    command.env("BRIGADE_FAULT", "device0.wait@7:hang");
    within_limit(command).refused(9, &["reference: kernel ", "/forward", "has not finished after"]);
}

/// Ctrl-Z and `fg`, or a machine that pauses: the time in which the process did not run does not count.
#[cfg(unix)]
#[test]
fn row_34_a_process_that_was_stopped_does_not_hang() {
    let place = Place::new();
    // Submissions of a twentieth of a second: the moment lies within one.
    let line = "train --config @small.toml --tune off --stages 2 --epochs 20 --events @events";
    let mut command = place.command(line);
    command.env("BRIGADE_FAULT", "device1.submit@1+:slow").stdin(Stdio::null()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let signal = |name: &str| {
        let sent = std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    let begun = Instant::now();
    while !std::fs::read_to_string(place.path("events")).is_ok_and(|events| events.matches("epoch\"").count() > 5) {
        assert!(begun.elapsed() < Duration::from_secs(50), "no epochs after {:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(10));
    }
    signal("STOP");
    std::thread::sleep(Duration::from_secs(14));
    signal("CONT");
    let outcome: crate::common::command::Outcome = child.wait_with_output().unwrap().into();
    outcome.done();
    assert_eq!(place.events("events").pop().unwrap()["steps"], 60);
}
