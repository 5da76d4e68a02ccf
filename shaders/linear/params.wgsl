// What every kernel of the linear layer is told and bound to.

struct LinearParams {
    samples: u32,
    inputs: u32,
    outputs: u32,
    // Outputs (rows of w) of this dispatch, as first and count.
    first: u32,
    rows: u32,
    // Elements before the first one that is meant, in each binding.
    x_skip: u32,
    y_skip: u32,
    w_skip: u32,
    b_skip: u32,
    has_bias: u32,
    accumulate: u32,
    // Rows of each slice of `backward_input`, and the number of slices.
    slice: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> params: LinearParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
@group(0) @binding(7) var<storage, read_write> db: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;
@group(0) @binding(14) var<storage, read> partials: array<f32>;
