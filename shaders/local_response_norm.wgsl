// base = k + alpha/size · Σ x² over the window of channels around each; y = x · base^-beta;
// dx = dy · base^-beta - 2 · alpha/size · beta · x · Σ dy · x · base^(-beta-1) over the channels whose window it is in.
// Each window is summed afresh: a running sum would lose what it subtracts. One invocation for each element.

override C: u32;
override PLANE: u32;
// Channels of the window before and after its own.
override BEFORE: u32;
override AFTER: u32;
// alpha / size.
override ALPHA: f32;
override BETA: f32;
override K: f32;

struct LocalResponseNormParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: LocalResponseNormParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;
@group(0) @binding(14) var<storage, read_write> base: array<f32>;
@group(0) @binding(14) var<storage, read> base_given: array<f32>;

// base^-beta. Roots are more exact than logarithms, and cheaper on a CPU.
fn power(base: f32) -> f32 {
    if BETA == 0.75 {
        let root = sqrt(base);
        return 1.0 / (root * sqrt(root));
    }
    if BETA == 0.5 {
        return 1.0 / sqrt(base);
    }
    if BETA == 1.0 {
        return 1.0 / base;
    }
    return exp2(-BETA * log2(base));
}

// k + alpha/size · Σ x² over the window of element i.
fn base_of(i: u32) -> f32 {
    let c = (i / PLANE) % C;
    let first = c - min(c, BEFORE);
    let end = min(c + AFTER + 1u, C);
    var at = i - (c - first) * PLANE;
    var sum = 0.0;
    for (var j = first; j < end; j++) {
        let value = x[at];
        sum += value * value;
        at += PLANE;
    }
    return K + ALPHA * sum;
}

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    if i < params.elements {
        y[i] = x[i] * power(base_of(i));
    }
}

// What backward_input reads of all channels around each.
@compute @workgroup_size(256)
fn bases(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    if i < params.elements {
        base[i] = base_of(i);
    }
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
    let c = (i / PLANE) % C;
    let first = c - min(c, AFTER);
    let end = min(c + BEFORE + 1u, C);
    var at = i - (c - first) * PLANE;
    var sum = 0.0;
    for (var j = first; j < end; j++) {
        sum += dy[at] * x[at] * power(base_given[at]) / base_given[at];
        at += PLANE;
    }
    let gradient = dy[i] * power(base_given[i]) - 2.0 * ALPHA * BETA * x[i] * sum;
    {% if MASK %}
    // Of the rectifier before, whose output is x: `stored` would bind it twice.
    dx[i] = select(0.0, gradient, x[i] > 0.0 || is_nan(x[i]));
    {% else %}
    dx[i] = gradient;
    {% endif %}
}
