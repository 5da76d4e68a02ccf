// y = the mean of each window; dx = the sum of dy / divisor over the windows that cover an element. A window is cut
// where the padded input ends; its padding counts or not (COUNT_PADDING). One invocation for each element that is
// written. Positions are those of the padded plane until an element is read.

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
override COUNT_PADDING: u32;

struct AvgPool2dParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: AvgPool2dParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;

// The part of a window of `kernel` from `start` that lies in an input of `side`: from x until before y. z counts
// towards the divisor.
fn span(start: u32, kernel: u32, side: u32, padding: u32) -> vec3<u32> {
    let first = max(start, padding);
    let end = min(start + kernel, side + padding);
    let cut = min(start + kernel, side + 2u * padding);
    return vec3<u32>(first, end, select(end - first, cut - start, COUNT_PADDING != 0u));
}

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
    let rows = span(p * STRIDE_H, R, H, PADDING_H);
    let columns = span(q * STRIDE_W, S, W, PADDING_W);
    var sum = 0.0;
    for (var h = rows.x; h < rows.y; h++) {
        // A sum of its own for each row: two short sums lose less than a long one.
        var row_sum = 0.0;
        let start = plane + (h - PADDING_H) * W;
        for (var w = columns.x; w < columns.y; w++) {
            row_sum += x[start + w - PADDING_W];
        }
        sum += row_sum;
    }
    y[i] = sum / (f32(rows.z) * f32(columns.z));
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
    let bottom = h + PADDING_H;
    let right = w + PADDING_W;
    let first_p = select(0u, (bottom - R) / STRIDE_H + 1u, bottom >= R);
    let first_q = select(0u, (right - S) / STRIDE_W + 1u, right >= S);
    let end_p = min(bottom / STRIDE_H + 1u, P);
    let end_q = min(right / STRIDE_W + 1u, Q);
    var sum = 0.0;
    for (var p = first_p; p < end_p; p++) {
        let rows = f32(span(p * STRIDE_H, R, H, PADDING_H).z);
        for (var q = first_q; q < end_q; q++) {
            let columns = f32(span(q * STRIDE_W, S, W, PADDING_W).z);
            sum += dy[plane + p * Q + q] / (rows * columns);
        }
    }
    dx[i] = stored(i, sum);
}
