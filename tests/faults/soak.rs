//! The soak, for seconds in place of minutes.
#![cfg(unix)]

use crate::common::command::Place;
use crate::support::within_limit;

#[test]
fn a_soak_survives_its_faults_and_counts_them() {
    let place = Place::new();
    let line = "soak --minutes 0.2 --faults-per-minute 60 --config @small.toml --devices reference,reference \
                --checkpoint-every 2 --out @soak --json";
    let report = within_limit(place.command(line)).json();
    let faults: u64 = report["faults"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert!((3..=30).contains(&faults), "{report}");
    assert!(!report["ends"].as_array().unwrap().is_empty(), "{report}");
    assert!(report["steps"].as_u64().unwrap() > 20 && report["checkpoints"].as_u64().unwrap() > 10, "{report}");
    let setbacks = &report["setbacks"];
    assert!(setbacks["most_steps_repeated_within"].as_u64().unwrap() <= 2, "{report}");
    // A checkpoint that was being written when the process ended does not count.
    assert!(setbacks["most_steps_repeated"].as_u64().unwrap() <= 4, "{report}");
    let effective = report["effective_time"].as_f64().unwrap();
    assert!(effective > 0.0 && effective < 1.0, "{report}");
}

#[test]
fn a_soak_refuses_what_it_cannot_do() {
    let place = Place::new();
    place.run("soak --minutes 0").refused(2, &["--minutes"]);
    place.run("soak --kinds meteor").refused(2, &["meteor", "device-lost"]);
    place.run(&format!("soak --out {}", place.text(""))).refused(2, &["is not empty"]);
}
