//! What a whole run of the command gives: files, events, accuracy, resuming and signals.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::{Place, brigade};
use serde_json::Value;

#[track_caller]
fn assert_same_file(place: &Place, a: &str, b: &str) {
    assert!(place.read(a) == place.read(b), "{a} and {b} differ");
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let place = Place::new();
    for schedule in ["layer-block-wise", "1f1b"] {
        for name in ["a", "b"] {
            place.small("train", &format!("--schedule {schedule} --stages 3 --save @{name}")).done();
        }
        assert_same_file(&place, "a", "b");
    }
    place.small("train", "--seed 2 --save @c").done();
    assert!(place.read("a") != place.read("c"), "another seed gives the same weights");
}

#[test]
fn a_timeline_shows_the_plan_above_what_was_measured() {
    let place = Place::new();
    place.small("train", "--stages 2 --schedule 1f1b --microbatches 4 --timeline @picture.svg").done();
    let picture = String::from_utf8(place.read("picture.svg")).unwrap();
    let (planned, measured) = (picture.find(">planned").unwrap(), picture.find(">measured").unwrap());
    assert!(planned < measured, "the plan is not above");
    // The same actions of both stages in each: F, B and U of every microbatch and step that is shown.
    let actions = |panel: &str, verb: &str| panel.matches(&format!("<title>{verb}")).count();
    for verb in ["F", "B", "U"] {
        let shown = actions(&picture[..measured], verb);
        assert!(shown > 0 && shown == actions(&picture[measured..], verb), "{verb}: {shown}");
    }
}

/// Has every field, none of them null.
#[track_caller]
fn assert_fields(event: &Value, fields: &[&str]) {
    for field in fields {
        assert!(!event[field].is_null(), "no `{field}` in {event}");
    }
}

#[test]
fn events_have_the_documented_lines_and_fields() {
    let place = Place::new();
    place.small("train", "--cuts pool1 --epochs 2 --events @events").done();
    let events = place.events("events");
    let kinds: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    // 22 samples in steps of 8 are three steps, the last one of 6.
    assert_eq!(kinds.join(" "), "start step step step epoch step step step epoch end");
    assert_fields(&events[0], &["schedule", "weights", "stages"]);
    assert_fields(&events[0]["stages"][1], &["stage", "device", "vendor", "layers", "parameters"]);
    assert_eq!(events[0]["stages"][1]["layers"], serde_json::json!(["fc1", "dropout1", "fc2"]));
    assert_fields(&events[3], &["step", "loss", "images_per_second"]);
    assert_eq!((&events[3]["step"], &events[5]["step"]), (&3.into(), &4.into()));
    assert_fields(&events[4], &["epoch", "train_loss", "test_loss", "test_accuracy", "seconds"]);
    let end = &events[9];
    assert_fields(end, &["steps", "seconds", "images_per_second", "stages", "links"]);
    assert_eq!(end["steps"], 6);
    assert_fields(&end["stages"][0], &["stage", "busy_fraction", "peak_bytes", "staleness"]);
    assert_eq!((&end["stages"][0]["staleness"], &end["stages"][1]["staleness"]), (&2.into(), &0.into()));
}

#[test]
fn a_link_carries_the_cut_and_nothing_else() {
    let place = Place::new();
    for (schedule, microbatches) in [("layer-block-wise", 1), ("1f1b", 3), ("gpipe", 8)] {
        let flags = format!("--cuts pool1,fc1 --schedule {schedule} --microbatches {microbatches} --epochs 2 --json");
        let end = place.small("train", &flags).json();
        // Every sample passes once an epoch: 4×6×6 after the pool, 12 after the first linear layer.
        for (link, cut) in [(0, 4 * 6 * 6), (1, 12)] {
            let bytes = 2 * 22 * cut * 4;
            let found = &end["links"][link];
            assert_eq!((&found["from"], &found["to"]), (&link.into(), &(link + 1).into()));
            assert_eq!(found["activation_bytes"], bytes, "{schedule}: {found}");
            assert_eq!(found["gradient_bytes"], bytes, "{schedule}: {found}");
        }
    }
}

#[test]
fn eval_gives_the_accuracy_that_training_reported() {
    let place = Place::new();
    let trained = place.small("train", "--epochs 2 --checkpoint-dir @ck --save @weights --json").json();
    assert!(trained["test_accuracy"].is_f64());
    for stages in [1, 2, 6] {
        let found = place.small("eval", &format!("--checkpoint @ck --stages {stages} --json")).json();
        assert_eq!(found["test_accuracy"], trained["test_accuracy"], "{stages} stages");
        assert_eq!((&found["stages"], &found["samples"]), (&stages.into(), &16.into()));
    }
    let alone = place.small("eval", "--checkpoint @weights --json").json();
    assert_eq!(alone["test_accuracy"], trained["test_accuracy"]);
}

#[test]
fn a_checkpoint_brings_its_own_model() {
    let place = Place::new();
    let trained = place.small("train", "--checkpoint-dir @ck --json").json();
    let data = "--devices reference --train-samples 22 --test-samples 16";
    let found = place.run(&format!("eval --checkpoint @ck {data} --stages 6 --json")).json();
    assert_eq!(found["test_accuracy"], trained["test_accuracy"]);
}

/// Two epochs at once, and one epoch resumed to two with other flags, give the same file.
fn resumes(flags: &str, first: &str, second: &str) {
    let place = Place::new();
    place.small("train", &format!("{flags} {first} --epochs 2 --save @whole")).done();
    place.small("train", &format!("{flags} {first} --epochs 1 --checkpoint-dir @ck")).done();
    let outcome =
        place.small("train", &format!("{flags} {second} --epochs 2 --checkpoint-dir @ck --resume --save @parts"));
    assert!(outcome.done().error.contains("at step 3"));
    assert_same_file(&place, "whole", "parts");
    assert_eq!(
        place.read("ck/step-00000006/weights.safetensors"),
        place.read("parts"),
        "the last checkpoint and the saved file differ"
    );
}

#[test]
fn a_resumed_run_equals_an_undisturbed_one() {
    resumes("--schedule layer-block-wise", "--stages 3", "--stages 3");
    resumes("--schedule 1f1b", "--stages 2", "--stages 2");
    resumes("--schedule gpipe --weight-decay 0.001 --nesterov", "--stages 2", "--stages 2");
}

#[test]
fn row_09_a_run_resumes_on_another_number_of_stages() {
    resumes("--schedule 1f1b", "--stages 2", "--stages 3");
    resumes("--schedule 1f1b", "--stages 4", "--stages 1");
    resumes("", "--schedule 1f1b --microbatches 4 --stages 2", "--schedule gpipe --microbatches 4 --stages 5");
}

#[test]
fn a_run_resumes_in_the_middle_of_an_epoch() {
    let place = Place::new();
    let flags = "--schedule 1f1b --stages 2 --epochs 2";
    place.small("train", &format!("{flags} --save @whole")).done();
    for steps in [1, 2, 4, 5] {
        let directory = format!("@ck{steps}");
        place.small("train", &format!("{flags} --steps {steps} --checkpoint-dir {directory}")).done();
        place.small("train", &format!("{flags} --checkpoint-dir {directory} --resume --save @parts")).done();
        assert_same_file(&place, "whole", "parts");
    }
}

/// What corrections and policies carry from step to step is part of a checkpoint.
#[test]
fn corrections_go_on_where_they_were() {
    for staleness in
        ["--correction discrepancy", "--correction accumulation=2", "--weights double-buffered --microbatches 4"]
    {
        let place = Place::new();
        let flags = format!(
            "--schedule layer-block-wise --stages 3 --cuts pool1,dropout1 --epochs 3 --checkpoint-every 1 {staleness}"
        );
        place.small("train", &format!("{flags} --checkpoint-dir @whole --save @expected")).done();
        for steps in [1, 3, 5] {
            let directory = format!("@ck{steps}");
            place.small("train", &format!("{flags} --steps {steps} --checkpoint-dir {directory}")).done();
            let resumed = format!("{flags} --checkpoint-dir {directory} --resume --save @resumed");
            place.small("train", &resumed).done();
            assert_same_file(&place, "expected", "resumed");
        }
        // Without what was carried the bits are others: the file is not there for nothing.
        place.small("train", &format!("{flags} --steps 5 --checkpoint-dir @bare")).done();
        forget_carried(&place, "bare/step-00000005");
        place.small("train", &format!("{flags} --checkpoint-dir @bare --resume --save @without")).done();
        assert!(place.read("expected") != place.read("without"), "{staleness}");
    }
}

/// Makes a checkpoint as one of a run without corrections would be.
fn forget_carried(place: &Place, step: &str) {
    std::fs::remove_file(place.path(&format!("{step}/carried.safetensors"))).unwrap();
    let manifest = format!("{step}/manifest.json");
    let mut value: Value = serde_json::from_slice(&place.read(&manifest)).unwrap();
    value["checksums"].as_object_mut().unwrap().remove("carried.safetensors").unwrap();
    place.write_manifest(&manifest, value);
}

#[test]
fn only_the_last_epochs_are_synchronous() {
    let place = Place::new();
    let run = "--stages 3 --schedule layer-block-wise";
    let finish = "--correction synchronous-finish=1";
    place.small("train", &format!("{run} {finish} --epochs 3 --save @whole")).done();
    place.small("train", &format!("{run} --epochs 2 --checkpoint-dir @ck")).done();
    place
        .small(
            "train",
            "--stages 3 --schedule 1f1b --microbatches 1 --epochs 3 --checkpoint-dir @ck --resume --save @parts",
        )
        .done();
    assert_same_file(&place, "whole", "parts");
    place.small("train", &format!("{run} --correction synchronous-finish=3 --epochs 3 --save @all")).done();
    assert!(place.read("all") != place.read("whole"), "every epoch was synchronous");
}

#[test]
fn a_finished_run_has_nothing_to_resume() {
    let place = Place::new();
    place.small("train", "--checkpoint-dir @ck --save @a").done();
    place.small("train", "--checkpoint-dir @ck --resume --save @b").done();
    assert_same_file(&place, "a", "b");
}

#[test]
fn published_networks_have_their_numbers_of_parameters() {
    for (model, parameters) in [("vgg-f", 60_834_536), ("alexnet", 62_378_344)] {
        let plan = brigade(&["plan", "--model", model, "--batch", "32", "--stages", "4", "--json"]).json();
        assert_eq!(plan["parameters"], parameters);
        let stages = plan["stages"].as_array().unwrap();
        assert_eq!(stages.len(), 4);
        assert_eq!(stages.iter().map(|stage| stage["parameters"].as_u64().unwrap()).sum::<u64>(), parameters);
    }
}

#[test]
fn a_plan_says_what_the_run_then_counts() {
    let place = Place::new();
    let flags = "--cuts pool1 --schedule 1f1b --microbatches 2 --json";
    let plan = place.small("plan", flags).json();
    let end = place.small("train", &format!("{flags} --steps 2")).json();
    for direction in ["activation_bytes", "gradient_bytes"] {
        let step = plan["links"][0][direction].as_u64().unwrap();
        assert_eq!(end["links"][0][direction], 2 * step);
    }
}

#[cfg(unix)]
mod signals {
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::common::command::Outcome;

    const RUN: &str = "--schedule 1f1b --stages 2 --epochs 100000";

    /// Waits until the events file has `count` lines of a kind.
    fn wait_for(place: &Place, kind: &str, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let text = std::fs::read_to_string(place.path("events")).unwrap_or_default();
            if text.matches(&format!("\"event\":\"{kind}\"")).count() >= count {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no {count} lines `{kind}` within a minute");
    }

    fn signal(child: &Child, name: &str) {
        let sent = std::process::Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Starts a run that would take hours and sends it a signal after `steps` steps.
    fn stopped(place: &Place, name: &str, steps: usize) -> Outcome {
        let line = format!("train --config @small.toml {RUN} --checkpoint-dir @ck --events @events");
        let mut command = place.command(&line);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(place, "step", steps);
        signal(&child, name);
        child.wait_with_output().unwrap().into()
    }

    /// The stopped run, resumed for two steps more, equals one that was never stopped.
    fn stops_and_resumes(name: &str, status: i32, steps: usize) {
        let place = Place::new();
        let outcome = stopped(&place, name, steps).refused(status, &["stopped after step", "--resume"]);
        let done = outcome.error.split("stopped after step ").nth(1).unwrap();
        let done: usize = done.split(';').next().unwrap().parse().unwrap();
        assert!(done >= steps, "{outcome:?}");
        let run = format!("{RUN} --steps {}", done + 2);
        place.small("train", &format!("{run} --checkpoint-dir @ck --resume --save @parts")).done();
        place.small("train", &format!("{run} --save @whole")).done();
        assert_same_file(&place, "whole", "parts");
    }

    #[test]
    fn row_24_sigterm_ends_the_run_with_143_and_a_checkpoint() {
        stops_and_resumes("TERM", 143, 1);
        stops_and_resumes("TERM", 143, 5);
    }

    #[test]
    fn row_24_ctrl_c_ends_the_run_with_130_and_a_checkpoint() {
        stops_and_resumes("INT", 130, 2);
    }

    #[test]
    fn a_signal_without_a_checkpoint_directory_says_that_nothing_was_saved() {
        let place = Place::new();
        let mut command = place.command(&format!("train --config @small.toml {RUN} --events @events"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&place, "step", 1);
        signal(&child, "TERM");
        let outcome: Outcome = child.wait_with_output().unwrap().into();
        outcome.refused(143, &["nothing was saved", "--checkpoint-dir"]);
    }

    /// One step takes far longer than that.
    #[track_caller]
    fn a_second_signal_ends(device: &str, batch: usize) {
        let place = Place::new();
        let data = format!(
            "--model lenet5 --devices {device} --train-samples {batch} --test-samples 8 --batch {batch} --tune off"
        );
        let mut command = place.command(&format!("train {data} --checkpoint-dir @ck --events @events"));
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        wait_for(&place, "start", 1);
        signal(&child, "INT");
        std::thread::sleep(Duration::from_millis(300));
        let second = Instant::now();
        signal(&child, "INT");
        let outcome: Outcome = child.wait_with_output().unwrap().into();
        assert!(second.elapsed() < Duration::from_secs(2));
        outcome.refused(130, &["again to stop at once"]);
        let left = std::fs::read_dir(place.path("ck")).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).filter(|name| name != ".lock").collect();
        assert!(left.is_empty(), "a part of a checkpoint is left: {left:?}");
    }

    #[test]
    fn row_25_a_second_signal_ends_the_run_within_two_seconds_on_reference() {
        a_second_signal_ends("reference", 8192);
    }

    #[test]
    fn row_25_a_second_signal_ends_the_run_within_two_seconds_on_llvmpipe() {
        a_second_signal_ends("llvmpipe", 8192);
    }

    #[test]
    fn row_25_a_second_signal_ends_the_run_within_two_seconds_on_swiftshader() {
        a_second_signal_ends("swiftshader", 4096);
    }

    /// Standard error on a disk that is full, and in a pipe that nobody reads any more.
    #[test]
    fn a_run_goes_on_where_nobody_can_read_what_it_tells() {
        let place = Place::new();
        let line = format!("train --config @small.toml {RUN} --steps 20 --save @weights");
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        assert!(place.command(&line).stderr(full).status().unwrap().success());
        let wanted = place.read("weights");
        std::fs::remove_file(place.path("weights")).unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert!(place.command(&line).stderr(writer).env("RUST_LOG", "debug").status().unwrap().success());
        assert_eq!(place.read("weights"), wanted);
        let refused = place.command("train --learning-rate=-1").stderr(Stdio::null()).status().unwrap();
        assert_eq!(refused.code(), Some(2));
    }

    #[test]
    fn row_18_a_run_killed_at_any_moment_leaves_a_whole_checkpoint() {
        // Every third step saves, so that many of these moments lie within a save.
        let place = Place::new();
        for milliseconds in [0, 3, 7, 11, 17, 23, 29, 37] {
            let line = format!("train --config @small.toml {RUN} --checkpoint-dir @ck --events @events --resume");
            let line = if milliseconds == 0 { line.replace(" --resume", "") } else { line };
            std::fs::write(place.path("events"), "").unwrap();
            let mut command = place.command(&line);
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            wait_for(&place, "checkpoint", 1);
            std::thread::sleep(Duration::from_millis(milliseconds));
            signal(&child, "KILL");
            child.wait_with_output().unwrap();
            let outcome = place.small("eval", "--checkpoint @ck").done();
            assert!(!outcome.error.contains("damaged"), "after {milliseconds} ms: {outcome:?}");
        }
    }
}
