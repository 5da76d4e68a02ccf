// Products of whole matrices, 16 × 16 at a time, by subgroups of 32: operands are rounded to f16, sums are in f32. Each
// subgroup has BLOCK_ROWS × BLOCK_COLUMNS results of the tile.

{% set DOWN = BLOCK_ROWS // 16 %}
{% set ACROSS = BLOCK_COLUMNS // 16 %}
{% set SUM_ROWS = 2 * DOWN %}
{% set SUM_QUADS = ACROSS %}
// Two more than needed: matrices are loaded from multiples of 16 bytes, and neighbouring depths begin in different
// memory banks.
const LEFT_STRIDE: u32 = {{ LEFT_QUADS + 2 }}u;
const RIGHT_STRIDE: u32 = {{ RIGHT_QUADS + 2 }}u;

// Scalars: not every driver counts the stride of a matrix in vectors alike.
var<workgroup> left_tile: array<f16, {{ 4 * TILE_DEPTH * (LEFT_QUADS + 2) }}>;
var<workgroup> right_tile: array<f16, {{ 4 * TILE_DEPTH * (RIGHT_QUADS + 2) }}>;
// A matrix of each subgroup on its way to the invocations.
var<workgroup> stage: array<f32, {{ 256 * LANES // 32 }}>;

fn put_left(at: u32, value: vec4<f32>) {
    let half = vec4<f16>(value);
    left_tile[4u * at] = half.x;
    left_tile[4u * at + 1u] = half.y;
    left_tile[4u * at + 2u] = half.z;
    left_tile[4u * at + 3u] = half.w;
}

fn put_right(at: u32, value: vec4<f32>) {
    let half = vec4<f16>(value);
    right_tile[4u * at] = half.x;
    right_tile[4u * at + 1u] = half.y;
    right_tile[4u * at + 2u] = half.z;
    right_tile[4u * at + 3u] = half.w;
}

// Quad q of row r of an invocation's sums is at SUM_QUADS · r + q: a matrix is 16 rows of 4 quads, of which an
// invocation has one in the upper and one in the lower half.
alias Sums = array<vec4<f32>, {{ SUM_ROWS * SUM_QUADS }}>;

fn row_of(place: Place, lane: u32, row: u32) -> u32 {
    return place.row + lane / 32u / {{ LANES_ACROSS }}u * {{ BLOCK_ROWS }}u + row * 8u + lane % 32u / 4u;
}

fn column_of(place: Place, lane: u32, quad: u32) -> u32 {
    return place.column + lane / 32u % {{ LANES_ACROSS }}u * {{ BLOCK_COLUMNS }}u + quad * 16u + lane % 4u * 4u;
}

fn staged(lane: u32, half: u32) -> vec4<f32> {
    let at = lane / 32u * 256u + half * 128u + lane % 32u * 4u;
    return vec4(stage[at], stage[at + 1u], stage[at + 2u], stage[at + 3u]);
}

{% macro declare_sums() %}
    let subgroup = lane / 32u;
    {% for i in range(DOWN) %}
    {% for j in range(ACROSS) %}
    var matrix_{{ i }}_{{ j }} = coop_mat16x16<f32, C>();
    {% endfor %}
    {% endfor %}
{% endmacro %}
{% macro multiply() %}
        for (var depth = 0u; depth < TILE_DEPTH; depth += 16u) {
            let left_at = 4u * depth * LEFT_STRIDE + subgroup / {{ LANES_ACROSS }}u * {{ BLOCK_ROWS }}u;
            let right_at = 4u * depth * RIGHT_STRIDE + subgroup % {{ LANES_ACROSS }}u * {{ BLOCK_COLUMNS }}u;
            {% for i in range(DOWN) %}
            let left_{{ i }} = coopLoad<coop_mat16x16<f16, A>>(&left_tile[left_at + {{ 16 * i }}u], 4u * LEFT_STRIDE);
            {% endfor %}
            {% for j in range(ACROSS) %}
            let right_{{ j }} = coopLoadT<coop_mat16x16<f16, B>>(&right_tile[right_at + {{ 16 * j }}u], 4u * RIGHT_STRIDE);
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
    {% for i in range(DOWN) %}
    {% for j in range(ACROSS) %}
    workgroupBarrier();
    coopStoreT(matrix_{{ i }}_{{ j }}, &stage[256u * subgroup], 16u);
    workgroupBarrier();
    sums[{{ SUM_QUADS * 2 * i + j }}] = staged(lane, 0u);
    sums[{{ SUM_QUADS * (2 * i + 1) + j }}] = staged(lane, 1u);
    {% endfor %}
    {% endfor %}
{% endmacro %}
