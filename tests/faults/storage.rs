//! Rows of storage: every place where a save can fail fails once, and the process is killed there once.

use crate::common::command::Place;
use crate::support::{newest_verifies, within_limit};

const STORAGE: i32 = 7;
const RUN: &str = "--epochs 4";
/// Steps of an epoch, and so between two checkpoints.
const EPOCH: u64 = 3;

fn sites(place: &Place) -> Vec<(String, u64)> {
    let calls = place.calls(&format!("{RUN} --checkpoint-dir @counted"));
    let sites: Vec<_> = calls.into_iter().filter(|(site, _)| site.starts_with("storage.")).collect();
    assert!(sites.len() >= 5 && sites.iter().all(|(_, calls)| *calls >= 4), "{sites:?}");
    sites
}

/// Every `stride`-th call of every site.
fn each(stride: u64) -> Vec<(String, u64)> {
    let place = Place::new();
    sites(&place)
        .into_iter()
        .flat_map(|(site, calls)| (1..=calls).step_by(stride as usize).map(move |k| (site.clone(), k)))
        .collect()
}

fn saves_fail(kind: &str, words: &[&str]) {
    for (site, k) in each(3) {
        let place = Place::new();
        let wanted = place.undisturbed(RUN);
        let outcome = place.train_with(&format!("{site}@{k}:{kind}"), &format!("{RUN} --checkpoint-dir @ck"));
        outcome.refused(STORAGE, &[&["make room or choose another place"], words].concat());
        let left: Vec<_> =
            std::fs::read_dir(place.path("ck")).into_iter().flatten().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".partial")), "{site}@{k} left {left:?}");
        goes_on(&place, &wanted, &format!("{site}@{k}:{kind}"));
    }
}

/// From whatever is there the run comes to the same weights.
fn goes_on(place: &Place, wanted: &[u8], fault: &str) {
    let saved = std::fs::read_dir(place.path("ck")).into_iter().flatten();
    let saved =
        saved.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with("step-")).count();
    if saved == 0 {
        let line = format!("train --config @small.toml {RUN} --checkpoint-dir @ck --save @resumed.safetensors");
        within_limit(place.command(&line)).done();
        assert!(place.read("resumed.safetensors") == wanted, "after {fault}");
        return;
    }
    newest_verifies(&place.path("ck"));
    place.resumes_to(wanted, "ck", RUN);
}

#[test]
fn row_20_the_disk_is_full() {
    saves_fail("disk-full", &["no space left"]);
}

#[test]
fn row_21_the_disk_fails() {
    saves_fail("io", &["input/output error"]);
}

#[cfg(unix)]
#[test]
fn row_18_killed_at_every_place_of_a_save() {
    for (site, k) in each(2) {
        let place = Place::new();
        let wanted = place.undisturbed(RUN);
        let fault = format!("{site}@{k}:kill");
        let mut command =
            place.command(&format!("train --config @small.toml {RUN} --checkpoint-dir @ck --events @events"));
        command.env("BRIGADE_FAULT", &fault);
        let outcome = within_limit(command);
        assert_eq!(outcome.status, -1, "{fault}: {outcome:?}");
        goes_on(&place, &wanted, &fault);
        nothing_published_is_lost(&place, &fault);
    }
}

/// A run that begins anew in a directory, so that its checkpoint takes the place of one of the same step, and ends between
/// the two: what was there is still found, by who only reads as well.
fn cut_off_between_two_of_a_step(kind: &str, status: i32) {
    let place = Place::new();
    let run = "--epochs 1 --checkpoint-dir @ck";
    place.train_with("", run).done();
    let wanted = place.read("ck/step-00000003/weights.safetensors");
    let outcome = place.train_with(&format!("storage.publish@1:{kind}"), &format!("{run} --seed 2"));
    assert_eq!(outcome.status, status, "{outcome:?}");
    for checkpoint in ["ck", "ck/step-00000003"] {
        let found = place.small("eval", &format!("--checkpoint @{checkpoint} --json")).json();
        let folder = std::path::PathBuf::from(found["checkpoint"].as_str().unwrap());
        assert!(std::fs::read(folder.join("weights.safetensors")).unwrap() == wanted, "another one than before");
    }
    // It has its place back when the directory is opened, or had it back at once.
    place.train_with("", &format!("{run} --resume")).done();
    assert!(place.read("ck/step-00000003/weights.safetensors") == wanted);
}

#[test]
fn row_21_a_checkpoint_whose_place_could_not_be_taken_is_there_still() {
    cut_off_between_two_of_a_step("io", STORAGE);
}

#[cfg(unix)]
#[test]
fn row_18_killed_between_two_checkpoints_of_a_step() {
    cut_off_between_two_of_a_step("kill", -1);
}

/// Every checkpoint that the killed run told of is there.
fn nothing_published_is_lost(place: &Place, fault: &str) {
    let Ok(events) = std::fs::read_to_string(place.path("events")) else { return };
    let told = events.matches("\"event\":\"checkpoint\"").count() as u64;
    for saved in 1..=told {
        let folder = place.path(&format!("ck/step-{:08}", EPOCH * saved));
        assert!(folder.join("manifest.json").is_file(), "{fault}: {} is gone", folder.display());
    }
}
