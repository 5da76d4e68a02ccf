// Products in registers: each invocation has a block of BLOCK_ROWS × BLOCK_COLUMNS results.
//
// With SHARING, as many neighbouring lanes, which have the same rows, load one vector each of the left values of
// SHARE_DEPTH depths, and hand it round through registers: workgroup memory is read by one lane where all of them would.
// The lanes of a subgroup are in the order of the workgroup's invocations (the self-test holds that against the adapter),
// and all of them are here. Four are a quad, whatever the size of the subgroup; more are the first ones of a subgroup,
// which therefore must not be larger than the LANES_ACROSS with equal rows.

{% set QUADS_DOWN = BLOCK_ROWS // 4 %}
{% set SUM_ROWS = BLOCK_ROWS %}
{% set SUM_QUADS = BLOCK_COLUMNS // 4 %}
// One more than needed, so that neighbouring depths begin in different memory banks.
const LEFT_STRIDE: u32 = {{ LEFT_QUADS + 1 }}u;
const RIGHT_STRIDE: u32 = {{ RIGHT_QUADS + 1 }}u;

alias Kept = vec4<{{ "f16" if HALF else "f32" }}>;

var<workgroup> left_tile: array<Kept, {{ TILE_DEPTH * (LEFT_QUADS + 1) }}>;
var<workgroup> right_tile: array<Kept, {{ TILE_DEPTH * (RIGHT_QUADS + 1) }}>;

{% for side, SIDE in [("left", "LEFT"), ("right", "RIGHT")] %}
{% for order in ["along", "across"] %}
fn put_{{ side }}_{{ order }}(depth: u32, quad: u32, value: vec4<f32>) {
    {{ side }}_tile[depth * {{ SIDE }}_STRIDE + quad] = Kept(value);
}

{% endfor %}
{% endfor %}
// A block: columns 4q to 4q + 3 of row r lie at SUM_QUADS · r + q. Its quads of rows and of columns lie apart in the
// tile, so that neighbouring invocations read and write neighbouring quads.
alias Sums = array<vec4<f32>, {{ SUM_ROWS * SUM_QUADS }}>;

{% set SHARE_DEPTH = SHARING // QUADS_DOWN if SHARING else 1 %}
{% set broadcast = "quadBroadcast" if SHARING == 4 else "subgroupBroadcast" %}
fn multiply_tiles(sums: ptr<function, Sums>, lane: u32) {
    let down = lane / {{ LANES_ACROSS }}u;
    let across = lane % {{ LANES_ACROSS }}u;
    {% if SHARING %}
    let share = lane % {{ SHARING }}u;
    let share_at = share / {{ QUADS_DOWN }}u * LEFT_STRIDE + down + {{ LANES_DOWN }}u * (share % {{ QUADS_DOWN }}u);
    {% endif %}
    for (var depth = 0u; depth < TILE_DEPTH; depth += {{ SHARE_DEPTH }}u) {
        {% if SHARING %}
        let shared_left = vec4<f32>(left_tile[depth * LEFT_STRIDE + share_at]);
        {% endif %}
        {% for d in range(SHARE_DEPTH) %}
        {% for q in range(QUADS_DOWN) %}
        {% if SHARING %}
        let left_{{ d }}_{{ q }} = {{ broadcast }}(shared_left, {{ QUADS_DOWN * d + q }}u);
        {% else %}
        let left_{{ d }}_{{ q }} = vec4<f32>(left_tile[depth * LEFT_STRIDE + down + {{ LANES_DOWN * q }}u]);
        {% endif %}
        {% endfor %}
        {% for q in range(SUM_QUADS) %}
        let right_{{ d }}_{{ q }} = vec4<f32>(right_tile[(depth + {{ d }}u) * RIGHT_STRIDE + across + {{ LANES_ACROSS * q }}u]);
        {% endfor %}
        {% for r in range(SUM_ROWS) %}
        {% for q in range(SUM_QUADS) %}
        (*sums)[{{ SUM_QUADS * r + q }}] += left_{{ d }}_{{ r // 4 }}.{{ "xyzw"[r % 4] }} * right_{{ d }}_{{ q }};
        {% endfor %}
        {% endfor %}
        {% endfor %}
    }
}

// The row of an invocation's sums, and the first of a quad's columns.
fn row_of(place: Place, lane: u32, row: u32) -> u32 {
    return place.row + 4u * (lane / {{ LANES_ACROSS }}u + {{ LANES_DOWN }}u * (row / 4u)) + row % 4u;
}

fn column_of(place: Place, lane: u32, quad: u32) -> u32 {
    return place.column + 4u * (lane % {{ LANES_ACROSS }}u + {{ LANES_ACROSS }}u * quad);
}

{% macro declare_sums() %}
    var sums: Sums;
{% endmacro %}
{% macro multiply(left, right) %}
        multiply_tiles(&sums, lane);
{% endmacro %}
{% macro finish_sums() %}
{% endmacro %}
