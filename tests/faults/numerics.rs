//! Gradients that are no numbers, and transfers that flip bits.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use brigade::{LearningRate, Schedule};
use brigade_pipeline::{Samples, Stretch};
use serde_json::Value;

use crate::common::command::Place;
use crate::common::{assert_same_bits, feed, pipeline, samples, small_model};
use crate::support::newest_verifies;

/// Four epochs of three steps, nothing stale, so that the number of stages leaves no trace in the weights.
const RUN: &str = "--epochs 4 --tune off --schedule 1f1b --microbatches 2";

/// The fault that puts a NaN into what device `device` sends back in the last step: the gradient for the stage before it,
/// whose own gradients are spoiled by it. After that wait come those of the update and of four microbatches of the test.
fn nan_sent_by(place: &Place, device: usize, run: &str) -> String {
    let site = format!("device{device}.wait");
    let call = place.calls(run)[&site] - 5;
    format!("{site}@{call}:nan")
}

/// The run ends with 8 and the names of stage, step and tensor; the checkpoint before is whole, and a resume comes to the
/// bits of a run that nothing disturbed.
#[track_caller]
fn stops(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices}");
    let wanted = place.undisturbed(&run);
    let fault = nan_sent_by(&place, 1, &run);
    let outcome = place.train_with(&fault, &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(8, &["stage 0, step 11", "the gradient of conv1.", "is NaN", "smaller learning rate", "--on-nan"]);
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}

#[test]
fn row_40_the_run_stops_on_reference() {
    stops("reference,reference");
}

#[test]
fn row_40_the_run_stops_on_llvmpipe() {
    stops("llvmpipe,llvmpipe");
}

#[test]
fn row_40_the_run_stops_on_swiftshader() {
    stops("swiftshader,swiftshader");
}

/// What a run with a NaN in its last step leaves, and its recovery.
fn recovered(device: &str, stages: usize, policy: &str) -> (Vec<u8>, Value) {
    recovered_in(&Place::new(), device, stages, policy)
}

fn recovered_in(place: &Place, device: &str, stages: usize, policy: &str) -> (Vec<u8>, Value) {
    let run = format!("{RUN} --devices {device} --stages {stages}");
    let fault = nan_sent_by(place, stages - 1, &run);
    let words = format!("{run} --on-nan {policy} --checkpoint-dir @saved --save @weights --events @events");
    place.train_with(&fault, &words).done();
    newest_verifies(&place.path("saved"));
    let recovery = place.events("events").into_iter().find(|event| event["event"] == "recovery").unwrap();
    assert_eq!(place.events("events").pop().unwrap()["steps"], 12);
    (place.read("weights"), recovery)
}

/// The weights with the last step skipped: those of a run that ends before it.
#[track_caller]
fn skips(device: &str) -> Vec<u8> {
    let (weights, recovery) = recovered(device, 2, "skip");
    assert_eq!(
        (&recovery["bad_step"], &recovery["step"], &recovery["on_nan"]),
        (&11.into(), &9.into(), &"skip".into())
    );
    let place = Place::new();
    let run = format!("{RUN} --devices {device} --stages 2");
    let without = place.undisturbed(&format!("{run} --steps 11"));
    assert!(weights == without, "the update of the last step was not left out");
    assert!(weights != place.undisturbed(&run));
    weights
}

#[test]
fn row_40_a_skipped_step_is_skipped_by_every_stage_on_reference() {
    let (more_stages, _) = recovered("reference", 3, "skip");
    assert!(skips("reference") == more_stages, "stages disagree about the step that was left out");
}

#[test]
fn row_40_a_step_is_skipped_on_llvmpipe() {
    skips("llvmpipe");
}

#[test]
fn row_40_a_step_is_skipped_on_swiftshader() {
    skips("swiftshader");
}

/// The stages that are built again lose a device: it comes back, or the other one takes its layers.
#[test]
fn row_40_a_loss_while_a_step_is_being_skipped() {
    let place = Place::new();
    let run = format!("{RUN} --devices reference,llvmpipe");
    let nan = nan_sent_by(&place, 1, &run);
    let skipped = |faults: &str| {
        let words = format!("{run} --on-nan skip --save @weights --events @events");
        place.train_with(faults, &words).done();
        let recoveries = place.events("events").into_iter().filter(|event| event["event"] == "recovery");
        (place.read("weights"), recoveries.collect::<Vec<_>>())
    };
    let (wanted, _) = skipped(&nan);
    let (weights, recoveries) = skipped(&format!("{nan},device2.allocate@1:lost"));
    assert!(weights == wanted, "other weights");
    assert_eq!((recoveries.len(), &recoveries[0]["on_nan"]), (1, &"skip".into()));
    let (_, recoveries) = skipped(&format!("{nan},device3.allocate@1:gone"));
    assert_eq!((recoveries.len(), &recoveries[0]["bad_step"]), (2, &11.into()));
    assert_eq!((&recoveries[1]["moved"], &recoveries[1]["stage"]), (&true.into(), &1.into()));
}

#[test]
fn row_40_roll_back_goes_on_behind_the_step() {
    let place = Place::new();
    let (weights, recovery) = recovered_in(&place, "reference", 2, "roll-back");
    assert_eq!((&recovery["bad_step"], &recovery["step"]), (&11.into(), &12.into()));
    // The run has come to its end with that step all the same: it is evaluated there, and saved.
    let events = place.events("events");
    let epochs: Vec<_> = events.iter().filter(|event| event["event"] == "epoch").collect();
    assert_eq!((epochs.len(), &epochs[3]["epoch"], &epochs[3]["train_loss"]), (4, &4.into(), &Value::Null));
    assert_eq!(epochs[3]["test_loss"], epochs[2]["test_loss"]);
    let end = events.last().unwrap();
    assert_eq!(end["test_accuracy"], epochs[3]["test_accuracy"]);
    // What the stages had counted before is theirs still.
    assert_eq!(end["stages"].as_array().unwrap().len(), 2);
    newest_verifies(&place.path("saved/step-00000012"));
    let place = Place::new();
    let snapshot =
        place.undisturbed(&format!("{RUN} --devices reference --stages 2 --epochs 3").replace("--epochs 4", ""));
    assert!(weights == snapshot, "the weights are not those of the last snapshot");
}

#[test]
fn row_40_training_that_has_diverged_is_given_up() {
    let place = Place::new();
    let words = format!("{RUN} --devices reference --stages 2 --on-nan skip --learning-rate 1e30");
    crate::support::within_limit(place.command(&format!("train --config @small.toml {words}")))
        .refused(8, &["training has diverged"]);
}

/// The third of four batches is no numbers, so that its loss is none whatever the weights are.
#[test]
fn row_40_a_step_without_a_loss_can_be_left_out() {
    let model = small_model();
    let good = samples(&model, 4, 4);
    let mut bad = good.clone();
    bad[2] = Samples::new(vec![f32::NAN; 4 * model.input.elements().unwrap()], vec![0; 4]);
    let left_out = |batches: &[Samples]| {
        let left_out = Arc::new(BTreeSet::from([2]));
        let stretch = Stretch { left_out, ..Stretch::new(16, LearningRate::constant(0.01)) };
        let mut pipeline = pipeline(&["reference"], &[0, 4], Schedule::OneForwardOneBackward, 4, 2);
        let report = pipeline.train(&stretch, feed(batches), &mut |_, _| ControlFlow::Continue(())).unwrap();
        (report, pipeline.parameters().unwrap())
    };
    let (report, weights) = left_out(&bad);
    assert_eq!((report.steps, report.metrics.samples), (4, 12));
    assert!(report.metrics.loss().is_finite());
    assert_same_bits(&weights, &left_out(&good).1);
}

/// A flipped bit is found, and the message comes again: nothing is lost.
#[track_caller]
fn sent_again(devices: &str) {
    let place = Place::new();
    let run = format!("{RUN} --devices {devices} --link-checksums");
    let wanted = place.undisturbed(&run);
    let calls = place.calls(&run)["link.copy"];
    for call in [1, calls] {
        let outcome = place.train_with(&format!("link.copy@{call}:flip"), &format!("{run} --save @w --events @events"));
        let outcome = outcome.done();
        assert!(outcome.error.contains("sent again"), "{outcome:?}");
        assert!(place.read("w") == wanted);
        // The last message belongs to an evaluation, which the links of training do not count.
        let counted = u64::from(call == 1);
        assert_eq!(place.events("events").pop().unwrap()["links"][0]["sent_again"], counted);
    }
}

#[test]
fn row_41_a_flipped_bit_on_reference() {
    sent_again("reference,reference");
}

#[test]
fn row_41_a_flipped_bit_on_llvmpipe() {
    sent_again("llvmpipe,llvmpipe");
}

#[test]
fn row_41_a_flipped_bit_on_swiftshader() {
    sent_again("swiftshader,swiftshader");
}

#[test]
fn row_41_a_link_that_always_flips() {
    let place = Place::new();
    let run = format!("{RUN} --devices reference --stages 2 --link-checksums");
    let wanted = place.undisturbed(&run);
    let call = place.calls(&run)["link.copy"] - 5;
    let outcome = place.train_with(&format!("link.copy@{call}+:flip"), &format!("{run} --checkpoint-dir @saved"));
    outcome.refused(70, &["stage ", "microbatch ", "sent 4 times", "checksum"]);
    newest_verifies(&place.path("saved"));
    place.resumes_to(&wanted, "saved", &run);
}
