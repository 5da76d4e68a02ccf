//! Models that need no run file.

use brigade_kernels::Shape;
use serde_json::json;

use super::{LayerSpec, ModelError, ModelSpec, Sequential};

/// Names of the built-in models.
pub const BUILT_IN: &[&str] = &["lenet5", "cnn-small", "cnn-8", "plain-8", "alexnet", "vgg-f"];

/// The built-in model called `name`.
///
/// # Errors
/// Where there is none of that name; the message lists them.
pub fn built_in(name: &str) -> Result<Sequential, ModelError> {
    let spec = match name {
        "lenet5" => lenet5(),
        "cnn-small" => cnn_small(),
        "cnn-8" => cnn_8(),
        "plain-8" => plain_8(),
        "alexnet" => alexnet(),
        "vgg-f" => vgg_f(),
        _ => return Err(ModelError::Unknown { name: name.to_owned() }),
    };
    Sequential::new(&spec)
}

fn model(name: &str, input: Shape, layers: Vec<LayerSpec>) -> ModelSpec {
    ModelSpec { name: name.to_owned(), input, layers }
}

fn conv(out_channels: usize, kernel: usize, stride: usize, padding: usize) -> LayerSpec {
    let attributes = json!({"out_channels": out_channels, "kernel": kernel, "stride": stride, "padding": padding});
    LayerSpec::of("conv2d", attributes)
}

fn fc(out_features: usize) -> LayerSpec {
    LayerSpec::of("linear", json!({ "out_features": out_features }))
}

fn relu() -> LayerSpec {
    LayerSpec::of("relu", json!({}))
}

/// A pool of `kernel`×`kernel` windows every `stride` elements, its last window allowed to hang over.
fn max_pool(kernel: usize, stride: usize) -> LayerSpec {
    LayerSpec::of("max_pool2d", json!({"kernel": kernel, "stride": stride, "ceil_mode": true}))
}

/// Caffe's LeNet: no rectifier after the convolutions.
fn lenet5() -> ModelSpec {
    let layers = vec![conv(20, 5, 1, 0), max_pool(2, 2), conv(50, 5, 1, 0), max_pool(2, 2), fc(500), relu(), fc(10)];
    model("lenet5", Shape::new(1, 28, 28), layers)
}

/// Three convolutions and two linear layers on 32×32 colour pictures.
fn cnn_small() -> ModelSpec {
    let layers = vec![
        conv(32, 3, 1, 1),
        relu(),
        conv(32, 3, 1, 1),
        relu(),
        max_pool(2, 2),
        conv(64, 3, 1, 1),
        relu(),
        max_pool(2, 2),
        fc(128),
        relu(),
        fc(10),
    ];
    model("cnn-small", Shape::new(3, 32, 32), layers)
}

/// Six convolutions and two linear layers on 32×32 colour pictures: eight layers that hold weights, one for each of
/// eight stages, and little enough to compute for a study of many runs.
fn cnn_8() -> ModelSpec {
    let layers = vec![
        conv(16, 3, 2, 1),
        relu(),
        conv(24, 3, 1, 1),
        relu(),
        max_pool(2, 2),
        conv(32, 3, 1, 1),
        relu(),
        conv(48, 3, 1, 1),
        relu(),
        max_pool(2, 2),
        conv(64, 3, 1, 1),
        relu(),
        conv(64, 3, 1, 1),
        relu(),
        fc(64),
        relu(),
        fc(10),
    ];
    model("cnn-8", Shape::new(3, 32, 32), layers)
}

/// A widening convolution and eight equal ones: stages of equal work, for measuring pipelines.
fn plain_8() -> ModelSpec {
    let mut layers = vec![conv(32, 3, 1, 1), relu()];
    for _ in 0..8 {
        layers.extend([conv(32, 3, 1, 1), relu()]);
    }
    layers.push(LayerSpec::of("avg_pool2d", json!({"global": true})));
    layers.push(fc(10));
    model("plain-8", Shape::new(3, 16, 16), layers)
}

/// Normalisation over five channels as Krizhevsky et al. (2012) have it; their α is that of a sum, here it is of a mean.
fn norm() -> LayerSpec {
    LayerSpec::of("local_response_norm", json!({"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}))
}

fn dropout() -> LayerSpec {
    LayerSpec::of("dropout", json!({"p": 0.5}))
}

/// Three linear layers behind the last pool, half of the features of the first two dropped: 1000 classes.
fn classifier() -> [LayerSpec; 7] {
    [
        fc(4096).named("fc6"),
        relu().named("relu6"),
        dropout(),
        fc(4096).named("fc7"),
        relu().named("relu7"),
        dropout(),
        fc(1000).named("fc8"),
    ]
}

/// The network of Krizhevsky et al. (2012) on one device, its second, fourth and fifth convolution not parted in two:
/// 62,378,344 parameters. A border of 2 around its pictures makes the published 55×55 of the first convolution.
fn alexnet() -> ModelSpec {
    let mut layers = vec![
        conv(96, 11, 4, 2),
        relu(),
        norm(),
        max_pool(3, 2),
        conv(256, 5, 1, 2),
        relu(),
        norm(),
        max_pool(3, 2),
        conv(384, 3, 1, 1),
        relu(),
        conv(384, 3, 1, 1),
        relu(),
        conv(256, 3, 1, 1),
        relu(),
        max_pool(3, 2).named("pool5"),
    ];
    layers.extend(classifier());
    model("alexnet", Shape::new(3, 224, 224), layers)
}

/// CNN-F of Chatfield et al. (2014): 60,834,536 parameters.
fn vgg_f() -> ModelSpec {
    let mut layers = vec![
        conv(64, 11, 4, 0),
        relu(),
        norm(),
        max_pool(3, 2),
        conv(256, 5, 1, 2),
        relu(),
        norm(),
        max_pool(3, 2),
        conv(256, 3, 1, 1),
        relu(),
        conv(256, 3, 1, 1),
        relu(),
        conv(256, 3, 1, 1),
        relu(),
        max_pool(3, 2).named("pool5"),
    ];
    layers.extend(classifier());
    model("vgg-f", Shape::new(3, 224, 224), layers)
}
