// As max_pool2d.wgsl, for windows that neither overlap nor leave anything out: each element of x is in just one. One
// invocation takes 4 neighbouring windows, so that all that is read and written are whole vectors.
//
// Definitions: R and S, the sides of a window; P and Q, the windows of a plane in both directions, with Q a multiple of 4.

{% set W = Q * S %}
{% set ROW_VECTORS = W // 4 %}
{% set COMPONENTS = "xyzw" %}

struct MaxPool2dParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: MaxPool2dParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> dy: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> saved: array<vec4<u32>>;
@group(0) @binding(9) var<storage, read> saved_given: array<vec4<u32>>;

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    if 4u * i >= params.elements {
        return;
    }
    // Rows of windows follow each other as rows of x do, plane after plane.
    let row = i / {{ Q // 4 }}u;
    let vector = i % {{ Q // 4 }}u;
    let first = row % {{ P }}u * {{ R * W }}u + vector * {{ 4 * S }}u;
    {% for r in range(R) %}{% for v in range(S) %}
    let x_{{ r }}_{{ v }} = x[(row * {{ R }}u + {{ r }}u) * {{ ROW_VECTORS }}u + vector * {{ S }}u + {{ v }}u];
    {% endfor %}{% endfor %}
    var best = vec4({% for q in range(4) %}x_0_{{ q * S // 4 }}.{{ COMPONENTS[q * S % 4] }}{{ ", " if not loop.last }}{% endfor %});
    var place = first + vec4(0u, {{ S }}u, {{ 2 * S }}u, {{ 3 * S }}u);
    {% for r in range(R) %}{% for s in range(S) %}{% if r or s %}
    {
        let value = vec4({% for q in range(4) %}x_{{ r }}_{{ (q * S + s) // 4 }}.{{ COMPONENTS[(q * S + s) % 4] }}{{ ", " if not loop.last }}{% endfor %});
        let wins = (value > best) | are_nan(value);
        best = select(best, value, wins);
        place = select(place, first + vec4({% for q in range(4) %}{{ r * W + q * S + s }}u{{ ", " if not loop.last }}{% endfor %}), wins);
    }
    {% endif %}{% endfor %}{% endfor %}
    y[i] = best;
    saved[i] = place;
}

@compute @workgroup_size(64)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    if {{ 4 * R * S }}u * i >= params.elements {
        return;
    }
    let row = i / {{ Q // 4 }}u;
    let vector = i % {{ Q // 4 }}u;
    let first = row % {{ P }}u * {{ R * W }}u + vector * {{ 4 * S }}u;
    let place = saved_given[i] - first;
    let gradient = dy[i];
    {% for r in range(R) %}{% for v in range(S) %}
    let at_{{ r }}_{{ v }} = (row * {{ R }}u + {{ r }}u) * {{ ROW_VECTORS }}u + vector * {{ S }}u + {{ v }}u;
    dx[at_{{ r }}_{{ v }}] = stored_vector(at_{{ r }}_{{ v }}, vec4(
        {% for c in range(4) %}
        {% set q = COMPONENTS[(4 * v + c) // S] %}
        select(0.0, gradient.{{ q }}, place.{{ q }} == {{ r * W + 4 * v + c }}u),
        {% endfor %}
    ));
    {% endfor %}{% endfor %}
}
