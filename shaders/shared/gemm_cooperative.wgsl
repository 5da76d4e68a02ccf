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
{# As many as there are in 16 bytes. #}
{% set SPARE = 8 if HALF else 4 %}
// An operand lies in workgroup memory in the order in which neighbouring invocations have it: depth by depth where they
// have neighbouring lines at one depth ("across"), line by line where they have neighbouring depths ("along"). So what they
// store lies side by side too. Both strides are 16 bytes more than needed: matrices are loaded from multiples of 16 bytes,
// and their lines begin in different memory banks.
const LEFT_STRIDE: u32 = {{ TILE_ROWS + SPARE }}u;
const RIGHT_STRIDE: u32 = {{ TILE_COLUMNS + SPARE }}u;
const ALONG_STRIDE: u32 = {{ TILE_DEPTH + SPARE }}u;

{% macro room(lines) %}{{ [TILE_DEPTH * (lines + SPARE), lines * (TILE_DEPTH + SPARE)]|max }}{% endmacro %}
// Scalars: not every driver counts the stride of a matrix in vectors alike.
var<workgroup> left_tile: array<{{ SCALAR }}, {{ room(TILE_ROWS) }}>;
var<workgroup> right_tile: array<{{ SCALAR }}, {{ room(TILE_COLUMNS) }}>;
// Sixteen rows of matrices of each subgroup on their way to the invocations.
var<workgroup> stage: array<f32, {{ STAGE * LANES // 32 }}>;

{% for side, SIDE in [("left", "LEFT"), ("right", "RIGHT")] %}
fn put_{{ side }}_along(depth: u32, quad: u32, value: vec4<f32>) {
    let kept = vec4<{{ SCALAR }}>(value);
    {% for i in range(4) %}
    {{ side }}_tile[(4u * quad + {{ i }}u) * ALONG_STRIDE + depth] = kept.{{ "xyzw"[i] }};
    {% endfor %}
}

fn put_{{ side }}_across(depth: u32, quad: u32, value: vec4<f32>) {
    let kept = vec4<{{ SCALAR }}>(value);
    {% for i in range(4) %}
    {{ side }}_tile[depth * {{ SIDE }}_STRIDE + 4u * quad + {{ i }}u] = kept.{{ "xyzw"[i] }};
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
{# Without T rows of a matrix lie side by side, with T columns: the lines of left are its rows, those of right columns. #}
{% macro multiply(left, right) %}
        let first_row = subgroup / {{ LANES_ACROSS }}u * {{ BLOCK_ROWS }}u;
        let first_column = subgroup % {{ LANES_ACROSS }}u * {{ BLOCK_COLUMNS }}u;
        for (var depth = 0u; depth < TILE_DEPTH; depth += {{ MATRIX }}u) {
            {% for i in range(DOWN) %}
            {% if left == "along" %}
            let left_{{ i }} = coopLoadT<{{ MATRICES }}<{{ SCALAR }}, A>>(&left_tile[(first_row + {{ MATRIX * i }}u) * ALONG_STRIDE + depth], ALONG_STRIDE);
            {% else %}
            let left_{{ i }} = coopLoad<{{ MATRICES }}<{{ SCALAR }}, A>>(&left_tile[depth * LEFT_STRIDE + first_row + {{ MATRIX * i }}u], LEFT_STRIDE);
            {% endif %}
            {% endfor %}
            {% for j in range(ACROSS) %}
            {% if right == "along" %}
            let right_{{ j }} = coopLoad<{{ MATRICES }}<{{ SCALAR }}, B>>(&right_tile[(first_column + {{ MATRIX * j }}u) * ALONG_STRIDE + depth], ALONG_STRIDE);
            {% else %}
            let right_{{ j }} = coopLoadT<{{ MATRICES }}<{{ SCALAR }}, B>>(&right_tile[depth * RIGHT_STRIDE + first_column + {{ MATRIX * j }}u], RIGHT_STRIDE);
            {% endif %}
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
