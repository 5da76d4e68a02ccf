// y[n,k,p,q] = b[k] + Σ_crs w[k,c,r,s] · x[n,c, p·stride − padding + r·dilation, q·stride − padding + s·dilation],
// and its gradients. `source` is the picture that is read and `result` the one that is written: x and y forward,
// dy and dx backward. What may be negative is kept in u32 and wraps: an index below 0 is then beyond any side.

struct Conv2dParams {
    samples: u32,
    source_channels: u32,
    source_h: u32,
    source_w: u32,
    result_channels: u32,
    result_h: u32,
    result_w: u32,
    // Channels of which this dispatch has the weights, as first and count.
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
    padding_h: u32,
    padding_w: u32,
    dilation_h: u32,
    dilation_w: u32,
    // Taps of the whole filter that `pack` takes, as first and step, and w's strides.
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
@group(0) @binding(14) var<storage, read_write> workspace: array<f32>;
@group(0) @binding(14) var<storage, read> packed: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read> partials: array<f32>;

// Weights in the order in which `correlate` reads them: for 8 channels of the result at a time, every source channel,
// row and column of the filter, and of each the 8 weights. Channels beyond the last one get zeros.
@compute @workgroup_size(256)
fn pack(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let taps = params.filter_h * params.filter_w;
    let depth = params.source_count * taps;
    let channel = i / (8u * depth) * 8u + i % 8u;
    let entry = i / 8u % depth;
    if i >= (params.result_count + 7u) / 8u * 8u * depth {
        return;
    }
    if channel >= params.result_count {
        workspace[i] = 0.0;
        return;
    }
    let tap = entry % taps;
    let r = params.tap_first_h + tap / params.filter_w * params.tap_step_h;
    let s = params.tap_first_w + tap % params.filter_w * params.tap_step_w;
    let at = params.w_skip + entry / taps * params.w_source + channel * params.w_result;
    workspace[i] = w[at + r * params.w_row + s];
}

// What one invocation of `forward` and `backward_input` computes: 8 channels of 8 neighbours in a row of the grid.
struct Tile {
    inside: bool,
    sample: u32,
    channel: u32,
    row: u32,
    column: u32,
}

fn tile_of(group: vec3<u32>, groups: vec3<u32>, lane: u32) -> Tile {
    let i = flat_invocation(group, groups, lane, 64u);
    let across = (params.grid_w + 7u) / 8u;
    let row = i / across;
    let sample = row / params.grid_h;
    return Tile(sample < params.samples, sample, group.z * 8u, row % params.grid_h, i % across * 8u);
}

// A row of a plane of the source: where it starts, and how many elements it has.
fn source_at(line: u32, width: u32, column: u32) -> f32 {
    let inside = column < width;
    return select(0.0, source[line + select(0u, column, inside)], inside);
}

fn source_eight(line: u32, width: u32, column: u32, step: u32) -> Eight {
    return Eight(
        vec4(
            source_at(line, width, column),
            source_at(line, width, column + step),
            source_at(line, width, column + 2u * step),
            source_at(line, width, column + 3u * step),
        ),
        vec4(
            source_at(line, width, column + 4u * step),
            source_at(line, width, column + 5u * step),
            source_at(line, width, column + 6u * step),
            source_at(line, width, column + 7u * step),
        ),
    );
}

fn correlate(block: ptr<function, Block>, tile: Tile) {
    // Read once: not every compiler moves the reading of uniforms out of loops.
    let height = params.source_h;
    let width = params.source_w;
    let channels = params.source_count;
    let filter_h = params.filter_h;
    let filter_w = params.filter_w;
    let step = params.stride_w;
    let dilation_h = params.dilation_h;
    let dilation_w = params.dilation_w;
    let first_row = tile.row * params.stride_h - params.padding_h;
    let first_column = tile.column * step - params.padding_w;
    // Where a tap lies one stride from the next, its 8 pixels are the next one's but for the last.
    let slides = step == dilation_w;
    var weights = 2u * (tile.channel / 8u) * channels * filter_h * filter_w;
    var plane = params.source_skip + (tile.sample * params.source_channels + params.source_first) * height * width;
    for (var c = 0u; c < channels; c++) {
        for (var r = 0u; r < filter_h; r++) {
            let row = first_row + r * dilation_h;
            if row < height {
                let line = plane + row * width;
                if slides {
                    var pixels = source_eight(line, width, first_column, step);
                    var column = first_column + 8u * step;
                    for (var s = 0u; s < filter_w; s++) {
                        let at = weights + 2u * s;
                        multiply_add(block, Eight(packed[at], packed[at + 1u]), pixels);
                        let next = source_at(line, width, column);
                        pixels = Eight(vec4(pixels.low.yzw, pixels.high.x), vec4(pixels.high.yzw, next));
                        column += step;
                    }
                } else {
                    for (var s = 0u; s < filter_w; s++) {
                        let at = weights + 2u * s;
                        let pixels = source_eight(line, width, first_column + s * dilation_w, step);
                        multiply_add(block, Eight(packed[at], packed[at + 1u]), pixels);
                    }
                }
            }
            weights += 2u * filter_w;
        }
        plane += height * width;
    }
}

fn put(at: u32, inside: bool, value: f32) {
    if inside {
        if params.accumulate != 0u {
            result[at] += value;
        } else {
            result[at] = value;
        }
    }
}

// Eight results of one channel.
fn put_row(tile: Tile, channel: u32, low: vec4<f32>, high: vec4<f32>) {
    let plane = tile.sample * params.result_channels + params.result_first + channel;
    let row = plane * params.result_h + params.first_h + tile.row * params.step_h;
    let at = params.result_skip + row * params.result_w + params.first_w + tile.column * params.step_w;
    let step = params.step_w;
    let left = select(0u, params.grid_w - tile.column, channel < params.result_count);
    put(at, left > 0u, low.x);
    put(at + step, left > 1u, low.y);
    put(at + 2u * step, left > 2u, low.z);
    put(at + 3u * step, left > 3u, low.w);
    put(at + 4u * step, left > 4u, high.x);
    put(at + 5u * step, left > 5u, high.y);
    put(at + 6u * step, left > 6u, high.z);
    put(at + 7u * step, left > 7u, high.w);
}

fn put_block(tile: Tile, block: ptr<function, Block>, bias: Eight) {
    let k = tile.channel;
    put_row(tile, k, (*block)[0] + bias.low.x, (*block)[1] + bias.low.x);
    put_row(tile, k + 1u, (*block)[2] + bias.low.y, (*block)[3] + bias.low.y);
    put_row(tile, k + 2u, (*block)[4] + bias.low.z, (*block)[5] + bias.low.z);
    put_row(tile, k + 3u, (*block)[6] + bias.low.w, (*block)[7] + bias.low.w);
    put_row(tile, k + 4u, (*block)[8] + bias.high.x, (*block)[9] + bias.high.x);
    put_row(tile, k + 5u, (*block)[10] + bias.high.y, (*block)[11] + bias.high.y);
    put_row(tile, k + 6u, (*block)[12] + bias.high.z, (*block)[13] + bias.high.z);
    put_row(tile, k + 7u, (*block)[14] + bias.high.w, (*block)[15] + bias.high.w);
}

fn bias_of(channel: u32) -> f32 {
    if params.has_bias != 0u && channel < params.result_count {
        return b[params.b_skip + channel];
    }
    return 0.0;
}

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_of(group, groups, lane);
    if !tile.inside {
        return;
    }
    var block: Block;
    correlate(&block, tile);
    let k = tile.channel;
    let low = vec4(bias_of(k), bias_of(k + 1u), bias_of(k + 2u), bias_of(k + 3u));
    let high = vec4(bias_of(k + 4u), bias_of(k + 5u), bias_of(k + 6u), bias_of(k + 7u));
    put_block(tile, &block, Eight(low, high));
}

// The positions of dx whose distance to a multiple of the stride is the same meet the same taps, and at those
// positions dx is a correlation of stride 1 of dy with these taps, flipped: one dispatch for each such phase.
@compute @workgroup_size(64)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let tile = tile_of(group, groups, lane);
    if !tile.inside {
        return;
    }
    var block: Block;
    correlate(&block, tile);
    put_block(tile, &block, Eight(vec4(0.0), vec4(0.0)));
}

// Four columns of the block of `backward_weight`: elements (c, r, s) of the filter, with the taps outermost. What to
// add to the row, the column and the index of a pixel of x.
struct Taps {
    row: vec4<u32>,
    column: vec4<u32>,
    index: vec4<u32>,
}

fn taps_of(first: u32) -> Taps {
    let last = params.source_channels * params.filter_h * params.filter_w - 1u;
    let entry = min(first + vec4(0u, 1u, 2u, 3u), vec4(last));
    let tap = entry / params.source_channels;
    let c = entry % params.source_channels;
    let row = tap / params.filter_w * params.dilation_h - params.padding_h;
    let column = tap % params.filter_w * params.dilation_w - params.padding_w;
    return Taps(row, column, (c * params.source_h + row) * params.source_w + column);
}

fn tapped(pixel: u32, row: u32, column: u32, taps: Taps) -> vec4<f32> {
    let inside = (row + taps.row < vec4(params.source_h)) & (column + taps.column < vec4(params.source_w));
    let at = select(vec4(0u), pixel + taps.index, inside);
    return select(vec4(0.0), vec4(source[at.x], source[at.y], source[at.z], source[at.w]), inside);
}

fn dy_at(rows: Offsets, i: u32) -> Eight {
    return Eight(
        vec4(dy[rows.low.x + i], dy[rows.low.y + i], dy[rows.low.z + i], dy[rows.low.w + i]),
        vec4(dy[rows.high.x + i], dy[rows.high.y + i], dy[rows.high.z + i], dy[rows.high.w + i]),
    );
}

// Sums over the pixels of a slice of the samples: 64 invocations share a block of 8 output channels × 8 elements of
// the filter and take every 64th pixel each. Slices are added up by `backward_weight_sum`.
@compute @workgroup_size(64)
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let area = params.result_h * params.result_w;
    let channels = offsets(8u * group.y, params.result_count - 1u, area, params.result_skip);
    let low = taps_of(8u * group.x);
    let high = taps_of(8u * group.x + 4u);
    let rows_a_turn = 64u / params.result_w;
    let columns_a_turn = 64u % params.result_w;
    let sample_end = min((group.z + 1u) * params.slice, params.samples);

    var block: Block;
    for (var sample = group.z * params.slice; sample < sample_end; sample++) {
        let plane = (sample * params.result_channels + params.result_first) * area;
        let picture = params.source_skip + sample * params.source_channels * params.source_h * params.source_w;
        var p = lane / params.result_w;
        var q = lane % params.result_w;
        for (var i = lane; i < area; i += 64u) {
            let row = p * params.stride_h;
            let column = q * params.stride_w;
            let pixel = picture + row * params.source_w + column;
            let pixels = Eight(tapped(pixel, row, column, low), tapped(pixel, row, column, high));
            multiply_add(&block, dy_at(channels, plane + i), pixels);
            p += rows_a_turn;
            q += columns_a_turn;
            if q >= params.result_w {
                q -= params.result_w;
                p += 1u;
            }
        }
    }
    let block_index = (group.z * groups.y + group.y) * groups.x + group.x;
    workspace[64u * block_index + lane] = block_sum(&block, lane);
}

// dw += the sum of the slices, always in the same order.
@compute @workgroup_size(256)
fn backward_weight_sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let taps = params.filter_h * params.filter_w;
    let depth = params.source_channels * taps;
    let k = i / depth;
    if k >= params.result_count {
        return;
    }
    let entry = i % taps * params.source_channels + i % depth / taps;
    let across = (depth + 7u) / 8u;
    let stride = 64u * across * ((params.result_count + 7u) / 8u);
    var at = 64u * (k / 8u * across + entry / 8u) + k % 8u * 8u + entry % 8u;
    var sum = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += partials[at];
        at += stride;
    }
    dw[params.w_skip + i] += sum;
}

var<workgroup> bias_sums: array<f32, 256>;

// A workgroup for each channel.
@compute @workgroup_size(256)
fn backward_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let area = params.result_h * params.result_w;
    var sum = 0.0;
    for (var sample = 0u; sample < params.samples; sample++) {
        let plane = params.result_skip + (sample * params.result_channels + params.result_first + group.x) * area;
        for (var i = lane; i < area; i += 256u) {
            sum += dy[plane + i];
        }
    }
    bias_sums[lane] = sum;
    workgroupBarrier();
    for (var half = 128u; half > 0u; half /= 2u) {
        if lane < half {
            bias_sums[lane] += bias_sums[lane + half];
        }
        workgroupBarrier();
    }
    if lane == 0u {
        db[params.b_skip + group.x] += bias_sums[0];
    }
}

// The yardstick: one invocation for each element, as the formula says.

@compute @workgroup_size(256)
fn forward_naive(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let q = i % params.result_w;
    let p = i / params.result_w % params.result_h;
    let k = i / (params.result_w * params.result_h) % params.result_count;
    let n = i / (params.result_w * params.result_h * params.result_count);
    if n >= params.samples {
        return;
    }
    var sum = bias_of(k);
    var weight = params.w_skip + k * params.source_channels * params.filter_h * params.filter_w;
    for (var c = 0u; c < params.source_channels; c++) {
        for (var r = 0u; r < params.filter_h; r++) {
            for (var s = 0u; s < params.filter_w; s++) {
                let row = p * params.stride_h + r * params.dilation_h - params.padding_h;
                let column = q * params.stride_w + s * params.dilation_w - params.padding_w;
                if row < params.source_h && column < params.source_w {
                    let line = (n * params.source_channels + c) * params.source_h + row;
                    sum += w[weight] * source[params.source_skip + line * params.source_w + column];
                }
                weight++;
            }
        }
    }
    let plane = n * params.result_channels + params.result_first + k;
    result[params.result_skip + (plane * params.result_h + p) * params.result_w + q] = sum;
}

// Here and in `backward_weight_naive` the shapes are those of the forward pass: source is x's, result y's.
@compute @workgroup_size(256)
fn backward_input_naive(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let column = i % params.source_w;
    let row = i / params.source_w % params.source_h;
    let c = i / (params.source_w * params.source_h) % params.source_channels;
    let n = i / (params.source_w * params.source_h * params.source_channels);
    if n >= params.samples {
        return;
    }
    var sum = 0.0;
    for (var k = 0u; k < params.result_count; k++) {
        let plane = (n * params.result_channels + params.result_first + k) * params.result_h;
        var weight = params.w_skip + (k * params.source_channels + c) * params.filter_h * params.filter_w;
        for (var r = 0u; r < params.filter_h; r++) {
            for (var s = 0u; s < params.filter_w; s++) {
                // Where this is negative it is huge, and its quotient is tested before it is used.
                let down = row + params.padding_h - r * params.dilation_h;
                let right = column + params.padding_w - s * params.dilation_w;
                let p = down / params.stride_h;
                let q = right / params.stride_w;
                let meets = p * params.stride_h == down && q * params.stride_w == right;
                if meets && p < params.result_h && q < params.result_w {
                    sum += w[weight] * dy[params.result_skip + (plane + p) * params.result_w + q];
                }
                weight++;
            }
        }
    }
    put(params.source_skip + i, true, sum);
}

@compute @workgroup_size(256)
fn backward_weight_naive(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let s = i % params.filter_w;
    let r = i / params.filter_w % params.filter_h;
    let c = i / (params.filter_w * params.filter_h) % params.source_channels;
    let k = i / (params.filter_w * params.filter_h * params.source_channels);
    if k >= params.result_count {
        return;
    }
    var sum = 0.0;
    for (var n = 0u; n < params.samples; n++) {
        let gradients = (n * params.result_channels + params.result_first + k) * params.result_h;
        let picture = (n * params.source_channels + c) * params.source_h;
        for (var p = 0u; p < params.result_h; p++) {
            for (var q = 0u; q < params.result_w; q++) {
                let row = p * params.stride_h + r * params.dilation_h - params.padding_h;
                let column = q * params.stride_w + s * params.dilation_w - params.padding_w;
                if row < params.source_h && column < params.source_w {
                    let at = params.source_skip + (picture + row) * params.source_w + column;
                    sum += dy[params.result_skip + (gradients + p) * params.result_w + q] * source[at];
                }
            }
        }
    }
    dw[params.w_skip + i] += sum;
}
