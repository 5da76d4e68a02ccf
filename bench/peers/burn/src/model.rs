//! `cnn-small` and `plain-8`, layer for layer as Brigade's built-in models have them.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, LinearConfig, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};

/// Convolutions, each followed by a rectifier and where `pools` says so by a 2×2 maximum, and linear layers with
/// rectifiers between them.
#[derive(Module, Debug)]
pub struct Net {
    convolutions: Vec<Conv2d>,
    linear: Vec<Linear>,
    pool: MaxPool2d,
    pools: Vec<bool>,
    side: usize,
    /// Whether the mean of each plane goes into the linear layers, in place of the planes.
    global_mean: bool,
}

fn convolution(from: usize, to: usize, device: &Device) -> Conv2d {
    Conv2dConfig::new([from, to], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device)
}

impl Net {
    pub fn new(name: &str, classes: usize, device: &Device) -> Self {
        let conv = |from, to| convolution(from, to, device);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let pool = MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init();
        match name {
            "cnn-small" => Self {
                convolutions: vec![conv(3, 32), conv(32, 32), conv(32, 64)],
                linear: vec![linear(4096, 128), linear(128, classes)],
                pool,
                pools: vec![false, true, true],
                side: 32,
                global_mean: false,
            },
            "plain-8" => Self {
                convolutions: std::iter::once(conv(3, 32)).chain((0..8).map(|_| conv(32, 32))).collect(),
                linear: vec![linear(32, classes)],
                pool,
                pools: vec![false; 9],
                side: 16,
                global_mean: true,
            },
            other => panic!("no model {other}"),
        }
    }

    /// Channels and side of an input picture.
    pub fn input(&self) -> (usize, usize) {
        (3, self.side)
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let mut x = x;
        for (convolution, &pool) in self.convolutions.iter().zip(&self.pools) {
            x = relu(convolution.forward(x));
            if pool {
                x = self.pool.forward(x);
            }
        }
        if self.global_mean {
            x = x.mean_dim(2).mean_dim(3);
        }
        let mut x: Tensor<2> = x.flatten(1, 3);
        for (index, linear) in self.linear.iter().enumerate() {
            x = linear.forward(if index == 0 { x } else { relu(x) });
        }
        x
    }
}
