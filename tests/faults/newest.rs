//! Rows of which checkpoint is the newest: clocks that are set back, copies, lost manifests, runs that begin anew.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::common::command::Place;
use crate::support::steps_in;

const CHECKPOINT: i32 = 4;

fn step_folder(step: usize) -> String {
    format!("step-{step:08}")
}

/// The small model's run with checkpoints in `ck`, an epoch of three steps each.
fn train(place: &Place, flags: &str) -> crate::common::command::Outcome {
    place.small("train", &format!("--checkpoint-dir @ck {flags}"))
}

/// The checkpoint that `eval` takes from `ck`.
#[track_caller]
fn newest(place: &Place) -> String {
    let found = place.small("eval", "--checkpoint @ck --json").json()["checkpoint"].as_str().unwrap().to_owned();
    found.rsplit('/').next().unwrap().to_owned()
}

/// As if the checkpoint of `step` had been written then.
fn set_time(place: &Place, step: usize, time: SystemTime) {
    for file in ["manifest.json", "weights.safetensors", "momentum.safetensors"] {
        let path = place.path(&format!("ck/{}/{file}", step_folder(step)));
        std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

/// Changes the manifest of a step, as if it had been saved so.
fn edit(place: &Place, step: usize, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let name = format!("ck/{}/manifest.json", step_folder(step));
    let mut manifest: Value = serde_json::from_slice(&place.read(&name)).unwrap();
    change(manifest.as_object_mut().unwrap());
    place.write_manifest(&name, manifest);
}

fn day() -> Duration {
    Duration::from_secs(24 * 3600)
}

#[test]
fn row_23_a_clock_that_is_set_back_removes_nothing_newer() {
    let place = Place::new();
    train(&place, "--epochs 2").done();
    // Everything that is there was written tomorrow.
    [3, 6].into_iter().for_each(|step| set_time(&place, step, SystemTime::now() + day()));
    train(&place, "--epochs 3 --keep 1 --resume").done();
    assert!(steps_in(&place, "ck").contains(&step_folder(9)), "{:?}", steps_in(&place, "ck"));
    assert_eq!(newest(&place), step_folder(9));
}

#[test]
fn row_01_a_copy_has_the_order_of_what_it_copies() {
    let place = Place::new();
    train(&place, "--epochs 3").done();
    set_time(&place, 3, SystemTime::now() + day());
    set_time(&place, 9, SystemTime::now() - day());
    assert_eq!(newest(&place), step_folder(9));
}

#[test]
fn row_01_a_lost_manifest_of_the_newest_is_told() {
    for damage in ["", "{", "{}", "{\"format\": 2}"] {
        let place = Place::new();
        train(&place, "--epochs 2").done();
        let manifest = format!("ck/{}/manifest.json", step_folder(6));
        match damage {
            "" => std::fs::remove_file(place.path(&manifest)).unwrap(),
            _ => _ = place.write(&manifest, damage.as_bytes()),
        }
        let outcome = train(&place, "--epochs 2 --resume --save @a").done();
        for words in ["step-00000006/manifest.json", "3 steps must be trained again", "at step 3"] {
            assert!(outcome.error.contains(words), "no `{words}` in {outcome:?}");
        }
        // It has been published anew.
        assert_eq!(newest(&place), step_folder(6));
        place.small("train", "--epochs 2 --save @b").done();
        assert!(place.read("a") == place.read("b"), "the resumed run differs from an undisturbed one");
    }
}

#[test]
fn row_23_a_lost_manifest_neither_stays_for_ever_nor_costs_the_others() {
    let place = Place::new();
    train(&place, "--epochs 3").done();
    std::fs::remove_file(place.path(&format!("ck/{}/manifest.json", step_folder(9)))).unwrap();
    // A run that begins anew: its checkpoints are the newest, whatever is there of higher steps.
    train(&place, "--epochs 2 --keep 1").done();
    let left = steps_in(&place, "ck");
    assert!(left.contains(&step_folder(6)) && left.len() <= 3, "{left:?}");
    train(&place, "--epochs 4 --keep 1 --resume").done();
    let left = steps_in(&place, "ck");
    assert!(left.contains(&step_folder(12)) && left.len() <= 2, "{left:?}");
    train(&place, "--epochs 4 --resume").done();
}

#[test]
fn row_01_the_newest_is_the_last_runs_whatever_its_step() {
    let place = Place::new();
    train(&place, "--epochs 2").done();
    assert_eq!(newest(&place), step_folder(6));
    train(&place, "--epochs 1").done();
    assert_eq!(newest(&place), step_folder(3));
    let outcome = train(&place, "--epochs 2 --resume").done();
    assert!(outcome.error.contains("at step 3"), "{outcome:?}");
    assert_eq!(newest(&place), step_folder(6));
}

#[test]
fn row_08_checkpoints_of_the_format_before_are_read_and_come_first() {
    let place = Place::new();
    train(&place, "--epochs 3").done();
    for step in [3, 6, 9] {
        make_older(&place, step, 1);
    }
    assert_eq!(newest(&place), step_folder(9));
    train(&place, "--epochs 1").done();
    assert_eq!(newest(&place), step_folder(3));
    // Those of format 2 have their numbers.
    make_older(&place, 3, 2);
    assert_eq!(newest(&place), step_folder(3));
}

/// Makes the checkpoint of a step one of an older format.
fn make_older(place: &Place, step: usize, format: u32) {
    let name = format!("ck/{}/manifest.json", step_folder(step));
    let mut manifest: Value = serde_json::from_slice(&place.read(&name)).unwrap();
    let fields = manifest.as_object_mut().unwrap();
    fields.insert("format".into(), format.into());
    fields.remove("checksum").unwrap();
    if format == 1 {
        fields.remove("serial").unwrap();
    }
    place.write(&name, manifest.to_string().as_bytes());
}

#[test]
fn row_08_a_serial_number_that_cannot_be_is_refused() {
    let place = Place::new();
    train(&place, "--epochs 1").done();
    edit(&place, 3, |manifest| _ = manifest.insert("serial".into(), u64::MAX.into()));
    place.small("eval", "--checkpoint @ck").refused(CHECKPOINT, &["manifest.json", "serial", "18446744073709551615"]);
    // Another run publishes there all the same.
    train(&place, "--epochs 1").done();
    assert_eq!(newest(&place), step_folder(3));
}

/// The number after the highest that is read could not be read again.
#[test]
fn row_08_a_serial_number_that_none_can_follow_is_refused_at_the_start() {
    let place = Place::new();
    train(&place, "--epochs 1").done();
    edit(&place, 3, |manifest| _ = manifest.insert("serial".into(), (1_u64 << 53).into()));
    for flags in ["--resume", ""] {
        let outcome = train(&place, &format!("--epochs 2 --events @events {flags}"));
        outcome.refused(CHECKPOINT, &["step-00000003/manifest.json", "serial: 9007199254740992", "another directory"]);
        assert!(!place.path("events").exists(), "the run began");
    }
    assert_eq!(newest(&place), step_folder(3));
}
