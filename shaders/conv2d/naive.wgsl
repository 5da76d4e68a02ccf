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
    let channels = params.source_channels;
    let height = params.source_h;
    let width = params.source_w;
    let filter_h = params.filter_h;
    let filter_w = params.filter_w;
    let dilation_h = params.dilation_h;
    let dilation_w = params.dilation_w;
    let first_row = p * params.stride_h - params.padding_h;
    let first_column = q * params.stride_w - params.padding_w;
    var plane = params.source_skip + n * channels * height * width;
    var weight = params.w_skip + k * channels * filter_h * filter_w;
    var sum = bias_of(k);
    for (var c = 0u; c < channels; c++) {
        for (var r = 0u; r < filter_h; r++) {
            let row = first_row + r * dilation_h;
            var column = first_column;
            for (var s = 0u; s < filter_w; s++) {
                if row < height && column < width {
                    sum += w[weight] * source[plane + row * width + column];
                }
                column += dilation_w;
                weight++;
            }
        }
        plane += height * width;
    }
    let line = (n * params.result_channels + params.result_first + k) * params.result_h + p;
    put(params.result_skip + line * params.result_w + q, true, sum);
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
    let height = params.result_h;
    let width = params.result_w;
    let filter_h = params.filter_h;
    let filter_w = params.filter_w;
    let stride_h = params.stride_h;
    let stride_w = params.stride_w;
    let gradients = params.result_skip + (n * params.result_channels + params.result_first) * height * width;
    let next_filter = params.source_channels * filter_h * filter_w;
    var sum = 0.0;
    for (var r = 0u; r < filter_h; r++) {
        // Where this is negative it is huge, and its quotient is beyond any side.
        let down = row + params.padding_h - r * params.dilation_h;
        let p = down / stride_h;
        for (var s = 0u; s < filter_w; s++) {
            let right = column + params.padding_w - s * params.dilation_w;
            let q = right / stride_w;
            let meets = p * stride_h == down && q * stride_w == right;
            if meets && p < height && q < width {
                var weight = params.w_skip + (c * filter_h + r) * filter_w + s;
                var at = gradients + p * width + q;
                for (var k = 0u; k < params.result_count; k++) {
                    sum += w[weight] * dy[at];
                    weight += next_filter;
                    at += height * width;
                }
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
    let height = params.source_h;
    let width = params.source_w;
    let result_h = params.result_h;
    let result_w = params.result_w;
    let stride_h = params.stride_h;
    let stride_w = params.stride_w;
    let first_row = r * params.dilation_h - params.padding_h;
    let first_column = s * params.dilation_w - params.padding_w;
    var sum = 0.0;
    for (var n = 0u; n < params.samples; n++) {
        let channel = n * params.result_channels + params.result_first + k;
        var at = params.result_skip + channel * result_h * result_w;
        let plane = params.source_skip + (n * params.source_channels + c) * height * width;
        for (var p = 0u; p < result_h; p++) {
            let row = first_row + p * stride_h;
            var column = first_column;
            for (var q = 0u; q < result_w; q++) {
                if row < height && column < width {
                    sum += dy[at] * source[plane + row * width + column];
                }
                column += stride_w;
                at++;
            }
        }
    }
    dw[params.w_skip + i] += sum;
}
