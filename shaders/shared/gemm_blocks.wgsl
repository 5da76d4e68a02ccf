// Products in registers: each invocation has a block of BLOCK_ROWS × BLOCK_COLUMNS results.

{% set QUADS_DOWN = BLOCK_ROWS // 4 %}
{% set SUM_ROWS = BLOCK_ROWS %}
{% set SUM_QUADS = BLOCK_COLUMNS // 4 %}
// One more than needed, so that neighbouring depths begin in different memory banks.
const LEFT_STRIDE: u32 = {{ LEFT_QUADS + 1 }}u;
const RIGHT_STRIDE: u32 = {{ RIGHT_QUADS + 1 }}u;

alias Kept = vec4<{{ "f16" if HALF else "f32" }}>;

var<workgroup> left_tile: array<Kept, {{ TILE_DEPTH * (LEFT_QUADS + 1) }}>;
var<workgroup> right_tile: array<Kept, {{ TILE_DEPTH * (RIGHT_QUADS + 1) }}>;

fn put_left(at: u32, value: vec4<f32>) {
    left_tile[at] = Kept(value);
}

fn put_right(at: u32, value: vec4<f32>) {
    right_tile[at] = Kept(value);
}

// A block: columns 4q to 4q + 3 of row r lie at SUM_QUADS · r + q. Its quads of rows and of columns lie apart in the
// tile, so that neighbouring invocations read and write neighbouring quads.
alias Sums = array<vec4<f32>, {{ SUM_ROWS * SUM_QUADS }}>;

fn multiply_tiles(sums: ptr<function, Sums>, lane: u32) {
    let down = lane / {{ LANES_ACROSS }}u;
    let across = lane % {{ LANES_ACROSS }}u;
    for (var depth = 0u; depth < TILE_DEPTH; depth++) {
        {% for q in range(QUADS_DOWN) %}
        let left_{{ q }} = vec4<f32>(left_tile[depth * LEFT_STRIDE + down + {{ LANES_DOWN * q }}u]);
        {% endfor %}
        {% for q in range(SUM_QUADS) %}
        let right_{{ q }} = vec4<f32>(right_tile[depth * RIGHT_STRIDE + across + {{ LANES_ACROSS * q }}u]);
        {% endfor %}
        {% for r in range(SUM_ROWS) %}
        {% for q in range(SUM_QUADS) %}
        (*sums)[{{ SUM_QUADS * r + q }}] += left_{{ r // 4 }}.{{ "xyzw"[r % 4] }} * right_{{ q }};
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
{% macro multiply() %}
        multiply_tiles(&sums, lane);
{% endmacro %}
{% macro finish_sums() %}
{% endmacro %}
