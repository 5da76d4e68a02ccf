//! Messages that are lost, doubled, out of order or stale, and stages that take their time.

use crate::common::command::Place;
use crate::support::newest_verifies;

/// Four epochs of three steps.
const RUN: &str = "--epochs 4 --tune off";

/// A run whose k-th message from the end of a site is disturbed ends with `status`, and can be resumed.
#[track_caller]
fn ends(site: &str, before_end: u64, kind: &str, status: i32, words: &[&str]) {
    let place = Place::new();
    let run = format!("{RUN} --devices reference --stages 3");
    let wanted = place.undisturbed(&run);
    let call = place.calls(&run)[site] - before_end;
    let outcome = place.train_with(&format!("{site}@{call}:{kind}"), &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(status, words);
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

#[test]
fn row_37_a_message_doubled() {
    ends("link.send", 8, "double", 70, &["stage ", "wanted microbatch", "found microbatch"]);
}

#[test]
fn row_37_a_message_lost() {
    let place = Place::new();
    let run = format!("{RUN} --devices reference --stages 3");
    let wanted = place.undisturbed(&run);
    let call = place.calls(&run)["link.send"] - 9;
    let outcome = place.train_with(&format!("link.send@{call}:drop"), &format!("{run} --checkpoint-dir @saved"));
    // The next one of its direction shows it by its tag; where there is none, nobody goes on.
    match outcome.status {
        9 => outcome.refused(9, &["hangs at ", "waits for a message"]),
        _ => outcome.refused(70, &["stage ", "wanted microbatch", "found microbatch"]),
    };
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

#[test]
fn row_37_a_message_stale() {
    ends("link.send", 8, "stale", 70, &["stage ", "wanted microbatch", "found microbatch"]);
}

#[test]
fn row_38_labels_of_another_batch() {
    for kind in ["stale", "swap", "double"] {
        ends("link.labels", 1, kind, 70, &["stage 2", "wanted microbatch", "found microbatch"]);
    }
}

/// Each submission of the second stage takes 50 ms more; it took about one.
#[track_caller]
fn fifty_times_slower(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let wanted = place.undisturbed(&format!("{run} --events @quick"));
    let slow = place.train_with("device1.submit@1+:slow", &format!("{run} --save @slow.safetensors --events @slow"));
    let slow = slow.done();
    assert!(!slow.error.contains("hangs"), "{slow:?}");
    assert!(place.read("slow.safetensors") == wanted);
    let peaks = |name: &str| {
        let end = place.events(name).pop().unwrap();
        [0, 1].map(|stage| end["stages"][stage]["peak_bytes"].clone())
    };
    assert_eq!(peaks("quick"), peaks("slow"));
}

#[test]
fn row_39_one_stage_fifty_times_slower_on_reference() {
    fifty_times_slower("reference,reference");
}

#[test]
fn row_39_one_stage_fifty_times_slower_on_adapters() {
    fifty_times_slower("llvmpipe,swiftshader");
}
