// What every kernel of the convolution is told and bound to. `source` is the picture that is read and `result` the one
// that is written: x and y forward, dy and dx backward.

struct Conv2dParams {
    samples: u32,
    source_channels: u32,
    source_h: u32,
    source_w: u32,
    result_channels: u32,
    result_h: u32,
    result_w: u32,
    // Channels that this dispatch is about, as first and count.
    source_first: u32,
    source_count: u32,
    result_first: u32,
    result_count: u32,
    // Positions that are computed: result position = first + step · i for i < grid.
    grid_h: u32,
    grid_w: u32,
    first_h: u32,
    first_w: u32,
    step_h: u32,
    step_w: u32,
    filter_h: u32,
    filter_w: u32,
    stride_h: u32,
    stride_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    // Zeros before the first row and column of the source, and sides of the padded copy.
    padding_h: u32,
    padding_w: u32,
    padded_h: u32,
    padded_w: u32,
    // Where in the padded copy the first tap of the first position lies.
    origin_h: u32,
    origin_w: u32,
    // Taps of the whole filter that `pack` takes, as first and step (negative ones wrap), and w's strides.
    tap_first_h: u32,
    tap_first_w: u32,
    tap_step_h: u32,
    tap_step_w: u32,
    w_row: u32,
    w_source: u32,
    w_result: u32,
    // Elements before the first one that is meant, in each binding.
    source_skip: u32,
    result_skip: u32,
    w_skip: u32,
    b_skip: u32,
    has_bias: u32,
    accumulate: u32,
    // Samples of each slice of `backward_weight`, and the number of slices.
    slice: u32,
    slices: u32,
}

@group(0) @binding(0) var<uniform> params: Conv2dParams;
@group(0) @binding(1) var<storage, read> source: array<f32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
@group(0) @binding(7) var<storage, read_write> db: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;
// Parts of the scratch memory. One dispatch may not see one buffer both as `read` and as `read_write`: so where
// `backward_weight` writes its sums to it, it also reads through bindings that could write.
@group(0) @binding(14) var<storage, read_write> scratch: array<f32>;
@group(0) @binding(14) var<storage, read_write> copied: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read> padded: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read> packed: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read_write> padded_x: array<vec4<f32>>;
@group(0) @binding(16) var<storage, read_write> padded_dy: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read> partials: array<f32>;
