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

/// Before there are stages.
#[test]
fn row_26_a_panic_in_the_thread_that_leads() {
    let place = Place::new();
    let run = format!("{RUN} --checkpoint-dir @ck");
    for site in ["device", "device0.allocate"] {
        let outcome = place.train_with(&format!("{site}@1:panic"), &run);
        outcome.refused(70, &["a fault planted at", site, "thread main", "a bug"]);
    }
    // What it held is free again.
    within_limit(place.command(&format!("train --config @small.toml {run}"))).done();
    newest_verifies(&place.path("ck"));
}

#[test]
fn row_26_a_panic_in_a_stage() {
    let place = Place::new();
    let wanted = place.undisturbed(RUN);
    let calls = place.calls(RUN);
    for site in ["device0.submit", "device1.submit", "device1.wait"] {
        let last = calls[site];
        let directory = site.replace('.', "-");
        // Late in the second epoch: the first one's checkpoint is there.
        let run = format!("{RUN} --checkpoint-dir @{directory}");
        let started = std::time::Instant::now();
        let outcome = place.train_with(&format!("{site}@{}:panic", last - 9), &run);
        assert!(started.elapsed().as_secs() < 15, "the neighbours were not released");
        let stage = format!("stage {}", &site[6..7]);
        outcome.refused(70, &[&stage, "a fault planted at", "thread stage-", site]);
        newest_verifies(&place.path(&directory));
        place.resumes_to(&wanted, &directory, RUN);
    }
}
