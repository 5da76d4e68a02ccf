// The three products of a linear layer in tiles:
//   forward          y[n,o]  = b[o] + Σ_i x[n,i] · w[o,i]
//   backward_input   dx[n,i] = Σ_o dy[n,o] · w[o,i]
//   backward_weight  dw[o,i] += Σ_n dy[n,o] · x[n,i]
// They differ in what left and right are, and in which of their sides lies side by side in memory.

struct LinearTilesParams {
    rows: u32,
    columns: u32,
    depth: u32,
    // Elements of the depth that a slice sums up, and the number of slices.
    slice: u32,
    slices: u32,
    // Elements before the first one that is meant, and between neighbours.
    left_skip: u32,
    left_row: u32,
    left_depth: u32,
    right_skip: u32,
    right_column: u32,
    right_depth: u32,
    result_skip: u32,
    result_row: u32,
    b_skip: u32,
    has_bias: u32,
}

// Whether results are added to what is there.
override accumulate: bool = false;

@group(0) @binding(0) var<uniform> params: LinearTilesParams;
@group(0) @binding(1) var<storage, read> left: array<f32>;
@group(0) @binding(2) var<storage, read> right: array<f32>;
@group(0) @binding(2) var<storage, read> right_in_quads: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> result: array<f32>;
@group(0) @binding(14) var<storage, read> partials: array<f32>;

{% for side, SIDE, line, parts in [("left", "LEFT", "row", LEFT_PARTS), ("right", "RIGHT", "column", RIGHT_PARTS)] %}
{% set Parts = "LeftParts" if side == "left" else "RightParts" %}
// Four neighbouring {{ line }}s at one depth. Those beyond the last repeat it; nobody reads their results.
fn {{ side }}_quad({{ line }}: u32, depth: u32) -> vec4<f32> {
    let lines = min({{ line }} + vec4(0u, 1u, 2u, 3u), vec4(params.{{ line }}s - 1u));
    let at = params.{{ side }}_skip + depth * params.{{ side }}_depth + lines * params.{{ side }}_{{ line }};
    return vec4({{ side }}[at.x], {{ side }}[at.y], {{ side }}[at.z], {{ side }}[at.w]);
}

// What an invocation loads where the depth lies side by side in memory.
fn {{ side }}_along(place: Place, first: u32, lane: u32) -> {{ Parts }} {
    let depth = first + lane % TILE_DEPTH;
    let {{ line }} = place.{{ line }} + lane / TILE_DEPTH * 4u;
    var parts: {{ Parts }};
    if depth < place.end {
        {% for part in range(parts) %}
        parts[{{ part }}] = {{ side }}_quad({{ line }} + {{ 4 * LANES // TILE_DEPTH * part }}u, depth);
        {% endfor %}
    }
    return parts;
}

// What an invocation loads where the {{ line }}s lie side by side.
fn {{ side }}_across(place: Place, first: u32, lane: u32) -> {{ Parts }} {
    let {{ line }} = place.{{ line }} + lane % {{ SIDE }}_QUADS * 4u;
    var parts: {{ Parts }};
    {% for part in range(parts) %}
    let depth_{{ part }} = first + lane / {{ SIDE }}_QUADS + LANES / {{ SIDE }}_QUADS * {{ part }}u;
    if depth_{{ part }} < place.end {
        parts[{{ part }}] = {{ side }}_quad({{ line }}, depth_{{ part }});
    }
    {% endfor %}
    return parts;
}

{% endfor %}
// As `right_across`, where every quad of columns starts at a multiple of four.
fn right_aligned(place: Place, first: u32, lane: u32) -> RightParts {
    let column = min(place.column + lane % RIGHT_QUADS * 4u, params.columns - 4u);
    var parts: RightParts;
    {% for part in range(RIGHT_PARTS) %}
    let depth_{{ part }} = first + lane / RIGHT_QUADS + LANES / RIGHT_QUADS * {{ part }}u;
    if depth_{{ part }} < place.end {
        parts[{{ part }}] = right_in_quads[(params.right_skip + depth_{{ part }} * params.right_depth + column) / 4u];
    }
    {% endfor %}
    return parts;
}

fn put(at: u32, column: u32, value: f32) {
    if column < params.columns {
        if accumulate {
            result[at + column] += stored(at + column, value);
        } else {
            result[at + column] = stored(at + column, value);
        }
    }
}

// Slices put their sums one after another into scratch memory.
fn put_sums(sums: ptr<function, Sums>, place: Place, lane: u32) {
    {% for q in range(SUM_QUADS) %}
    let column_{{ q }} = column_of(place, lane, {{ q }}u);
    {% endfor %}
    {% for r in range(SUM_ROWS) %}
    let row_{{ r }} = row_of(place, lane, {{ r }}u);
    if row_{{ r }} < params.rows {
        let at = params.result_skip + (place.slice * params.rows + row_{{ r }}) * params.result_row;
        {% for q in range(SUM_QUADS) %}
        {% for i in range(4) %}
        put(at, column_{{ q }} + {{ i }}u, (*sums)[{{ SUM_QUADS * r + q }}].{{ "xyzw"[i] }});
        {% endfor %}
        {% endfor %}
    }
    {% endfor %}
}

fn bias_of(column: u32) -> f32 {
    if params.has_bias != 0u {
        return b[params.b_skip + min(column, params.columns - 1u)];
    }
    return 0.0;
}

fn add_bias(sums: ptr<function, Sums>, place: Place, lane: u32) {
    {% for q in range(SUM_QUADS) %}
    let column_{{ q }} = column_of(place, lane, {{ q }}u);
    let bias_{{ q }} = vec4(bias_of(column_{{ q }}), bias_of(column_{{ q }} + 1u), bias_of(column_{{ q }} + 2u), bias_of(column_{{ q }} + 3u));
    {% for r in range(SUM_ROWS) %}
    (*sums)[{{ SUM_QUADS * r + q }}] += bias_{{ q }};
    {% endfor %}
    {% endfor %}
}

{% for entry, left, right in [
    ("forward", "along", "along"),
    ("backward_input", "along", "across"),
    ("backward_input_aligned", "along", "aligned"),
    ("backward_weight", "across", "across"),
    ("backward_weight_aligned", "across", "aligned"),
] %}
@compute @workgroup_size(LANES)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let place = place_of(group, groups);
    {{- declare_sums() }}
    var left_parts = left_{{ left }}(place, place.begin, lane);
    var right_parts = right_{{ right }}(place, place.begin, lane);
    for (var first = place.begin; first < place.end; first += TILE_DEPTH) {
        workgroupBarrier();
        keep_left_{{ left }}(left_parts, lane);
        keep_right_{{ "across" if right == "aligned" else right }}(right_parts, lane);
        workgroupBarrier();
        left_parts = left_{{ left }}(place, first + TILE_DEPTH, lane);
        right_parts = right_{{ right }}(place, first + TILE_DEPTH, lane);
        {{- multiply(left, right) }}
    }
    {{- finish_sums() }}
    {% if entry == "forward" %}
    add_bias(&sums, place, lane);
    {% endif %}
    put_sums(&sums, place, lane);
}

{% endfor %}
// The sum of the slices, always in the same order.
fn sum_of_slices(i: u32) -> f32 {
    let elements = params.rows * params.columns;
    var sum = 0.0;
    for (var slice = 0u; slice < params.slices; slice++) {
        sum += partials[slice * elements + i];
    }
    return sum;
}

{% for entry in ["forward_sum", "gradient_sum"] %}
@compute @workgroup_size(256)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    if i < params.rows * params.columns {
        let column = i % params.columns;
        let at = params.result_skip + i / params.columns * params.result_row;
        {% if entry == "forward_sum" %}
        put(at, column, sum_of_slices(i) + bias_of(column));
        {% else %}
        put(at, column, sum_of_slices(i));
        {% endif %}
    }
}

{% endfor %}
