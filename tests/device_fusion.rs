//! Rectifiers that their neighbours compute give the bits of rectifiers that run by themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade::{ModelSpec, Schedule, Sequential};
use brigade_pipeline::staleness::StalenessOptions;
use common::network::Network;
use common::{assert_same_bits, hardware, pipeline_of, samples, trained};
use serde_json::json;

/// A rectifier between every two kinds of layers that can compute its passes.
fn rectified_model() -> Sequential {
    let spec: ModelSpec = serde_json::from_value(json!({
        "name": "rectified",
        "input": {"c": 2, "h": 12, "w": 12},
        "layers": [
            {"op": "conv2d", "out_channels": 4, "kernel": 3, "padding": 1},
            {"op": "relu"},
            {"op": "conv2d", "out_channels": 6, "kernel": 3, "padding": 1},
            {"op": "relu"},
            {"op": "max_pool2d", "kernel": 2},
            {"op": "conv2d", "out_channels": 5, "kernel": 2},
            {"op": "relu"},
            {"op": "local_response_norm", "size": 3},
            {"op": "conv2d", "out_channels": 8, "kernel": 1, "stride": 2},
            {"op": "relu"},
            {"op": "avg_pool2d", "kernel": 2},
            {"op": "linear", "out_features": 16},
            {"op": "relu"},
            {"op": "dropout", "p": 0.25},
            {"op": "linear", "out_features": 12},
            {"op": "relu"},
            {"op": "linear", "out_features": 10}
        ]
    }))
    .unwrap();
    Sequential::new(&spec).unwrap()
}

/// Fused in one stage; cut before and behind rectifiers; with every layer a stage of its own, where some have no pass to
/// run; and with every pass by itself.
fn fusing_leaves_every_bit(name: &str) {
    let model = rectified_model();
    let end = model.layers.len();
    let (batches, sizes) = (samples(&model, 8, 4), [8, 4]);
    let run = |starts: &[usize], schedule| {
        let options = (1.0, StalenessOptions::default());
        trained(&mut pipeline_of(&model, &[name], starts, schedule, sizes, options), &batches).0
    };
    let fused = run(&[0], Schedule::OneForwardOneBackward);
    assert_same_bits(&run(&[0, 1, 3, 4, 7, 9, 13, 16], Schedule::OneForwardOneBackward), &fused);
    let every_layer: Vec<_> = (0..end).collect();
    assert_same_bits(&run(&every_layer, Schedule::OneForwardOneBackward), &fused);
    // Where gradients of weights wait.
    assert_same_bits(&run(&[0, 9], Schedule::ZeroBubble), &fused);
    assert_same_bits(&run(&[0, 2, 3, 10, 16], Schedule::ZeroBubble), &fused);

    let mut network = Network::of(model.clone(), name, [2, 4]);
    for step in 0..batches.len() {
        for microbatch in 4 * step..4 * (step + 1) {
            network.forward(0..end, microbatch, &batches);
            network.backward(0..end, microbatch, &batches);
        }
        network.update(0..end, 0.05);
    }
    assert_same_bits(&fused, &network.tensors());
}

#[test]
fn fusing_leaves_every_bit_on_the_reference() {
    fusing_leaves_every_bit("reference");
}

#[test]
fn fusing_leaves_every_bit_on_llvmpipe() {
    fusing_leaves_every_bit("llvmpipe");
}

#[test]
fn fusing_leaves_every_bit_on_gpus() {
    for name in &hardware() {
        fusing_leaves_every_bit(name);
    }
}

#[test]
fn fusing_leaves_every_bit_on_swiftshader() {
    fusing_leaves_every_bit("swiftshader");
}
