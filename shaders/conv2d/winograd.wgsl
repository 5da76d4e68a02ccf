// Convolution with filters of 3 × 3 by minimal filtering (Winograd 1980; Lavin and Gray 2016): OUT × OUT results of a
// channel come from TILE × TILE = (OUT + 2) × (OUT + 2) pixels, and with g the filter, d the pixels and ⊙ the product
// element by element
//
//   results = Aᵀ · ((G g Gᵀ) ⊙ (Bᵀ d B)) · A.
//
// Summed over channels, the products ⊙ are TILE² matrix products, one for each place in the tile, with
// (TILE / OUT)² multiply-adds a result in place of 9.
//
//   transform_filters   filters of `w` to G g Gᵀ, in the order in which `multiply` reads them
//   transform_source    the padded copy to Bᵀ d B: place × channel × quad of tiles
//   multiply            the matrix products: place × channel of the result × quad of tiles
//   forward,            Aᵀ · products · A, to where the results belong
//   backward_input
//
// A quad is four tiles that lie side by side, a vector with a component for each.
//
// Definitions: OUT, 2 or 4; ROWS × COLUMNS (multiples of 4) results of a matrix product that an invocation keeps, and
// DEPTH channels that it takes a turn; LANES, how many lanes share the loading of filters, 0 where each loads all.

{% set TILE = OUT + 2 %}
{# Vectors of neighbouring pixels that a row of a quad needs. #}
{% set VECTORS = (3 * OUT + TILE + 3) // 4 %}
{% set BLOCK = ROWS * DEPTH %}
{% set SHARE = LANES if LANES else 1 %}
{% set GROUP = LANES if LANES else 8 %}
{# Vectors of filters that a turn of `multiply` needs of each lane. #}
{% set SHARES = BLOCK // 4 // SHARE %}
{% set COMPONENTS = "xyzw" %}

@group(0) @binding(15) var<storage, read_write> filters: array<f32>;
@group(0) @binding(15) var<storage, read_write> transformed: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read_write> left: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read_write> right: array<vec4<f32>>;
@group(0) @binding(16) var<storage, read_write> products: array<vec4<f32>>;
@group(0) @binding(14) var<storage, read> finished: array<vec4<f32>>;

fn quads_across() -> u32 {
    return (params.grid_w + {{ 4 * OUT - 1 }}u) / {{ 4 * OUT }}u;
}

fn tiles_down() -> u32 {
    return (params.grid_h + {{ OUT - 1 }}u) / {{ OUT }}u;
}

fn quads() -> u32 {
    return params.samples * tiles_down() * quads_across();
}

// Blocks of rows, and of the depth.
fn row_blocks() -> u32 {
    return (params.result_count + {{ ROWS - 1 }}u) / {{ ROWS }}u;
}

fn depth_blocks() -> u32 {
    return (params.source_count + {{ DEPTH - 1 }}u) / {{ DEPTH }}u;
}

// Which quad of tiles an invocation is for.
struct Quad {
    sample: u32,
    // The first row and column of its results.
    row: u32,
    column: u32,
}

fn quad_at(i: u32) -> Quad {
    let across = quads_across();
    let down = tiles_down();
    let line = quotient(i, across);
    let sample = quotient(line, down);
    return Quad(sample, (line - sample * down) * {{ OUT }}u, (i - line * across) * {{ 4 * OUT }}u);
}

// A row or a column of a tile, and of its results.
{% for name, type, count in [("Line", "vec4<f32>", TILE), ("Results", "vec4<f32>", OUT), ("FilterLine", "f32", TILE)] %}
struct {{ name }} {
    {% for i in range(count) %}
    v{{ i }}: {{ type }},
    {% endfor %}
}

{% endfor %}
{% if OUT == 4 %}
// G · g, Bᵀ · d and Aᵀ · m of F(4, 3), with the points 0, ±1, ±2 and ∞.
fn filter_line(g0: f32, g1: f32, g2: f32) -> FilterLine {
    let ends = (g0 + g2) / -6.0;
    let middle = g1 / 6.0;
    let far = g0 / 24.0 + g2 / 6.0;
    return FilterLine(g0 / 4.0, ends - middle, ends + middle, far + g1 / 12.0, far - g1 / 12.0, g2);
}

fn source_line(d: Line) -> Line {
    let even = d.v4 - 4.0 * d.v2;
    let odd = d.v3 - 4.0 * d.v1;
    let near = d.v4 - d.v2;
    let far = 2.0 * (d.v3 - d.v1);
    return Line(
        4.0 * d.v0 - 5.0 * d.v2 + d.v4,
        even + odd,
        even - odd,
        near + far,
        near - far,
        4.0 * d.v1 - 5.0 * d.v3 + d.v5,
    );
}

fn result_line(m: Line) -> Results {
    let sum = m.v1 + m.v2;
    let difference = m.v1 - m.v2;
    let far_sum = m.v3 + m.v4;
    let far_difference = m.v3 - m.v4;
    return Results(
        m.v0 + sum + far_sum,
        difference + 2.0 * far_difference,
        sum + 4.0 * far_sum,
        difference + 8.0 * far_difference + m.v5,
    );
}
{% else %}
// G · g, Bᵀ · d and Aᵀ · m of F(2, 3), with the points 0, ±1 and ∞.
fn filter_line(g0: f32, g1: f32, g2: f32) -> FilterLine {
    let ends = 0.5 * (g0 + g2);
    return FilterLine(g0, ends + 0.5 * g1, ends - 0.5 * g1, g2);
}

fn source_line(d: Line) -> Line {
    return Line(d.v0 - d.v2, d.v1 + d.v2, d.v2 - d.v1, d.v1 - d.v3);
}

fn result_line(m: Line) -> Results {
    return Results(m.v0 + m.v1 + m.v2, m.v1 - m.v2 - m.v3);
}
{% endif %}

fn weight_at(at: u32, r: u32, s: u32) -> f32 {
    let row = params.tap_first_h + r * params.tap_step_h;
    let column = params.tap_first_w + s * params.tap_step_w;
    return w[at + row * params.w_row + column];
}

// An invocation for each filter of a channel of the source and one of the result: blocks of ROWS × DEPTH, the rows next
// to each other. Those beyond the last channel are zeros, whatever is multiplied with them.
@compute @workgroup_size(256)
fn transform_filters(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let count = row_blocks() * depth_blocks() * {{ BLOCK }}u;
    if i >= count {
        return;
    }
    let block = i / {{ BLOCK }}u;
    let row_block = block / depth_blocks();
    let k = row_block * {{ ROWS }}u + i % {{ ROWS }}u;
    let c = (block - row_block * depth_blocks()) * {{ DEPTH }}u + i / {{ ROWS }}u % {{ DEPTH }}u;
    let inside = k < params.result_count && c < params.source_count;
    let at = params.w_skip + select(0u, c * params.w_source + k * params.w_result, inside);
    {% for s in range(3) %}
    let down_{{ s }} = filter_line(weight_at(at, 0u, {{ s }}u), weight_at(at, 1u, {{ s }}u), weight_at(at, 2u, {{ s }}u));
    {% endfor %}
    {% for i in range(TILE) %}
    let line_{{ i }} = filter_line(down_0.v{{ i }}, down_1.v{{ i }}, down_2.v{{ i }});
    {% for j in range(TILE) %}
    filters[{{ TILE * i + j }}u * count + i] = select(0.0, line_{{ i }}.v{{ j }}, inside);
    {% endfor %}
    {% endfor %}
}

{% macro pixel(row, column) -%}
d_{{ row }}_{{ column // 4 }}.{{ COMPONENTS[column % 4] }}
{%- endmacro %}
@compute @workgroup_size(64)
fn transform_source(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    let count = quads();
    if i >= count {
        return;
    }
    let quad = quad_at(i);
    let line = params.padded_w / 4u;
    let plane = quad.sample * params.source_count + group.z;
    let at = (plane * params.padded_h + quad.row) * line + quad.column / 4u;
    {% for row in range(TILE) %}
    {% for v in range(VECTORS) %}
    let d_{{ row }}_{{ v }} = copied[at + {{ row }}u * line + {{ v }}u];
    {% endfor %}
    let across_{{ row }} = source_line(Line(
        {% for j in range(TILE) %}
        vec4({{ pixel(row, j) }}, {{ pixel(row, j + OUT) }}, {{ pixel(row, j + 2 * OUT) }}, {{ pixel(row, j + 3 * OUT) }}),
        {% endfor %}
    ));
    {% endfor %}
    let place = params.source_count * count;
    let to = group.z * count + i;
    {% for j in range(TILE) %}
    let down_{{ j }} = source_line(Line({% for row in range(TILE) %}across_{{ row }}.v{{ j }}{{ ", " if not loop.last }}{% endfor %}));
    {% for row in range(TILE) %}
    transformed[{{ TILE * row + j }}u * place + to] = down_{{ j }}.v{{ row }};
    {% endfor %}
    {% endfor %}
}

{# A filter's value at row r and depth d of the turn: it came with vector `index` of the turn's. #}
{% macro filter(r, d) -%}
{%- set index = d * (ROWS // 4) + r // 4 -%}
{%- if LANES -%}
subgroupBroadcast(left_{{ index // LANES }}.{{ COMPONENTS[r % 4] }}, {{ index % LANES }}u)
{%- else -%}
left_{{ index }}.{{ COMPONENTS[r % 4] }}
{%- endif -%}
{%- endmacro %}
// The lanes of a workgroup have neighbouring columns and the same rows and place in the tile.
@compute @workgroup_size({{ GROUP }})
fn multiply(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    {% if LANES %}
    @builtin(subgroup_invocation_id) lane: u32,
    {% endif %}
) {
    let place = group.z;
    let count = quads();
    let channels = params.source_count;
    let turns = depth_blocks();
    let column = (group.x * {{ GROUP }}u + invocation) * {{ COLUMNS // 4 }}u;
    // Columns beyond the last one repeat it; nobody reads their results.
    {% for c in range(COLUMNS // 4) %}
    let right_from_{{ c }} = place * channels * count + min(column + {{ c }}u, count - 1u);
    {% endfor %}
    var left_at = (place * row_blocks() + group.y) * turns * {{ BLOCK // 4 }}u{{ " + lane" if LANES }};
    {% for r in range(ROWS) %}{% for c in range(COLUMNS // 4) %}
    var sum_{{ r }}_{{ c }} = vec4(0.0);
    {% endfor %}{% endfor %}
    for (var channel = 0u; channel < channels; channel += {{ DEPTH }}u) {
        {% for j in range(SHARES) %}
        let left_{{ j }} = left[left_at + {{ j * SHARE }}u];
        {% endfor %}
        left_at += {{ BLOCK // 4 }}u;
        {% for d in range(DEPTH) %}
        let line_{{ d }} = {% if d %}min(channel + {{ d }}u, channels - 1u){% else %}channel{% endif %} * count;
        {% for c in range(COLUMNS // 4) %}
        let right_{{ d }}_{{ c }} = right[right_from_{{ c }} + line_{{ d }}];
        {% endfor %}
        {% endfor %}
        {% for r in range(ROWS) %}
        {% for d in range(DEPTH) %}
        let filter_{{ r }}_{{ d }} = {{ filter(r, d) }};
        {% endfor %}
        {% for c in range(COLUMNS // 4) %}
        sum_{{ r }}_{{ c }} = sum_{{ r }}_{{ c }}{% for d in range(DEPTH) %} + filter_{{ r }}_{{ d }} * right_{{ d }}_{{ c }}{% endfor %};
        {% endfor %}
        {% endfor %}
    }
    let first_row = group.y * {{ ROWS }}u;
    let to = (place * params.result_count + first_row) * count + column;
    {% for r in range(ROWS) %}
    if first_row + {{ r }}u < params.result_count {
        {% for c in range(COLUMNS // 4) %}
        if column + {{ c }}u < count {
            products[to + {{ r }}u * count + {{ c }}u] = sum_{{ r }}_{{ c }};
        }
        {% endfor %}
    }
    {% endfor %}
}

{# Result `column` of a row of a quad, which lies in one of its tiles. #}
{% macro result_at(row, column) -%}
down_{{ column % OUT }}.v{{ row }}.{{ COMPONENTS[column // OUT] }}
{%- endmacro %}
{# With a rectifier fused to it a text is for one pass. #}
{% for entry in ["forward", "backward_input"] if not (RECTIFY and entry == "backward_input" or MASK and entry == "forward") %}
@compute @workgroup_size(64)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    let count = quads();
    if i >= count {
        return;
    }
    let place = params.result_count * count;
    let from_channel = group.z * count + i;
    {% for row in range(TILE) %}
    let across_{{ row }} = result_line(Line(
        {% for j in range(TILE) %}
        finished[{{ TILE * row + j }}u * place + from_channel],
        {% endfor %}
    ));
    {% endfor %}
    {% for j in range(OUT) %}
    let down_{{ j }} = result_line(Line({% for row in range(TILE) %}across_{{ row }}.v{{ j }}{{ ", " if not loop.last }}{% endfor %}));
    {% endfor %}
    let bias = {{ "bias_at(group.z)" if entry == "forward" else "0.0" }};
    let quad = quad_at(i);
    let plane = quad.sample * params.result_channels + params.result_first + group.z;
    let left_over = params.grid_w - quad.column;
    {% for row in range(OUT) %}
    if quad.row + {{ row }}u < params.grid_h {
        let at = params.result_skip + (plane * params.result_h + quad.row + {{ row }}u) * params.result_w + quad.column;
        {% for p in range(0, 4 * OUT, 4) %}
        if left_over > {{ p }}u {
            put_vector(at + {{ p }}u, left_over - {{ p }}u, bias + vec4({{ result_at(row, p) }}, {{ result_at(row, p + 1) }}, {{ result_at(row, p + 2) }}, {{ result_at(row, p + 3) }}));
        }
        {% endfor %}
    }
    {% endfor %}
}

{% endfor %}
