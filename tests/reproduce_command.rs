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

/// Of several batches the largest is the one that single figures are of, and each has its row.
#[test]
fn every_batch_that_is_asked_for_has_a_row() {
    let report = brigade(&["reproduce", "--quick", "--batch", "5,3", "--json"]).json();
    let rows = report["traffic"]["rows"].as_array().unwrap();
    let batches: Vec<u64> = rows.iter().map(|row| row["batch"].as_u64().unwrap()).collect();
    assert_eq!(batches, [1, 2, 3, 4, 5, 8, 16, 32, 64, 128, 256]);
    assert_eq!((&report["batch"], &report["traffic"]["batch"]), (&Value::from(5), &Value::from(5)));
    assert_eq!(report["traffic"]["pipeline_bytes"], rows[4]["pipeline_bytes"]);
    // What a pipeline moves grows with the batch, what the baseline moves does not.
    assert_eq!(rows[4]["pipeline_bytes"].as_u64(), rows[0]["pipeline_bytes"].as_u64().map(|bytes| 5 * bytes));
    assert_eq!(rows[4]["shared_bus_bytes"], rows[0]["shared_bus_bytes"]);
    let planned = report["memory"]["planned"].as_array().unwrap();
    assert_eq!(planned.len(), rows.len());
    assert!(planned.iter().all(|row| row["shared_bus"].as_u64() > row["layer_block_wise"].as_u64()), "{planned:?}");
    brigade(&["reproduce", "--quick", "--batch", "0"]).refused(2, &["at least one"]);
}

/// Neither a panic nor an hour of computing: what is too large for a run is refused before it, and what no tensor holds is
/// not planned.
#[test]
fn batches_that_are_too_large_are_refused() {
    brigade(&["reproduce", "--device", "reference", "--batch", "1,257"]).refused(2, &["257", "--quick"]);
    for batch in ["100000", "18446744073709551615"] {
        let message = format!("batch {batch}: ");
        brigade(&["reproduce", "--quick", "--batch", batch]).refused(5, &[&message, "more than one tensor may have"]);
    }
}

/// It is not opened, but it has to be there.
#[test]
fn a_device_can_be_planned_for() {
    let report = brigade(&["reproduce", "--quick", "--device", "reference", "--json"]).json();
    assert_eq!((&report["device"], &report["traffic"]["counted"]), (&Value::from("reference"), &Value::Null));
    brigade(&["reproduce", "--quick", "--device", "no such"]).refused(5, &["no such"]);
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
