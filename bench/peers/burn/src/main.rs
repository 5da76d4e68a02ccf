//! A training step of one of Brigade's built-in models in Burn: forward, loss, backward, update.
//!
//! `burn-step BACKEND MODEL BATCH STEPS WARM_UP` prints one JSON document with the milliseconds of each step.

mod model;

use std::time::Instant;

use burn::nn::loss::CrossEntropyLossConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::{Device, DeviceKind, Distribution, Int, Tensor};
use model::Net;

const CLASSES: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backend, model, batch, steps, warm_up] = arguments.as_slice() else {
        eprintln!("burn-step wgpu|flex cnn-small|plain-8 BATCH STEPS WARM_UP");
        std::process::exit(2);
    };
    let count = |text: &String| text.parse::<usize>().expect("a number");
    let device = match backend.as_str() {
        "wgpu" => Device::wgpu(DeviceKind::DefaultDevice),
        "flex" => Device::flex(),
        other => panic!("no back end {other}"),
    }
    .autodiff();
    let milliseconds = run(&device, model, count(batch), count(steps), count(warm_up));
    println!("{}", serde_json::json!({ "milliseconds": milliseconds }));
}

/// Milliseconds of each step after those of the warm-up, which holds what is compiled and tuned at first use.
fn run(device: &Device, model: &str, batch: usize, steps: usize, warm_up: usize) -> Vec<f64> {
    let mut net = Net::new(model, CLASSES, device);
    let (channels, side) = net.input();
    let x: Tensor<4> = Tensor::random([batch, channels, side, side], Distribution::Uniform(-1.0, 1.0), device);
    let labels: Vec<i32> = (0..batch as i32).map(|sample| sample % CLASSES as i32).collect();
    let labels: Tensor<1, Int> = Tensor::from_data(labels.as_slice(), device);
    let momentum = MomentumConfig { momentum: 0.9, dampening: 0.0, nesterov: false };
    let mut optimiser = SgdConfig::new().with_momentum(Some(momentum)).init();
    let loss = CrossEntropyLossConfig::new().init(device);
    let mut milliseconds = Vec::with_capacity(steps);
    for step in 0..warm_up + steps {
        let started = Instant::now();
        let loss = loss.forward(net.forward(x.clone()), labels.clone());
        let gradients = GradientsParams::from_grads(loss.backward(), &net);
        net = optimiser.step(1e-4, net, gradients);
        // Nothing may be left to do: the loss is read, the queue is emptied.
        let value: f32 = loss.into_scalar();
        assert!(value.is_finite());
        device.sync().expect("the device finishes");
        if step >= warm_up {
            milliseconds.push(1e3 * started.elapsed().as_secs_f64());
        }
    }
    milliseconds
}
