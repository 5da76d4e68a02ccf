// As avg_pool2d.wgsl, for windows that neither overlap nor leave anything out, the whole plane among them: each element
// of x is in just one, and all divisors are the same. Rows of windows follow each other as rows of x do, plane after
// plane. Forward has an invocation for each window, backward_input for each four elements of a row.
//
// Definitions: R and S, the sides of a window; P and Q, the windows of a plane in both directions, with Q·S a multiple of 4.

{% set ROW_VECTORS = Q * S // 4 %}
{% set AREA = R * S %}

struct AvgPool2dParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: AvgPool2dParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> x_vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    if i >= params.elements {
        return;
    }
    let row = i / {{ Q }}u;
    let q = i % {{ Q }}u;
    {% if S % 4 == 0 %}
    let first = row * {{ R * ROW_VECTORS }}u + q * {{ S // 4 }}u;
    var sum = vec4(0.0);
    for (var r = 0u; r < {{ R }}u; r++) {
        // A sum of its own for each row: two short sums lose less than a long one.
        var row_sum = vec4(0.0);
        for (var s = 0u; s < {{ S // 4 }}u; s++) {
            row_sum += x_vectors[first + r * {{ ROW_VECTORS }}u + s];
        }
        sum += row_sum;
    }
    y[i] = (sum.x + sum.y + (sum.z + sum.w)) / {{ AREA }}.0;
    {% else %}
    let first = row * {{ R * Q * S }}u + q * {{ S }}u;
    var sum = 0.0;
    for (var r = 0u; r < {{ R }}u; r++) {
        var row_sum = 0.0;
        for (var s = 0u; s < {{ S }}u; s++) {
            row_sum += x[first + r * {{ Q * S }}u + s];
        }
        sum += row_sum;
    }
    y[i] = sum / {{ AREA }}.0;
    {% endif %}
}

@compute @workgroup_size(64)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    if 4u * i >= params.elements {
        return;
    }
    let windows = i / {{ ROW_VECTORS * R }}u * {{ Q }}u;
    {% if Q == 1 %}
    let gradient = vec4(dy[windows]);
    {% elif S % 4 == 0 %}
    let gradient = vec4(dy[windows + i % {{ ROW_VECTORS }}u / {{ S // 4 }}u]);
    {% else %}
    let q = windows + (4u * (i % {{ ROW_VECTORS }}u) + vec4(0u, 1u, 2u, 3u)) / vec4({{ S }}u);
    let gradient = vec4(dy[q.x], dy[q.y], dy[q.z], dy[q.w]);
    {% endif %}
    dx[i] = stored_vector(i, gradient / {{ AREA }}.0);
}
