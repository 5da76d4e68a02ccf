// Matrix products in tiles: result[row, column] = Σ over depth of left[row, depth] · right[depth, column].
//
// A workgroup computes a tile of the result. The operands pass through workgroup memory, TILE_DEPTH at a time: what an
// invocation loads are vec4s of neighbouring rows of left or neighbouring columns of right at one depth. While one step
// is multiplied, the next one's values are already on their way to registers.
//
// Whoever imports this declares `params` with rows, columns, depth, slice and slices, and loads the parts. How they are
// multiplied is in gemm_blocks.wgsl (each invocation a block in registers) or gemm_cooperative.wgsl (each subgroup
// matrices); both give
//   put_left_along …       a quad of lines at one depth, to workgroup memory
//   declare_sums, multiply the sums of products, and what adds a step's to them; it is told how the operands were kept
//   finish_sums            an invocation's `sums`: SUM_ROWS × SUM_QUADS vec4s of neighbouring columns
//   row_of, column_of      which these are

{% set LANES_DOWN = TILE_ROWS // BLOCK_ROWS %}
{% set LANES_ACROSS = TILE_COLUMNS // BLOCK_COLUMNS %}
{% set LANES = LANES_DOWN * LANES_ACROSS * (32 if COOPERATIVE else 1) %}
{% set LEFT_QUADS = TILE_ROWS // 4 %}
{% set RIGHT_QUADS = TILE_COLUMNS // 4 %}
{% set LEFT_PARTS = LEFT_QUADS * TILE_DEPTH // LANES %}
{% set RIGHT_PARTS = RIGHT_QUADS * TILE_DEPTH // LANES %}
const LANES: u32 = {{ LANES }}u;
const TILE_ROWS: u32 = {{ TILE_ROWS }}u;
const TILE_COLUMNS: u32 = {{ TILE_COLUMNS }}u;
const TILE_DEPTH: u32 = {{ TILE_DEPTH }}u;
const LEFT_QUADS: u32 = {{ LEFT_QUADS }}u;
const RIGHT_QUADS: u32 = {{ RIGHT_QUADS }}u;

// What one invocation loads of a step.
alias LeftParts = array<vec4<f32>, {{ LEFT_PARTS }}>;
alias RightParts = array<vec4<f32>, {{ RIGHT_PARTS }}>;

// Where a workgroup works: the first row and column of its tile, and its slice of the depth.
struct Place {
    row: u32,
    column: u32,
    slice: u32,
    begin: u32,
    end: u32,
}

// Tiles are counted down the rows first: workgroups that run at the same time read the same columns. A workgroup beyond
// the last tile has no columns and nothing to sum up; it goes on all the same, since barriers and cooperative matrices
// want no way out before them.
fn place_of(group: vec3<u32>, groups: vec3<u32>) -> Place {
    let tile = flat_workgroup(group, groups);
    let down = (params.rows + TILE_ROWS - 1u) / TILE_ROWS;
    let column = tile / down * TILE_COLUMNS;
    let begin = group.z * params.slice;
    let end = select(begin, min(begin + params.slice, params.depth), column < params.columns);
    return Place(tile % down * TILE_ROWS, column, group.z, begin, end);
}

{% for side, SIDE, parts in [("left", "LEFT", LEFT_PARTS), ("right", "RIGHT", RIGHT_PARTS)] %}
{% set Parts = "LeftParts" if side == "left" else "RightParts" %}
// Parts that were loaded with neighbouring invocations at neighbouring depths: an invocation has one depth and quads
// LANES / TILE_DEPTH apart.
fn keep_{{ side }}_along(parts: {{ Parts }}, lane: u32) {
    {% for part in range(parts) %}
    put_{{ side }}_along(lane % TILE_DEPTH, lane / TILE_DEPTH + {{ LANES // TILE_DEPTH * part }}u, parts[{{ part }}]);
    {% endfor %}
}

// Parts that were loaded with neighbouring invocations at neighbouring quads: an invocation has one quad and depths
// LANES / {{ SIDE }}_QUADS apart.
fn keep_{{ side }}_across(parts: {{ Parts }}, lane: u32) {
    {% for part in range(parts) %}
    put_{{ side }}_across(lane / {{ SIDE }}_QUADS + LANES / {{ SIDE }}_QUADS * {{ part }}u, lane % {{ SIDE }}_QUADS, parts[{{ part }}]);
    {% endfor %}
}

{% endfor %}
