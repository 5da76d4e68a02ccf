// Minimal filtering (see winograd_lines.wgsl) for adapters that compute on the host's cores:
//
//   transform_filters   filters of `w` to G g Gᵀ, in the order in which `multiply` reads them
//   transform_source    pixels to Bᵀ d B
//   multiply            the matrix products
//   forward,            Aᵀ · products · A, to where the results belong
//   backward_input
//
// A quad is four tiles that lie side by side, a vector with a component for each. What is transformed and multiplied lies
// in planes, one for each place in a tile; in a plane, WIDTH quads of a channel lie next to each other, then come those of
// the next channel, then the next WIDTH quads. Planes are SKEW vectors further apart than they need be: else all 36
// that a quad writes would fall into the same few lines of the caches.
//
// No invocation leaves early or branches around its loads and stores: where control flow has split, software adapters ask
// each lane at each access whether it still takes part.
//
// Definitions: OUT, 4, and ABREAST, 4; ROWS × COLUMNS (multiples of 4) results of a matrix product that an invocation keeps,
// and DEPTH channels that it takes a turn; LANES, how many lanes share the loading of filters, 0 where each loads all;
// COPIED, whether pixels come from a padded copy, else SHIFT, how many pixels of its first vector a quad leaves out; WHOLE,
// whether quads fill the grid; ALIGNED, ACCUMULATE and STEP_W, see put.wgsl.

{% set FIRST = 0 if COPIED else SHIFT %}
{# Vectors of neighbouring pixels that a row of a quad needs. #}
{% set VECTORS = (FIRST + 3 * OUT + TILE + 3) // 4 %}
{% set BLOCK = ROWS * DEPTH %}
{% set SHARE = LANES if LANES else 1 %}
{% set GROUP = LANES if LANES else 8 %}
{% set WIDTH = GROUP * COLUMNS // 4 %}
{% set SKEW = 8 %}
{# Vectors of filters that a turn of `multiply` needs of each lane. #}
{% set SHARES = BLOCK // 4 // SHARE %}
{% set COMPONENTS = "xyzw" %}

@group(0) @binding(1) var<storage, read> source_vectors: array<vec4<f32>>;
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

// Vectors of a plane with so many channels.
fn plane_size(channels: u32) -> u32 {
    return (quads() + {{ WIDTH - 1 }}u) / {{ WIDTH }}u * channels * {{ WIDTH }}u + {{ SKEW }}u;
}

// Where in its plane the quad of a channel lies.
fn place_of(quad: u32, channel: u32, channels: u32) -> u32 {
    return (quad / {{ WIDTH }}u * channels + channel) * {{ WIDTH }}u + quad % {{ WIDTH }}u;
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
    // Beyond the last quad this is the last one again, and not inside.
    inside: bool,
    sample: u32,
    // The first row and column of its results.
    row: u32,
    column: u32,
}

fn quad_at(any: u32) -> Quad {
    let i = min(any, quads() - 1u);
    let across = quads_across();
    let down = tiles_down();
    let line = quotient(i, across);
    let sample = quotient(line, down);
    return Quad(any < quads(), sample, (line - sample * down) * {{ OUT }}u, (i - line * across) * {{ 4 * OUT }}u);
}

{% if COPIED %}
// A vector of a row of the padded copy, for a quad's plane.
fn vector_at(quad: Quad, plane: u32, row: u32, vector: u32) -> vec4<f32> {
    let line = params.padded_w / 4u;
    let at = (plane * params.padded_h + quad.row + row) * line + quad.column / 4u + vector;
    return select(vec4(0.0), copied[at], quad.inside);
}

fn plane_of(quad: Quad, channel: u32) -> u32 {
    return quad.sample * params.source_count + channel;
}
{% else %}
// A vector of a row of the picture itself; beyond its edges are zeros. An index below 0 wraps and is beyond any side.
fn vector_at(quad: Quad, plane: u32, row: u32, vector: u32) -> vec4<f32> {
    let line = params.source_w / 4u;
    let y = quad.row + row - params.padding_h;
    let x = quad.column / 4u + vector - params.origin_w;
    let inside = quad.inside & (y < params.source_h) & (x < line);
    let at = params.source_skip / 4u + (plane * params.source_h + y) * line + x;
    return select(vec4(0.0), source_vectors[select(0u, at, inside)], inside);
}

fn plane_of(quad: Quad, channel: u32) -> u32 {
    return quad.sample * params.source_channels + params.source_first + channel;
}
{% endif %}

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
d_{{ row }}_{{ (column + FIRST) // 4 }}.{{ COMPONENTS[(column + FIRST) % 4] }}
{%- endmacro %}
@compute @workgroup_size({{ GROUP }})
fn transform_source(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * {{ GROUP }}u + lane;
    let quad = quad_at(i);
    let plane = plane_of(quad, group.z);
    {% for row in range(TILE) %}
    {% for v in range(VECTORS) %}
    let d_{{ row }}_{{ v }} = vector_at(quad, plane, {{ row }}u, {{ v }}u);
    {% endfor %}
    let across_{{ row }} = source_line(Line(
        {% for j in range(TILE) %}
        vec4({{ pixel(row, j) }}, {{ pixel(row, j + OUT) }}, {{ pixel(row, j + 2 * OUT) }}, {{ pixel(row, j + 3 * OUT) }}),
        {% endfor %}
    ));
    {% endfor %}
    let next = plane_size(params.source_count);
    let to = place_of(i, group.z, params.source_count);
    {% for j in range(TILE) %}
    let down_{{ j }} = source_line(Line({% for row in range(TILE) %}across_{{ row }}.v{{ j }}{{ ", " if not loop.last }}{% endfor %}));
    {% for row in range(TILE) %}
    transformed[{{ TILE * row + j }}u * next + to] = down_{{ j }}.v{{ row }};
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
    let channels = params.source_count;
    let turns = depth_blocks();
    let column = invocation * {{ COLUMNS // 4 }}u;
    var right_at = place * plane_size(channels) + group.x * channels * {{ WIDTH }}u + column;
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
        {# Channels beyond the last one meet filters of zeros. #}
        let line_{{ d }} = right_at{% if d %} + min({{ d }}u, channels - 1u - channel) * {{ WIDTH }}u{% endif %};
        {% for c in range(COLUMNS // 4) %}
        let right_{{ d }}_{{ c }} = right[line_{{ d }} + {{ c }}u];
        {% endfor %}
        {% endfor %}
        right_at += {{ DEPTH * WIDTH }}u;
        {% for r in range(ROWS) %}
        {% for d in range(DEPTH) %}
        let filter_{{ r }}_{{ d }} = {{ filter(r, d) }};
        {% endfor %}
        {% for c in range(COLUMNS // 4) %}
        sum_{{ r }}_{{ c }} = sum_{{ r }}_{{ c }}{% for d in range(DEPTH) %} + filter_{{ r }}_{{ d }} * right_{{ d }}_{{ c }}{% endfor %};
        {% endfor %}
        {% endfor %}
    }
    let rows = row_blocks() * {{ ROWS }}u;
    let to = place * plane_size(rows) + (group.x * rows + group.y * {{ ROWS }}u) * {{ WIDTH }}u + column;
    {% for r in range(ROWS) %}{% for c in range(COLUMNS // 4) %}
    products[to + {{ r * WIDTH + c }}u] = sum_{{ r }}_{{ c }};
    {% endfor %}{% endfor %}
}

{# Result `column` of a row of a quad, which lies in one of its tiles. #}
{% macro result_at(row, column) -%}
down_{{ column % OUT }}.v{{ row }}.{{ COMPONENTS[column // OUT] }}
{%- endmacro %}
{% macro put(row, p) -%}
put_vector(at + {{ p }}u, left_over - {{ p }}u, bias + vec4({{ result_at(row, p) }}, {{ result_at(row, p + 1) }}, {{ result_at(row, p + 2) }}, {{ result_at(row, p + 3) }}));
{%- endmacro %}
{# With a rectifier fused to it a text is for one pass. #}
{% for entry in ["forward", "backward_input"] if not (RECTIFY and entry == "backward_input" or MASK and entry == "forward") %}
@compute @workgroup_size({{ GROUP }})
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = group.x * {{ GROUP }}u + lane;
    let rows = row_blocks() * {{ ROWS }}u;
    let next = plane_size(rows);
    let from_channel = place_of(i, group.z, rows);
    {% for row in range(TILE) %}
    let across_{{ row }} = result_line(Line(
        {% for j in range(TILE) %}
        finished[{{ TILE * row + j }}u * next + from_channel],
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
    {
        let at = params.result_skip + (plane * params.result_h + quad.row + {{ row }}u) * params.result_w + quad.column;
        {% for p in range(0, 4 * OUT, 4) %}
        {% if WHOLE %}
        {{ put(row, p) }}
        {% else %}
        if quad.inside & (quad.row + {{ row }}u < params.grid_h) & (left_over > {{ p }}u) {
            {{ put(row, p) }}
        }
        {% endif %}
        {% endfor %}
    }
    {% endfor %}
}

{% endfor %}
