//! Cuts by measured times, over devices that are not alike.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::{Outcome, Place};
use serde_json::Value;

/// The plan of a network of eight equal blocks over two devices.
fn plan(flags: &str) -> (Value, Outcome) {
    let place = Place::new();
    let outcome = place.run(&format!("plan --model plain-8 --batch 2 --tune off --json {flags}"));
    (serde_json::from_str(&outcome.out).unwrap(), outcome.done())
}

fn share(plan: &Value, stage: usize) -> f64 {
    plan["stages"][stage]["share"].as_f64().unwrap()
}

#[test]
fn device_the_slower_of_two_gets_the_smaller_share_wherever_it_is() {
    for (devices, slow) in [("reference,llvmpipe", 0), ("llvmpipe,reference", 1)] {
        let (even, _) = plan(&format!("--devices {devices}"));
        // Eight blocks over two stages: half and half but for the first convolution and the classifier.
        assert!((share(&even, slow) - 0.5).abs() < 0.1, "{even}");
        let (measured, outcome) = plan(&format!("--devices {devices} --balance measured"));
        // The reference takes three times as long as llvmpipe even where other tests want the cores; one that took twice as
        // long would get a third.
        assert!(share(&measured, slow) < 0.34, "{measured}");
        let said = outcome.error.lines().find_map(|line| line.split("--cuts ").nth(1)).unwrap();
        let cuts = said.split_whitespace().next().unwrap();
        let (again, _) = plan(&format!("--devices {devices} --cuts {cuts}"));
        assert_eq!(again["stages"], measured["stages"]);
    }
}
