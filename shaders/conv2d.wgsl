// y[n,k,p,q] = b[k] + Σ_crs w[k,c,r,s] · x[n,c, p·stride − padding + r·dilation, q·stride − padding + s·dilation],
// and its gradients. `source` is the picture that is read and `result` the one that is written: x and y forward,
// dy and dx backward.
//
// The fast kernels read pictures from a copy that `pad` makes in scratch memory: 4 channels in one vec4, neighbours in
// a row next to each other, zeros around. So every load brings 4 values, and none is checked against the border.

fn source_at(n: u32, c: u32, row: u32, column: u32) -> f32 {
    if c >= params.source_count {
        return 0.0;
    }
    let plane = n * params.source_channels + params.source_first + c;
    return source[params.source_skip + (plane * params.source_h + row) * params.source_w + column];
}

// The padded copy: samples × channels / 4 × rows × columns × 4 channels.
@compute @workgroup_size(256)
fn pad(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let quads = (params.source_count + 3u) / 4u;
    let line = i / params.padded_w;
    let plane = line / params.padded_h;
    let n = plane / quads;
    if n >= params.samples {
        return;
    }
    // An index below 0 wraps and is beyond any side.
    let row = line % params.padded_h - params.padding_h;
    let column = i % params.padded_w - params.padding_w;
    var value = vec4(0.0);
    if row < params.source_h && column < params.source_w {
        let c = plane % quads * 4u;
        value = vec4(
            source_at(n, c, row, column),
            source_at(n, c + 1u, row, column),
            source_at(n, c + 2u, row, column),
            source_at(n, c + 3u, row, column),
        );
    }
    copied[i] = value;
}

// Weights in the order in which `correlate` reads them: for 8 channels of the result at a time, each 4 source
// channels, row and column of the filter, and for these each source channel's 8 weights. Channels beyond the last one
// get zeros.
@compute @workgroup_size(256)
fn pack(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let taps = params.filter_h * params.filter_w;
    let depth = (params.source_count + 3u) / 4u * taps;
    let channel = i / (32u * depth) * 8u + i % 8u;
    let entry = i / 32u % depth;
    let c = entry / taps * 4u + i / 8u % 4u;
    if i >= (params.result_count + 7u) / 8u * 32u * depth {
        return;
    }
    if channel >= params.result_count || c >= params.source_count {
        scratch[i] = 0.0;
        return;
    }
    let tap = entry % taps;
    let r = params.tap_first_h + tap / params.filter_w * params.tap_step_h;
    let s = params.tap_first_w + tap % params.filter_w * params.tap_step_w;
    let at = params.w_skip + c * params.w_source + channel * params.w_result;
    scratch[i] = w[at + r * params.w_row + s];
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
    // Beyond the last sample an invocation repeats it and writes nothing: all of a subgroup must walk the same loops.
    let inside = sample < params.samples;
    return Tile(inside, min(sample, params.samples - 1u), group.z * 8u, row % params.grid_h, i % across * 8u);
}

// block += Σ over 4 source channels of their 8 weights · their values in 8 pixels
fn multiply_add_quad(block: ptr<function, Block>, at: u32, lane: u32, low: mat4x4<f32>, high: mat4x4<f32>) {
    let l = transpose(low);
    let h = transpose(high);
    let weights = quad_weights(at, lane);
    multiply_add(block, weights.first, Eight(l[0], h[0]));
    multiply_add(block, weights.second, Eight(l[1], h[1]));
    multiply_add(block, weights.third, Eight(l[2], h[2]));
    multiply_add(block, weights.fourth, Eight(l[3], h[3]));
}

fn correlate(block: ptr<function, Block>, tile: Tile, lane: u32) {
    // Read once: not every compiler moves the reading of uniforms out of loops.
    let quads = (params.source_count + 3u) / 4u;
    let filter_h = params.filter_h;
    let filter_w = params.filter_w;
    let step = params.stride_w;
    let dilation_w = params.dilation_w;
    let next_row = params.dilation_h * params.padded_w;
    let area = params.padded_h * params.padded_w;
    let row = params.origin_h + tile.row * params.stride_h;
    let column = params.origin_w + tile.column * step;
    // Where a tap lies one stride from the next, its 8 pixels are the next one's but for the last.
    let slides = step == dilation_w;
    var weights = tile.channel * quads * filter_h * filter_w;
    var plane = tile.sample * quads * area + row * params.padded_w + column;
    for (var c = 0u; c < quads; c++) {
        var line = plane;
        for (var r = 0u; r < filter_h; r++) {
            var at = line;
            var low = mat4x4(padded[at], padded[at + step], padded[at + 2u * step], padded[at + 3u * step]);
            at += 4u * step;
            var high = mat4x4(padded[at], padded[at + step], padded[at + 2u * step], padded[at + 3u * step]);
            at += 3u * step;
            multiply_add_quad(block, weights, lane, low, high);
            weights += 8u;
            for (var s = 1u; s < filter_w; s++) {
                if slides {
                    at += step;
                    low = mat4x4(low[1], low[2], low[3], high[0]);
                    high = mat4x4(high[1], high[2], high[3], padded[at]);
                } else {
                    at = line + s * dilation_w;
                    low = mat4x4(padded[at], padded[at + step], padded[at + 2u * step], padded[at + 3u * step]);
                    at += 4u * step;
                    high = mat4x4(padded[at], padded[at + step], padded[at + 2u * step], padded[at + 3u * step]);
                }
                multiply_add_quad(block, weights, lane, low, high);
                weights += 8u;
            }
            line += next_row;
        }
        plane += area;
    }
}

fn put(at: u32, inside: bool, value: f32) {
    if inside {
        if params.accumulate != 0u {
            result[at] += stored(at, value);
        } else {
            result[at] = stored(at, value);
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
    var block: Block;
    correlate(&block, tile, lane);
    if !tile.inside {
        return;
    }
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
    var block: Block;
    correlate(&block, tile, lane);
    if !tile.inside {
        return;
    }
    put_block(tile, &block, Eight(vec4(0.0), vec4(0.0)));
}

// Where the four columns `quad` of the blocks of `backward_weight` lie in the padded copy of x: 4 channels at one tap,
// with the taps outermost. Those beyond the last repeat it; nobody reads their results.
fn quad_of(quad: u32) -> u32 {
    let quads = (params.source_channels + 3u) / 4u;
    let g = min(quad, quads * params.filter_h * params.filter_w - 1u);
    let tap = g / quads;
    let row = g % quads * params.padded_h + tap / params.filter_w * params.dilation_h;
    return row * params.padded_w + tap % params.filter_w * params.dilation_w;
}

// Sums over the pixels of a slice of the samples: the invocations of a workgroup share a block of 8 output channels × 8 elements of
// the filter and take turns at the pixels. Slices are added up by `backward_weight_sum`.
@compute @workgroup_size(lanes)
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let area = params.result_h * params.result_w;
    let columns = params.result_w;
    let down = params.stride_h * params.padded_w;
    let right = params.stride_w;
    let picture = (params.source_channels + 3u) / 4u * params.padded_h * params.padded_w;
    let quads = (params.result_count + 3u) / 4u;
    let k_low = 2u * group.y * area;
    let k_high = min(2u * group.y + 1u, quads - 1u) * area;
    let c_low = quad_of(2u * group.x);
    let c_high = quad_of(2u * group.x + 1u);
    let rows_a_turn = lanes / columns;
    let columns_a_turn = lanes % columns;
    let sample_end = min((group.z + 1u) * params.slice, params.samples);

    var block: Block;
    for (var sample = group.z * params.slice; sample < sample_end; sample++) {
        let gradients = sample * quads * area;
        var p = lane / columns;
        var q = lane % columns;
        for (var i = lane; i < area; i += lanes) {
            let at = gradients + i;
            let pixel = sample * picture + p * down + q * right;
            let rows = Eight(padded_dy[at + k_low], padded_dy[at + k_high]);
            multiply_add(&block, rows, Eight(padded_x[pixel + c_low], padded_x[pixel + c_high]));
            p += rows_a_turn;
            q += columns_a_turn;
            if q >= columns {
                q -= columns;
                p += 1u;
            }
        }
    }
    let block_index = (group.z * groups.y + group.y) * groups.x + group.x;
    share(&block, lane);
    for (var value = lane; value < 64u; value += lanes) {
        scratch[64u * block_index + value] = block_sum(value);
    }
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
    let c = i % depth / taps;
    let quads = (params.source_channels + 3u) / 4u;
    let quad = i % taps * quads + c / 4u;
    let across = (taps * quads + 1u) / 2u;
    let stride = 64u * across * ((params.result_count + 7u) / 8u);
    var at = 64u * (k / 8u * across + quad / 2u) + k % 8u * 8u + quad % 2u * 4u + c % 4u;
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
