//! Tuning as a user meets it: what is chosen once is chosen again, whatever the stages and threads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::{Outcome, Place};
use serde_json::Value;

/// Trains the small model on llvmpipe with findings kept in `cache`; the first event, and how the run ended.
fn train(place: &Place, cache: &str, flags: &str) -> (Value, Outcome) {
    let line = format!("train --config @small.toml --devices llvmpipe --events @events {flags}");
    let output = place.command(&line).env("BRIGADE_CACHE_DIR", place.path(cache)).output().unwrap();
    let outcome = Outcome::from(output).done();
    (place.events("events").swap_remove(0), outcome)
}

#[test]
fn device_tuning_is_done_once_and_gives_the_same_bits_over_any_stages_and_threads() {
    let place = Place::new();
    let schedule = "--schedule 1f1b --microbatches 4";
    let (first, outcome) = train(&place, "cache", &format!("{schedule} --threads 2 --save @one"));
    let tuning = &first["tuning"];
    assert_eq!((&tuning["effort"], &tuning["cached"]), (&"quick".into(), &0.into()));
    let kernels = tuning["kernels"].as_u64().unwrap();
    assert!(kernels > 0 && tuning["wrong"].as_array().unwrap().is_empty(), "{tuning}");
    assert!(outcome.error.contains(&format!("tuned {kernels} kernels in ")), "{}", outcome.error);
    assert!(outcome.error.contains("(0 from the cache)"), "{}", outcome.error);

    for stages in [1, 2, 3] {
        let flags = format!("{schedule} --stages {stages} --threads 1 --save @several");
        let (again, _) = train(&place, "cache", &flags);
        assert_eq!((&again["tuning"]["kernels"], &again["tuning"]["cached"]), (&kernels.into(), &kernels.into()));
        assert!(again["tuning"]["seconds"].as_f64().unwrap() < 1.0, "{again}");
        assert!(place.read("one") == place.read("several"), "{stages} stages give other bits");
    }
}

#[test]
fn device_tuning_survives_a_cache_that_cannot_be_used() {
    let place = Place::new();
    let (first, _) = train(&place, "cache", "--steps 1");
    let file = std::fs::read_dir(place.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (again, outcome) = train(&place, "cache", "--steps 1");
    assert!(outcome.error.contains("is ignored"), "{}", outcome.error);
    assert_eq!((&again["tuning"]["cached"], &again["tuning"]["kernels"]), (&0.into(), &first["tuning"]["kernels"]));
    // A folder that cannot be made costs the memory, not the run.
    place.write("taken", b"");
    let (_, outcome) = train(&place, "taken", "--steps 1");
    assert!(outcome.error.contains("the next run tunes again"), "{}", outcome.error);
}

#[test]
fn device_tuning_can_be_left_out() {
    let place = Place::new();
    let (start, outcome) = train(&place, "cache", "--steps 1 --tune off");
    assert_eq!((&start["tuning"]["effort"], &start["tuning"]["kernels"]), (&"off".into(), &0.into()));
    assert!(!outcome.error.contains("tuned") && !place.path("cache").exists(), "{}", outcome.error);
}
