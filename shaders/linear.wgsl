// y[n,o] = b[o] + Σ_i w[o,i] · x[n,i], and its gradients.

fn x_at(rows: Offsets, i: u32) -> Eight {
    return Eight(
        vec4(x[rows.low.x + i], x[rows.low.y + i], x[rows.low.z + i], x[rows.low.w + i]),
        vec4(x[rows.high.x + i], x[rows.high.y + i], x[rows.high.z + i], x[rows.high.w + i]),
    );
}

fn w_at(rows: Offsets, i: u32) -> Eight {
    return Eight(
        vec4(w[rows.low.x + i], w[rows.low.y + i], w[rows.low.z + i], w[rows.low.w + i]),
        vec4(w[rows.high.x + i], w[rows.high.y + i], w[rows.high.z + i], w[rows.high.w + i]),
    );
}

fn dy_at(rows: Offsets, i: u32) -> Eight {
    return Eight(
        vec4(dy[rows.low.x + i], dy[rows.low.y + i], dy[rows.low.z + i], dy[rows.low.w + i]),
        vec4(dy[rows.high.x + i], dy[rows.high.y + i], dy[rows.high.z + i], dy[rows.high.w + i]),
    );
}

fn bias_of(row: u32) -> f32 {
    if params.has_bias != 0u {
        return b[params.b_skip + row];
    }
    return 0.0;
}

fn put_y(n: u32, row: u32, value: f32) {
    let at = params.y_skip + n * params.outputs + params.first + row;
    y[at] = stored(at, value);
}

// Blocks of 8 samples × 8 outputs: the invocations of a workgroup share one and take turns at the inputs.
@compute @workgroup_size(lanes)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let samples = offsets(8u * group.y, params.samples - 1u, params.inputs, params.x_skip);
    let rows = offsets(8u * group.x, params.rows - 1u, params.inputs, params.w_skip);
    var block: Block;
    for (var i = lane; i < params.inputs; i += lanes) {
        multiply_add(&block, x_at(samples, i), w_at(rows, i));
    }
    share(&block, lane);
    for (var value = lane; value < 64u; value += lanes) {
        let n = 8u * group.y + value / 8u;
        let row = 8u * group.x + value % 8u;
        if n < params.samples && row < params.rows {
            put_y(n, row, block_sum(value) + bias_of(row));
        }
    }
}

// The first of the 8 inputs that a lane has as columns of its block; they lie 8 apart, so that 8 neighbouring lanes
// read 8 neighbouring elements.
fn first_column(group: u32, lane: u32) -> u32 {
    return 512u * group + 64u * (lane / 8u) + lane % 8u;
}

fn columns(first: u32) -> Offsets {
    let last = vec4(params.inputs - 1u);
    return Offsets(min(first + vec4(0u, 8u, 16u, 24u), last), min(first + vec4(32u, 40u, 48u, 56u), last));
}

// A choice, not a branch within a branch: this is there 64 times over, and every branch takes compilers time.
fn put_dx(at: u32, column: u32, value: f32) {
    if column < params.inputs {
        let result = stored(at + column, value);
        dx[at + column] = select(result, dx[at + column] + result, params.accumulate != 0u);
    }
}

fn put_dx_row(n: u32, slice: u32, column: u32, low: vec4<f32>, high: vec4<f32>) {
    if n < params.samples {
        let at = params.x_skip + (slice * params.samples + n) * params.inputs;
        put_dx(at, column, low.x);
        put_dx(at, column + 8u, low.y);
        put_dx(at, column + 16u, low.z);
        put_dx(at, column + 24u, low.w);
        put_dx(at, column + 32u, high.x);
        put_dx(at, column + 40u, high.y);
        put_dx(at, column + 48u, high.z);
        put_dx(at, column + 56u, high.w);
    }
}

// Blocks of 8 samples × 8 inputs, summed over a slice of the rows of w. Where there are several slices, `dx` is the
// scratch memory and `backward_input_sum` adds them up.
@compute @workgroup_size(64)
fn backward_input(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = first_column(group.x, lane);
    if column >= params.inputs {
        return;
    }
    let n = 8u * group.y;
    let samples = offsets(n, params.samples - 1u, params.outputs, params.y_skip + params.first);
    let inputs = columns(column);
    let end = min((group.z + 1u) * params.slice, params.rows);
    var block: Block;
    for (var row = group.z * params.slice; row < end; row++) {
        multiply_add(&block, dy_at(samples, row), w_at(inputs, params.w_skip + row * params.inputs));
    }
    put_dx_row(n, group.z, column, block[0], block[1]);
    put_dx_row(n + 1u, group.z, column, block[2], block[3]);
    put_dx_row(n + 2u, group.z, column, block[4], block[5]);
    put_dx_row(n + 3u, group.z, column, block[6], block[7]);
    put_dx_row(n + 4u, group.z, column, block[8], block[9]);
    put_dx_row(n + 5u, group.z, column, block[10], block[11]);
    put_dx_row(n + 6u, group.z, column, block[12], block[13]);
    put_dx_row(n + 7u, group.z, column, block[14], block[15]);
}

// The sum of the slices, always in the same order.
@compute @workgroup_size(256)
fn backward_input_sum(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let elements = params.samples * params.inputs;
    if i < elements {
        var sum = 0.0;
        for (var slice = 0u; slice < params.slices; slice++) {
            sum += partials[slice * elements + i];
        }
        put_dx(params.x_skip + i, 0u, sum);
    }
}

fn add_dw(at: u32, column: u32, value: f32) {
    if column < params.inputs {
        dw[at + column] += value;
    }
}

fn add_dw_row(row: u32, column: u32, low: vec4<f32>, high: vec4<f32>) {
    if row < params.rows {
        let at = params.w_skip + row * params.inputs;
        add_dw(at, column, low.x);
        add_dw(at, column + 8u, low.y);
        add_dw(at, column + 16u, low.z);
        add_dw(at, column + 24u, low.w);
        add_dw(at, column + 32u, high.x);
        add_dw(at, column + 40u, high.y);
        add_dw(at, column + 48u, high.z);
        add_dw(at, column + 56u, high.w);
    }
}

// Blocks of 8 outputs × 8 inputs, summed over all samples.
@compute @workgroup_size(64)
fn backward_weight(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let column = first_column(group.x, lane);
    if column >= params.inputs {
        return;
    }
    let row = 8u * group.y;
    let rows = offsets(row, params.rows - 1u, 1u, params.y_skip + params.first);
    let inputs = columns(column);
    var block: Block;
    for (var n = 0u; n < params.samples; n++) {
        multiply_add(&block, dy_at(rows, n * params.outputs), x_at(inputs, params.x_skip + n * params.inputs));
    }
    add_dw_row(row, column, block[0], block[1]);
    add_dw_row(row + 1u, column, block[2], block[3]);
    add_dw_row(row + 2u, column, block[4], block[5]);
    add_dw_row(row + 3u, column, block[6], block[7]);
    add_dw_row(row + 4u, column, block[8], block[9]);
    add_dw_row(row + 5u, column, block[10], block[11]);
    add_dw_row(row + 6u, column, block[12], block[13]);
    add_dw_row(row + 7u, column, block[14], block[15]);
}

@compute @workgroup_size(256)
fn backward_bias(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = flat_invocation(group, groups, lane, 256u);
    if row < params.rows {
        var sum = 0.0;
        for (var n = 0u; n < params.samples; n++) {
            sum += dy[params.y_skip + n * params.outputs + params.first + row];
        }
        db[params.b_skip + row] += sum;
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
    let n = i / params.rows;
    let row = i % params.rows;
    if n >= params.samples {
        return;
    }
    var sum = bias_of(row);
    for (var i = 0u; i < params.inputs; i++) {
        sum += x[params.x_skip + n * params.inputs + i] * w[params.w_skip + row * params.inputs + i];
    }
    put_y(n, row, sum);
}

@compute @workgroup_size(256)
fn backward_input_naive(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let n = i / params.inputs;
    let column = i % params.inputs;
    if n >= params.samples {
        return;
    }
    var sum = 0.0;
    for (var row = 0u; row < params.rows; row++) {
        let gradient = dy[params.y_skip + n * params.outputs + params.first + row];
        sum += gradient * w[params.w_skip + row * params.inputs + column];
    }
    put_dx(params.x_skip + n * params.inputs, column, sum);
}

@compute @workgroup_size(256)
fn backward_weight_naive(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let row = i / params.inputs;
    let column = i % params.inputs;
    if row >= params.rows {
        return;
    }
    var sum = 0.0;
    for (var n = 0u; n < params.samples; n++) {
        let gradient = dy[params.y_skip + n * params.outputs + params.first + row];
        sum += gradient * x[params.x_skip + n * params.inputs + column];
    }
    dw[params.w_skip + i] += sum;
}
