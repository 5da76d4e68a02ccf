//! Devices that are lost or have no room, at any of their calls.

use serde_json::Value;

use crate::common::command::Place;
use crate::support::{Halfway, newest_verifies, within_limit};

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

/// A kernel that a loss happens to meet while kernels are tuned is tried again, and not blamed for good.
#[test]
fn row_32_a_device_lost_while_tuning_on_llvmpipe() {
    let place = Place::new();
    let mut command =
        place.command("train --config @small.toml --devices llvmpipe --tune quick --steps 2 --checkpoint-dir @saved");
    command.env("BRIGADE_FAULT", "device0.wait@2:lost").env("BRIGADE_CACHE_DIR", place.path("cache"));
    let done = within_limit(command).done();
    assert!(done.error.contains("trying again") && !done.error.contains("is left out"), "{done:?}");
    let names = std::fs::read_dir(place.path("cache")).unwrap().map(|entry| entry.unwrap().path());
    let file = names.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    let cache: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let found = cache["found"].as_array().unwrap();
    assert!(!found.is_empty() && found.iter().all(|found| found["wrong"] == serde_json::json!({})), "{cache}");
    newest_verifies(&place.path("saved"));
}

/// A checkpoint of other weights has no older version of them: what stands in for it must survive a loss as well.
#[test]
fn row_32_weights_that_become_double_buffered_come_back() {
    let place = Place::new();
    let run = "--tune off --stages 2 --schedule 1f1b-async --microbatches 2";
    let call = place.calls(&format!("{run} --epochs 1"))["device1.submit"] - 2;
    let resumed = |saved: &str, fault: &str| {
        place.train_with("", &format!("{run} --epochs 1 --checkpoint-dir @{saved}")).done();
        let rest = format!("--epochs 4 --weights double-buffered --checkpoint-dir @{saved} --resume --events @events");
        place.train_with(fault, &format!("{run} {rest} --save @{saved}.safetensors")).done();
        place.read(&format!("{saved}.safetensors"))
    };
    let wanted = resumed("undisturbed", "");
    assert!(resumed("disturbed", &format!("device1.submit@{call}:lost")) == wanted, "other weights");
    assert_eq!(recoveries(&place)[0]["step"], 3);
}

/// Three losses without a snapshot between them, and no device has three of them.
#[test]
fn row_32_losses_count_for_each_device() {
    let place = Place::new();
    let run = "--epochs 1 --tune off --devices reference,llvmpipe";
    let wanted = place.undisturbed(run);
    let calls = place.calls(run);
    let (first, second) = (calls["device0.submit"] - 1, calls["device1.submit"] - 1);
    let faults = format!("device1.submit@{second}:lost,device2.submit@{first}:lost,device4.submit@{first}:lost");
    place.train_with(&faults, &format!("{run} --save @disturbed.safetensors --events @events")).done();
    assert!(place.read("disturbed.safetensors") == wanted, "other weights");
    let moved: Vec<_> = recoveries(&place).iter().map(|recovery| recovery["moved"].clone()).collect();
    assert_eq!(moved, [false; 3]);
}

fn recoveries(place: &Place) -> Vec<Value> {
    place.events("events").into_iter().filter(|event| event["event"] == "recovery").collect()
}

/// A run whose device goes in the last epoch ends on those that are `left`. What these then compute is what a run computes
/// that goes on there alone from the same snapshot. Gives the recoveries.
#[track_caller]
fn ends_on(left: &str, place: &Place, run: &str, faults: &str) -> Vec<Value> {
    place.train_with(faults, &format!("{run} --events @events --checkpoint-dir @saved --save @disturbed")).done();
    let end = place.events("events").pop().unwrap();
    assert_eq!((end["event"].as_str(), end["steps"].as_u64()), (Some("end"), Some(12)));
    std::fs::remove_dir_all(place.path("saved/step-00000012")).unwrap();
    newest_verifies(&place.path("saved"));
    place.resumes_to(&place.read("disturbed"), "saved", &format!("{RUN} --devices {left}"));
    std::fs::remove_dir_all(place.path("saved")).unwrap();
    recoveries(place)
}

/// Of two unlike devices one goes for good and the other takes its layers.
#[track_caller]
fn the_others_take_the_layers(devices: [&str; 2]) {
    let place = Place::new();
    let run = format!("{RUN} --devices {}", devices.join(","));
    let calls = place.calls(&run);
    for (stage, site) in ["device0.submit", "device1.wait"].into_iter().enumerate() {
        let fault = format!("{site}@{}:gone", calls[site] - 1);
        let recovery = &ends_on(devices[1 - stage], &place, &run, &fault)[0];
        assert_eq!((&recovery["moved"], &recovery["stage"]), (&true.into(), &stage.into()));
        assert_eq!(recovery["step"], 9);
    }
}

/// The device that was lost comes back, and while the stages are built again the other one goes.
#[test]
fn row_33_the_device_that_stays_away_is_left_out_on_reference() {
    let place = Place::new();
    let run = format!("{RUN} --devices reference,llvmpipe");
    let call = place.calls(&run)["device0.submit"] - 1;
    let faults = format!("device0.submit@{call}:lost,device3.allocate@1:gone");
    let recoveries = ends_on("reference", &place, &run, &faults);
    let told: Vec<_> = recoveries.iter().map(|recovery| (&recovery["stage"], &recovery["moved"])).collect();
    assert_eq!(told, [(&0.into(), &false.into()), (&1.into(), &true.into())]);
}

#[test]
fn row_33_a_loss_while_the_others_take_the_layers_on_reference() {
    let place = Place::new();
    let run = format!("{RUN} --devices llvmpipe,reference");
    let call = place.calls(&run)["device0.submit"] - 1;
    let faults = format!("device0.submit@{call}:gone,device2.allocate@1:lost");
    let recoveries = ends_on("reference", &place, &run, &faults);
    assert_eq!((recoveries.len(), &recoveries[0]["moved"]), (1, &true.into()));
}

/// A schedule that says of each link whether it has slack goes on without the links of the stage that is lost.
#[test]
fn row_33_slack_goes_with_its_link_on_reference() {
    let place = Place::new();
    let run = format!("{RUN} --schedule mixed=1,0 --devices reference,llvmpipe,reference");
    let call = place.calls(&run)["device1.submit"] - 1;
    place.train_with(&format!("device1.submit@{call}:gone"), &format!("{run} --events @events")).done();
    let events = place.events("events");
    assert!(events.iter().any(|event| event["event"] == "recovery" && event["moved"] == true), "{events:?}");
    let end = events.last().unwrap();
    assert_eq!((end["steps"].as_u64(), end["schedule"].as_str()), (Some(12), Some("mixed=1")));
}

/// Where the model is cut by measured times, devices are opened before the start.
#[test]
fn row_32_a_device_lost_while_layers_are_timed_on_reference() {
    let place = Place::new();
    let run = "--steps 2 --tune off --devices reference --stages 2 --balance measured";
    let done = place.train_with("device0.submit@2:lost", run).done();
    assert!(done.error.contains("starting again"), "{done:?}");
}

#[test]
fn row_33_the_others_take_the_layers_on_adapters() {
    the_others_take_the_layers(["llvmpipe", "swiftshader"]);
}

#[test]
fn row_33_the_others_take_the_layers_on_reference() {
    the_others_take_the_layers(["llvmpipe", "reference"]);
}

/// Both stages are on the device that goes.
#[track_caller]
fn no_other_device_is_left(device: &str, name: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {device} --stages 2");
    let wanted = place.undisturbed(&run);
    let call = place.calls(&run)["device1.submit"] - 1;
    let outcome = place.train_with(&format!("device1.submit@{call}:gone"), &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(5, &["stage 1", name, "did not come back", "no other device", "--resume"]);
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

#[test]
fn row_33_no_other_device_is_left_on_reference() {
    no_other_device_is_left("reference", "reference");
}

#[test]
fn row_33_no_other_device_is_left_on_llvmpipe() {
    no_other_device_is_left("llvmpipe", "llvmpipe");
}

#[test]
fn row_33_no_other_device_is_left_on_swiftshader() {
    no_other_device_is_left("swiftshader", "SwiftShader");
}

/// A loss at every call of a run: `BRIGADE_FAULT_EVERY=1` tries each, by default every `stride`-th.
#[track_caller]
fn every_call(devices: &str, kind: &str, stride: usize) {
    let every = std::env::var("BRIGADE_FAULT_EVERY").ok().map_or(stride, |every| every.parse().unwrap());
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

/// Calls of the run that one is tried of: on an adapter, where a run begins with a self-test of seconds, fewer.
const ON_AN_ADAPTER: usize = 307;
/// As above, on the reference executor.
const ON_THE_HOST: usize = 37;

#[test]
fn row_32_lost_at_every_call_on_reference() {
    every_call("reference,reference", "lost", ON_THE_HOST);
}

#[test]
fn row_32_lost_at_every_call_on_llvmpipe() {
    every_call("llvmpipe,llvmpipe", "lost", ON_AN_ADAPTER);
}

#[test]
fn row_32_lost_at_every_call_on_swiftshader() {
    every_call("swiftshader,swiftshader", "lost", ON_AN_ADAPTER);
}

#[test]
fn row_33_gone_at_every_call_on_reference() {
    every_call("reference,reference", "gone", ON_THE_HOST);
}

#[test]
fn row_33_gone_at_every_call_on_llvmpipe() {
    every_call("llvmpipe,llvmpipe", "gone", ON_AN_ADAPTER);
}

#[test]
fn row_33_gone_at_every_call_on_swiftshader() {
    every_call("swiftshader,swiftshader", "gone", ON_AN_ADAPTER);
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
    let run = format!("{RUN} --devices {devices}");
    let halfway = Halfway::new(&run);
    let calls = halfway.place.calls(&run)["device.allocate"];
    for call in [1, calls] {
        let outcome = halfway.rest_with(&format!("device.allocate@{call}:out-of-memory"));
        outcome.refused(6, &[name, "out of memory", "use a smaller batch"]);
    }
    halfway.goes_on();
}
