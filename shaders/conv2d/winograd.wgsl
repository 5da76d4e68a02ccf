// Minimal filtering (see winograd_lines.wgsl) for adapters that compute on the host's cores:
//
//   transform_filters   filters of `w` to G g Gᵀ, in the order in which `multiply` reads them
//   transform_source    the padded copy to Bᵀ d B: place × channel × quad of tiles
//   multiply            the matrix products: place × channel of the result × quad of tiles
//   forward,            Aᵀ · products · A, to where the results belong
//   backward_input
//
// A quad is four tiles that lie side by side, a vector with a component for each.
//
// Definitions: OUT, 2 or 4; ABREAST, 4; ROWS × COLUMNS (multiples of 4) results of a matrix product that an invocation
// keeps, and DEPTH channels that it takes a turn; LANES, how many lanes share the loading of filters, 0 where each
// loads all.

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
    {{- transform_filter() }}
    {% for i in range(TILE) %}
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
