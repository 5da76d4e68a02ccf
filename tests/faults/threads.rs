//! Panics.

use crate::common::command::Place;
use crate::support::{newest_verifies, within_limit};

/// Two epochs of three steps.
const RUN: &str = "--devices reference --stages 2 --epochs 2";

#[test]
fn row_26_a_panic_in_the_thread_that_writes_checkpoints() {
    let place = Place::new();
    let wanted = place.undisturbed(RUN);
    // While the second checkpoint of two is written.
    let run = format!("{RUN} --checkpoint-dir @ck");
    let outcome = place.train_with("storage.write@5:panic", &run);
    outcome.refused(70, &["thread that writes checkpoints", "a fault planted at", "thread checkpoints"]);
    newest_verifies(&place.path("ck"));
    place.resumes_to(&wanted, "ck", RUN);
}

/// Before there are stages: in the thread that leads, and in those that test the devices.
#[test]
fn row_26_a_panic_before_there_are_stages() {
    let place = Place::new();
    let run = format!("{RUN} --checkpoint-dir @ck");
    let testing = "thread self-test of reference";
    for (site, thread) in [("disk.free", "thread main"), ("device", testing), ("device0.allocate", testing)] {
        let outcome = place.train_with(&format!("{site}@1:panic"), &run);
        outcome.refused(70, &["a fault planted at", site, thread, "a bug"]);
    }
    // What it held is free again.
    within_limit(place.command(&format!("train --config @small.toml {run}"))).done();
    newest_verifies(&place.path("ck"));
}

/// Each of `sites` panics late in the second epoch, when the first one's checkpoint is there.
#[track_caller]
fn panics(devices: &str, sites: &[&str]) {
    let place = Place::new();
    let run = format!("--devices {devices} --epochs 2 --tune off");
    let wanted = place.undisturbed(&run);
    let calls = place.calls(&run);
    for site in sites {
        let directory = site.replace('.', "-");
        // The labels of an epoch go in five times: three steps, and two of the test.
        let from_the_end = if *site == "link.labels" { 3 } else { 9 };
        let planted = format!("{site}@{}:panic", calls[*site] - from_the_end);
        let outcome = place.train_with(&planted, &format!("{run} --checkpoint-dir @{directory} --events @events"));
        let ended = std::time::SystemTime::now();
        let (who, thread) = match *site {
            "link.labels" => ("the thread that feeds the pipeline".to_owned(), "thread feeder"),
            device => (format!("stage {}", &device[6..7]), "thread stage-"),
        };
        outcome.refused(70, &[&who, "a fault planted at", thread, site]);
        // The last event was written before the panic.
        let last = std::fs::metadata(place.path("events")).unwrap().modified().unwrap();
        assert!(ended.duration_since(last).unwrap().as_secs_f64() < 5.0, "the neighbours were not released");
        newest_verifies(&place.path(&directory));
        place.resumes_to(&wanted, &directory, &run);
    }
}

#[test]
fn row_26_a_panic_in_a_stage_on_reference() {
    panics("reference,reference", &["device0.submit", "device1.submit", "device1.wait", "link.labels"]);
}

#[test]
fn row_26_a_panic_in_a_stage_on_llvmpipe() {
    panics("llvmpipe,llvmpipe", &["device0.wait", "device1.submit"]);
}

#[test]
fn row_26_a_panic_in_a_stage_on_swiftshader() {
    panics("swiftshader,swiftshader", &["device0.wait", "device1.submit"]);
}
