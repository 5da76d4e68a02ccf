// Matrix products in tiles: result[row, column] = Σ over depth of left[row, depth] · right[depth, column].
//
// A workgroup computes a tile of the result and each of its invocations a block of that tile in registers. The
// operands pass through workgroup memory, TILE_DEPTH at a time, as vec4s of neighbouring rows of left or neighbouring
// columns of right at one depth. While one step is multiplied, the next one's values are already on their way to
// registers.
//
// Whoever imports this declares `params` with rows, columns, depth, slice and slices, and loads the parts.

{% set LANES_DOWN = TILE_ROWS // BLOCK_ROWS %}
{% set LANES_ACROSS = TILE_COLUMNS // BLOCK_COLUMNS %}
{% set LANES = LANES_DOWN * LANES_ACROSS %}
{% set LEFT_QUADS = TILE_ROWS // 4 %}
{% set RIGHT_QUADS = TILE_COLUMNS // 4 %}
{% set LEFT_PARTS = LEFT_QUADS * TILE_DEPTH // LANES %}
{% set RIGHT_PARTS = RIGHT_QUADS * TILE_DEPTH // LANES %}
{% set QUADS_DOWN = BLOCK_ROWS // 4 %}
{% set QUADS_ACROSS = BLOCK_COLUMNS // 4 %}
const LANES: u32 = {{ LANES }}u;
const TILE_ROWS: u32 = {{ TILE_ROWS }}u;
const TILE_COLUMNS: u32 = {{ TILE_COLUMNS }}u;
const TILE_DEPTH: u32 = {{ TILE_DEPTH }}u;
const LEFT_QUADS: u32 = {{ LEFT_QUADS }}u;
const RIGHT_QUADS: u32 = {{ RIGHT_QUADS }}u;
// One more than needed, so that neighbouring depths begin in different memory banks.
const LEFT_STRIDE: u32 = {{ LEFT_QUADS + 1 }}u;
const RIGHT_STRIDE: u32 = {{ RIGHT_QUADS + 1 }}u;

alias Kept = vec4<{{ "f16" if HALF else "f32" }}>;

var<workgroup> left_tile: array<Kept, {{ TILE_DEPTH * (LEFT_QUADS + 1) }}>;
var<workgroup> right_tile: array<Kept, {{ TILE_DEPTH * (RIGHT_QUADS + 1) }}>;

// What one invocation loads of a step.
alias LeftParts = array<vec4<f32>, {{ LEFT_PARTS }}>;
alias RightParts = array<vec4<f32>, {{ RIGHT_PARTS }}>;

// A block: columns 4q to 4q + 3 of row r lie at QUADS_ACROSS · r + q. Its quads of rows and of columns lie apart in the
// tile, so that neighbouring invocations read and write neighbouring quads.
alias Sums = array<vec4<f32>, {{ BLOCK_ROWS * QUADS_ACROSS }}>;

// Where a workgroup works: the first row and column of its tile, and its slice of the depth.
struct Place {
    inside: bool,
    row: u32,
    column: u32,
    slice: u32,
    begin: u32,
    end: u32,
}

// Tiles are counted down the rows first: workgroups that run at the same time read the same columns.
fn place_of(group: vec3<u32>, groups: vec3<u32>) -> Place {
    let tile = flat_workgroup(group, groups);
    let down = (params.rows + TILE_ROWS - 1u) / TILE_ROWS;
    let column = tile / down * TILE_COLUMNS;
    let begin = group.z * params.slice;
    let end = min(begin + params.slice, params.depth);
    return Place(column < params.columns, tile % down * TILE_ROWS, column, group.z, begin, end);
}

{% for side, SIDE, parts in [("left", "LEFT", LEFT_PARTS), ("right", "RIGHT", RIGHT_PARTS)] %}
{% set Parts = "LeftParts" if side == "left" else "RightParts" %}
// Parts that were loaded with neighbouring invocations at neighbouring depths: an invocation has one depth and quads
// LANES / TILE_DEPTH apart.
fn keep_{{ side }}_along(parts: {{ Parts }}, lane: u32) {
    let at = lane % TILE_DEPTH * {{ SIDE }}_STRIDE + lane / TILE_DEPTH;
    {% for part in range(parts) %}
    {{ side }}_tile[at + {{ LANES // TILE_DEPTH * part }}u] = Kept(parts[{{ part }}]);
    {% endfor %}
}

// Parts that were loaded with neighbouring invocations at neighbouring quads: an invocation has one quad and depths
// LANES / {{ SIDE }}_QUADS apart.
fn keep_{{ side }}_across(parts: {{ Parts }}, lane: u32) {
    let at = lane / {{ SIDE }}_QUADS * {{ SIDE }}_STRIDE + lane % {{ SIDE }}_QUADS;
    {% for part in range(parts) %}
    {{ side }}_tile[at + LANES / {{ SIDE }}_QUADS * {{ SIDE }}_STRIDE * {{ part }}u] = Kept(parts[{{ part }}]);
    {% endfor %}
}

{% endfor %}
fn multiply_tiles(sums: ptr<function, Sums>, lane: u32) {
    let down = lane / {{ LANES_ACROSS }}u;
    let across = lane % {{ LANES_ACROSS }}u;
    for (var depth = 0u; depth < TILE_DEPTH; depth++) {
        {% for q in range(QUADS_DOWN) %}
        let left_{{ q }} = vec4<f32>(left_tile[depth * LEFT_STRIDE + down + {{ LANES_DOWN * q }}u]);
        {% endfor %}
        {% for q in range(QUADS_ACROSS) %}
        let right_{{ q }} = vec4<f32>(right_tile[depth * RIGHT_STRIDE + across + {{ LANES_ACROSS * q }}u]);
        {% endfor %}
        {% for r in range(BLOCK_ROWS) %}
        {% for q in range(QUADS_ACROSS) %}
        (*sums)[{{ QUADS_ACROSS * r + q }}] += left_{{ r // 4 }}.{{ "xyzw"[r % 4] }} * right_{{ q }};
        {% endfor %}
        {% endfor %}
    }
}

// The rows of an invocation's block, 4 at a time, and its columns.
fn row_of(place: Place, lane: u32, quad: u32) -> u32 {
    return place.row + 4u * (lane / {{ LANES_ACROSS }}u + {{ LANES_DOWN }}u * quad);
}

fn column_of(place: Place, lane: u32, quad: u32) -> u32 {
    return place.column + 4u * (lane % {{ LANES_ACROSS }}u + {{ LANES_ACROSS }}u * quad);
}
