//! `brigade reproduce --quick`: the published figures by formula, without a device.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::{Place, brigade};
use serde_json::Value;

fn quick() -> Value {
    brigade(&["reproduce", "--quick", "--json"]).json()
}

/// The slides' table: 4 × 2 × 60,834,536 parameters of 4 bytes; the pipeline's sum re-derived layer by layer.
#[test]
fn the_published_transfers_come_out() {
    let report = quick();
    let traffic = &report["traffic"];
    let parameters = 60_834_536u64;
    let cuts = 64 * 27 * 27 + 2 * 256 * 13 * 13;
    let pipeline = 32 * 4 * (2 * cuts + 3 * 224 * 224 + 1000);
    assert_eq!(pipeline, 53_490_688);
    assert_eq!(traffic["pipeline_bytes"], pipeline);
    assert_eq!(traffic["shared_bus_bytes"], 4 * 2 * 4 * parameters);
    assert_eq!(traffic["ring_bytes"], 2 * 3 * 4 * parameters);
    assert_eq!((&traffic["ratio"], &traffic["ring_ratio"]), (&Value::from(36.39), &Value::from(27.3)));
    assert_eq!(traffic["counted"], Value::Null, "nothing is counted without a run");
    assert_eq!(traffic["rows"].as_array().unwrap().len(), 9);
}

/// conv2 alone is 41 % of the work: four contiguous blocks cannot be faster than 2.35 times one by it.
#[test]
fn the_bound_on_four_stages_comes_out() {
    let report = quick();
    let bounds: Vec<f64> =
        report["shares"].as_array().unwrap().iter().map(|of| of["bound"].as_f64().unwrap()).collect();
    assert!((bounds[0] - 2.35).abs() < 0.01, "{bounds:?}");
    for partition in report["shares"].as_array().unwrap() {
        let shares: f64 = partition["shares"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
        assert!((shares - 1.0).abs() < 1e-9);
    }
}

#[test]
fn the_page_holds_the_plots() {
    let place = Place::new();
    place.run("reproduce --quick --out @out").done();
    let page = String::from_utf8(place.read("out/index.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(page.matches("<polyline").count() == 6 && !page.contains("NaN"), "{page}");
    let report: Value = serde_json::from_slice(&place.read("out/reproduction.json")).unwrap();
    assert_eq!(report["workers"], 4);
}
