// y = the largest of each window, saved = where in the plane it was (the first in scan order, as in PyTorch);
// dx = the sum of dy over the windows whose largest this was. One invocation for each element that is written.

override H: u32;
override W: u32;
override P: u32;
override Q: u32;
override R: u32;
override S: u32;
override STRIDE_H: u32;
override STRIDE_W: u32;
override PADDING_H: u32;
override PADDING_W: u32;
override DILATION_H: u32;
override DILATION_W: u32;

// `saved` where a window lies in the padding altogether.
const NOWHERE = 0xffffffffu;

struct MaxPool2dParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: MaxPool2dParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;
@group(0) @binding(9) var<storage, read_write> saved: array<u32>;
@group(0) @binding(9) var<storage, read> saved_given: array<u32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    if i >= params.elements {
        return;
    }
    let q = i % Q;
    let row = i / Q;
    let p = row % P;
    let plane = (row / P) * (H * W);
    var bits = 0xff800000u; // minus infinity, which no literal may say
    var best = bitcast<f32>(bits);
    var place = NOWHERE;
    for (var r = 0u; r < R; r++) {
        let h = p * STRIDE_H + r * DILATION_H - PADDING_H; // wraps to something large in the padding above
        if h < H {
            for (var s = 0u; s < S; s++) {
                let w = q * STRIDE_W + s * DILATION_W - PADDING_W;
                if w < W {
                    let here = h * W + w;
                    let value = x[plane + here];
                    if value > best || place == NOWHERE || is_nan(value) {
                        best = value;
                        place = here;
                    }
                }
            }
        }
    }
    y[i] = best;
    saved[i] = place;
}

@compute @workgroup_size(256)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    if i >= params.elements {
        return;
    }
    let w = i % W;
    let row = i / W;
    let h = row % H;
    let plane = (row / H) * (P * Q);
    let here = h * W + w;
    let height = DILATION_H * (R - 1u) + 1u;
    let width = DILATION_W * (S - 1u) + 1u;
    let bottom = h + PADDING_H;
    let right = w + PADDING_W;
    let first_p = select(0u, (bottom - height) / STRIDE_H + 1u, bottom >= height);
    let first_q = select(0u, (right - width) / STRIDE_W + 1u, right >= width);
    let end_p = min(bottom / STRIDE_H + 1u, P);
    let end_q = min(right / STRIDE_W + 1u, Q);
    var sum = 0.0;
    for (var p = first_p; p < end_p; p++) {
        for (var q = first_q; q < end_q; q++) {
            let window = plane + p * Q + q;
            if saved_given[window] == here {
                sum += dy[window];
            }
        }
    }
    dx[i] = stored(i, sum);
}
