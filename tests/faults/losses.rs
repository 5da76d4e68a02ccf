//! Devices that are lost or have no room, at any of their calls.

use crate::common::command::Place;
use crate::support::newest_verifies;

/// Four epochs of three steps.
const RUN: &str = "--epochs 4 --tune off";

/// Loses a device at call k of a site, and holds that the run comes to the bits of one that was never disturbed.
#[track_caller]
fn comes_back(place: &Place, wanted: &[u8], run: &str, site: &str, call: u64) {
    let fault = format!("{site}@{call}:lost");
    let outcome = place.train_with(&fault, &format!("{run} --save @disturbed.safetensors --events @events"));
    outcome.done();
    assert!(place.read("disturbed.safetensors") == wanted, "{fault}: other weights");
    let events = place.events("events");
    let recoveries: Vec<_> = events.iter().filter(|event| event["event"] == "recovery").collect();
    assert_eq!(recoveries.len(), 1, "{fault}: {recoveries:?}");
    assert_eq!(recoveries[0]["moved"], false);
    // At most an epoch is repeated.
    let steps = events.iter().filter(|event| event["event"] == "step").count();
    assert!((12..=15).contains(&steps), "{fault}: {steps} steps for 12");
}

#[track_caller]
fn transient(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let wanted = place.undisturbed(&run);
    let calls = place.calls(&run);
    for site in ["device0.submit", "device1.wait"] {
        // The last calls are of training, the first ones of the self-test. Where that takes seconds, one is tried.
        let before_end: &[u64] = if devices.starts_with("reference") { &[1, 10, 20, 30] } else { &[10] };
        for before_end in before_end {
            comes_back(&place, &wanted, &run, site, calls[site] - before_end);
        }
    }
}

#[test]
fn row_32_a_device_lost_comes_back_on_reference() {
    transient("reference,reference");
}

#[test]
fn row_32_a_device_lost_comes_back_on_llvmpipe() {
    transient("llvmpipe,llvmpipe");
}

#[test]
fn row_32_a_device_lost_comes_back_on_swiftshader() {
    transient("swiftshader,swiftshader");
}

#[test]
fn row_33_the_others_take_the_layers_on_adapters() {
    let place = Place::new();
    for devices in ["llvmpipe,swiftshader", "swiftshader,reference"] {
        let run = format!("{RUN} --devices {devices}");
        let calls = place.calls(&run);
        for site in ["device0.submit", "device1.wait"] {
            let fault = format!("{site}@{}:gone", calls[site] - 1);
            place.train_with(&fault, &format!("{run} --events @events")).done();
            let events = place.events("events");
            let recovery = events.iter().find(|event| event["event"] == "recovery").unwrap();
            assert_eq!(
                (&recovery["moved"], &recovery["stage"]),
                (&true.into(), &site[6..7].parse::<u8>().unwrap().into())
            );
            let end = events.last().unwrap();
            assert_eq!((end["event"].as_str(), end["steps"].as_u64()), (Some("end"), Some(12)));
        }
    }
}

#[test]
fn row_33_no_other_device_is_left_on_reference() {
    let place = Place::new();
    let run = format!("{RUN} --devices reference --stages 2");
    let wanted = place.undisturbed(&run);
    let call = place.calls(&run)["device1.submit"] - 1;
    let outcome = place.train_with(&format!("device1.submit@{call}:gone"), &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(5, &["stage 1", "reference", "did not come back", "no other device", "--resume"]);
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

/// A loss at every call of a run: `BRIGADE_FAULT_EVERY=1` tries each, by default every 37th.
#[track_caller]
fn every_call(devices: &str, kind: &str) {
    let every = std::env::var("BRIGADE_FAULT_EVERY").ok().and_then(|every| every.parse().ok()).unwrap_or(37);
    let place = Place::new();
    // Ten steps in four epochs.
    let run = format!("--epochs 4 --steps 10 --tune off --devices {devices}");
    let wanted = place.undisturbed(&run);
    let calls = place.calls(&run)["device"];
    let (mut recovered, mut ended) = (0, 0);
    for call in (1..=calls).step_by(every) {
        let outcome =
            place.train_with(&format!("device@{call}:{kind}"), &format!("{run} --save @disturbed.safetensors"));
        match outcome.status {
            0 => {
                assert!(kind == "gone" || place.read("disturbed.safetensors") == wanted, "call {call}: other weights");
                recovered += 1;
            }
            _ => {
                outcome.refused(5, &["lost", "fault planted"]);
                ended += 1;
            }
        }
    }
    eprintln!("{devices} {kind}: {calls} calls, every {every}: {recovered} recovered, {ended} ended with 5");
    assert!(kind == "gone" || recovered > 0);
}

#[test]
fn row_32_lost_at_every_call_on_reference() {
    every_call("reference,reference", "lost");
}

#[test]
fn row_33_gone_at_every_call_on_reference() {
    every_call("reference,reference", "gone");
}

#[test]
fn row_31_out_of_memory_at_allocation_k_on_reference() {
    out_of_memory("reference,reference", "reference");
}

#[test]
fn row_31_out_of_memory_at_allocation_k_on_llvmpipe() {
    out_of_memory("llvmpipe,llvmpipe", "llvmpipe");
}

#[test]
fn row_31_out_of_memory_at_allocation_k_on_swiftshader() {
    out_of_memory("swiftshader,swiftshader", "SwiftShader");
}

#[track_caller]
fn out_of_memory(devices: &str, name: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let wanted = place.undisturbed(&run);
    place
        .command(&format!("train --config @small.toml {RUN} --devices {devices} --steps 3 --checkpoint-dir @saved"))
        .output()
        .unwrap();
    let calls = place.calls(&run)["device.allocate"];
    for call in [1, calls] {
        let fault = format!("device.allocate@{call}:out-of-memory");
        let outcome = place.train_with(&fault, &format!("{run} --checkpoint-dir @saved --resume"));
        outcome.refused(6, &[name, "out of memory", "use a smaller batch"]);
        newest_verifies(&place.path("saved"));
    }
    place.resumes_to(&wanted, "saved", &run);
}
