// Products of whole matrices, MATRIX × MATRIX (16 or 8) at a time, by subgroups of 32: operands are rounded to f16 where
// HALF says so, sums are in f32. Each subgroup has BLOCK_ROWS × BLOCK_COLUMNS results of the tile.

{% set DOWN = BLOCK_ROWS // MATRIX %}
{% set ACROSS = BLOCK_COLUMNS // MATRIX %}
{# Results pass through workgroup memory 16 rows at a time, of which an invocation takes every STAGED_ROWSth. #}
{% set STACK = 16 // MATRIX %}
{% set STAGE = 16 * MATRIX %}
{% set ROW_QUADS = MATRIX // 4 %}
{% set STAGED_ROWS = 32 // ROW_QUADS %}
{% set STAGED_QUADS = 16 // STAGED_ROWS %}
{% set SUM_ROWS = BLOCK_ROWS // STAGED_ROWS %}
{% set SUM_QUADS = ACROSS %}
{% set SCALAR = "f16" if HALF else "f32" %}
{% set MATRICES = "coop_mat" ~ MATRIX ~ "x" ~ MATRIX %}
// Two more than needed: matrices are loaded from multiples of 16 bytes, and neighbouring depths begin in different
// memory banks.
const LEFT_STRIDE: u32 = {{ LEFT_QUADS + 2 }}u;
const RIGHT_STRIDE: u32 = {{ RIGHT_QUADS + 2 }}u;

// Scalars: not every driver counts the stride of a matrix in vectors alike.
var<workgroup> left_tile: array<{{ SCALAR }}, {{ 4 * TILE_DEPTH * (LEFT_QUADS + 2) }}>;
var<workgroup> right_tile: array<{{ SCALAR }}, {{ 4 * TILE_DEPTH * (RIGHT_QUADS + 2) }}>;
// Sixteen rows of matrices of each subgroup on their way to the invocations.
var<workgroup> stage: array<f32, {{ STAGE * LANES // 32 }}>;

{% for side in ["left", "right"] %}
fn put_{{ side }}(at: u32, value: vec4<f32>) {
    let kept = vec4<{{ SCALAR }}>(value);
    {% for i in range(4) %}
    {{ side }}_tile[4u * at + {{ i }}u] = kept.{{ "xyzw"[i] }};
    {% endfor %}
}

{% endfor %}
// Quad q of row r of an invocation's sums is at SUM_QUADS · r + q.
alias Sums = array<vec4<f32>, {{ SUM_ROWS * SUM_QUADS }}>;

fn row_of(place: Place, lane: u32, row: u32) -> u32 {
    let first = place.row + lane / 32u / {{ LANES_ACROSS }}u * {{ BLOCK_ROWS }}u;
    return first + row * {{ STAGED_ROWS }}u + lane % 32u / {{ ROW_QUADS }}u;
}

fn column_of(place: Place, lane: u32, quad: u32) -> u32 {
    let first = place.column + lane / 32u % {{ LANES_ACROSS }}u * {{ BLOCK_COLUMNS }}u;
    return first + quad * {{ MATRIX }}u + lane % {{ ROW_QUADS }}u * 4u;
}

// The quad that an invocation has of the rows from STAGED_ROWS · part on.
fn staged(lane: u32, part: u32) -> vec4<f32> {
    let at = lane / 32u * {{ STAGE }}u + part * 128u + lane % 32u * 4u;
    return vec4(stage[at], stage[at + 1u], stage[at + 2u], stage[at + 3u]);
}

{% macro declare_sums() %}
    let subgroup = lane / 32u;
    {% for i in range(DOWN) %}
    {% for j in range(ACROSS) %}
    var matrix_{{ i }}_{{ j }} = {{ MATRICES }}<f32, C>();
    {% endfor %}
    {% endfor %}
{% endmacro %}
{% macro multiply() %}
        for (var depth = 0u; depth < TILE_DEPTH; depth += {{ MATRIX }}u) {
            let left_at = 4u * depth * LEFT_STRIDE + subgroup / {{ LANES_ACROSS }}u * {{ BLOCK_ROWS }}u;
            let right_at = 4u * depth * RIGHT_STRIDE + subgroup % {{ LANES_ACROSS }}u * {{ BLOCK_COLUMNS }}u;
            {% for i in range(DOWN) %}
            let left_{{ i }} = coopLoad<{{ MATRICES }}<{{ SCALAR }}, A>>(&left_tile[left_at + {{ MATRIX * i }}u], 4u * LEFT_STRIDE);
            {% endfor %}
            {% for j in range(ACROSS) %}
            let right_{{ j }} = coopLoadT<{{ MATRICES }}<{{ SCALAR }}, B>>(&right_tile[right_at + {{ MATRIX * j }}u], 4u * RIGHT_STRIDE);
            {% endfor %}
            {% for i in range(DOWN) %}
            {% for j in range(ACROSS) %}
            matrix_{{ i }}_{{ j }} = coopMultiplyAdd(left_{{ i }}, right_{{ j }}, matrix_{{ i }}_{{ j }});
            {% endfor %}
            {% endfor %}
        }
{% endmacro %}
{% macro finish_sums() %}
    var sums: Sums;
    {% for i in range(DOWN // STACK) %}
    {% for j in range(ACROSS) %}
    workgroupBarrier();
    {% for s in range(STACK) %}
    coopStoreT(matrix_{{ STACK * i + s }}_{{ j }}, &stage[{{ STAGE }}u * subgroup + {{ MATRIX * MATRIX * s }}u], {{ MATRIX }}u);
    {% endfor %}
    workgroupBarrier();
    {% for part in range(STAGED_QUADS) %}
    sums[{{ SUM_QUADS * (STAGED_QUADS * i + part) + j }}] = staged(lane, {{ part }}u);
    {% endfor %}
    {% endfor %}
    {% endfor %}
{% endmacro %}
