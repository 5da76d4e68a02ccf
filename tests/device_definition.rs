//! Layer-block-wise training is what its definition says: forward of microbatch b at stage s in cycle b + s − 1, its
//! backward in cycle b + 2P − s, a backward before a forward within a cycle, every pass with the weights of its own
//! moment. The simulation here walks the cycles one after another, layer by layer, and knows nothing of stages,
//! schedules, links or threads; the pipeline must give the same bits, and the same cycles.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade::{LearningRate, Schedule};
use brigade_pipeline::schedule::Verb;
use brigade_pipeline::{NamedTensor, Samples};
use common::network::Network;
use common::{assert_same_bits, hardware, pipeline, samples, small_model, trained};

const STARTS: [usize; 4] = [0, 2, 4, 7];
const BATCH: usize = 4;
const STEPS: usize = 20;

/// The definition, cycle by cycle. Stages and microbatches count from 1, as in the papers.
fn by_definition(name: &str, samples: &[Samples]) -> Vec<NamedTensor> {
    let mut network = Network::new(name, [BATCH, 1]);
    let rate = LearningRate { initial: 0.05, milestones: vec![12], factor: 0.5 };
    let p = STARTS.len();
    let ends = [STARTS[1], STARTS[2], STARTS[3], network.model.layers.len()];
    for cycle in 1..=STEPS + 2 * p {
        for s in 1..=p {
            let layers = STARTS[s - 1]..ends[s - 1];
            if let Some(b) = (cycle + s).checked_sub(2 * p).filter(|b| (1..=STEPS).contains(b)) {
                network.backward(layers.clone(), b - 1, samples);
                network.update(layers.clone(), rate.at(b - 1));
            }
            if let Some(b) = (cycle + 1).checked_sub(s).filter(|b| (1..=STEPS).contains(b)) {
                network.forward(layers, b - 1, samples);
            }
        }
    }
    network.tensors()
}

fn holds_on(name: &str) {
    let samples = samples(&small_model(), BATCH, STEPS);
    let mut pipeline = pipeline(&[name], &STARTS, Schedule::LayerBlockWise, BATCH, 1);
    let (weights, report) = trained(&mut pipeline, &samples);
    assert_same_bits(&weights, &by_definition(name, &samples));

    let p = STARTS.len() as u64;
    for (s, stage) in (1..).zip(&report.stages) {
        let cycle_of = |verb: Verb, index: usize| {
            let of = |record: &&brigade_pipeline::Record| record.action.verb == verb && record.action.index == index;
            stage.records.iter().find(of).unwrap().cycle
        };
        for index in 0..STEPS {
            let b = index as u64 + 1;
            assert_eq!(cycle_of(Verb::Forward, index), b + s - 1, "forward of {b} at stage {s}");
            assert_eq!(cycle_of(Verb::Backward, index), b + 2 * p - s, "backward of {b} at stage {s}");
            let latency = cycle_of(Verb::Backward, index) - cycle_of(Verb::Forward, index);
            assert_eq!(latency, 2 * p - 2 * s + 1, "latency at stage {s}");
        }
    }
}

#[test]
fn layer_block_wise_is_its_definition_on_the_reference() {
    holds_on("reference");
}

#[test]
fn layer_block_wise_is_its_definition_on_llvmpipe() {
    holds_on("llvmpipe");
}

#[test]
fn layer_block_wise_is_its_definition_on_gpus() {
    for name in &hardware() {
        holds_on(name);
    }
}

#[test]
fn layer_block_wise_is_its_definition_on_swiftshader() {
    holds_on("swiftshader");
}
