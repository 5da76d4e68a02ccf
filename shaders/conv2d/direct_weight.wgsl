// The weights' gradient in registers, for adapters that compute on the host's cores; see direct.wgsl. An invocation keeps
// the gradients of TAPS_H × TAPS_W taps of one source channel for OUT_CHANNELS channels of the result, and adds up
// ROWS × COLUMNS positions at a time. With LANES, the lanes of a workgroup have neighbouring source channels and share
// the loading of dy, which is the same for all. Without, each has some samples of its own: so few channels fill them too.
//
// Definitions: those of direct.wgsl, and COPIED, whether dy is read from a padded copy.

{% set BLOCK_TAPS = TAPS_H * TAPS_W %}
{# Vectors of a row of dy, of one channel and of all; how many of them each lane loads. #}
{% set ROW_VECTORS = COLUMNS // 4 %}
{% set CHANNEL_VECTORS = ROWS * ROW_VECTORS %}
{% set SHARE = LANES if LANES else 1 %}
{% set SHARES = OUT_CHANNELS * CHANNEL_VECTORS // SHARE %}
{# Neighbouring pixels that the taps of a row of positions need, in vectors, and rows of them. #}
{% set VECTORS = ((COLUMNS - 1) * STRIDE_W + (TAPS_W - 1) * DILATION_W + 4) // 4 %}
{% set WINDOW = (ROWS - 1) * STRIDE_H + (TAPS_H - 1) * DILATION_H + 1 %}
{% set COMPONENTS = "xyzw" %}

{% if not COPIED %}
@group(0) @binding(16) var<storage, read> dy_vectors: array<vec4<f32>>;
{% endif %}
{% set DY = "padded_dy" if COPIED else "dy_vectors" %}

{% macro gradient(k, r, p) -%}
{%- set index = k * CHANNEL_VECTORS + r * ROW_VECTORS + p // 4 -%}
{%- if LANES -%}
subgroupBroadcast(dy_{{ index // LANES }}.{{ COMPONENTS[p % 4] }}, {{ index % LANES }}u)
{%- else -%}
dy_{{ index }}.{{ COMPONENTS[p % 4] }}
{%- endif -%}
{%- endmacro %}
{% macro pixel(row, column) -%}
x_{{ row }}_{{ column // 4 }}.{{ COMPONENTS[column % 4] }}
{%- endmacro %}
@compute @workgroup_size({{ LANES if LANES else 8 }})
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    {% if LANES %}
    @builtin(subgroup_invocation_id) lane: u32,
    {% else %}
    @builtin(local_invocation_index) lane: u32,
    {% endif %}
) {
    let channels = params.source_channels;
    let row_blocks = params.filter_h / {{ TAPS_H }}u;
    let place = quotient(group.x, row_blocks);
    let first_tap = (group.x - place * row_blocks) * {{ TAPS_H }}u;
    {% if LANES %}
    let channel = place * {{ LANES }}u + lane;
    let slice = group.z;
    {% else %}
    let channel = place;
    let slice = group.z * 8u + lane;
    {% endif %}
    let first_k = group.y * {{ OUT_CHANNELS }}u;
    let first_sample = min(slice * params.slice, params.samples);
    let samples = min(first_sample + params.slice, params.samples) - first_sample;

    let line = params.padded_w / 4u;
    let area = params.padded_h * line;
    {% for row in range(1, WINDOW) %}
    let line_{{ row }} = {{ row }}u * line;
    {% endfor %}
    let dy_line = params.result_w / 4u;
    let dy_area = params.result_h * dy_line;
    // Channels beyond the last one repeat it; nobody reads their results.
    var at = (first_sample * channels + min(channel, channels - 1u)) * area + first_tap * {{ DILATION_H }}u * line;
    var dy_at = params.result_skip / 4u + (first_sample * params.result_channels + params.result_first) * dy_area;
    {% for j in range(SHARES) %}
    {% if LANES %}
    let part_{{ j }} = {{ j * LANES }}u + lane;
    {% else %}
    let part_{{ j }} = {{ j }}u;
    {% endif %}
    let dy_from_{{ j }} = min(first_k + part_{{ j }} / {{ CHANNEL_VECTORS }}u, params.result_count - 1u) * dy_area
        + part_{{ j }} % {{ CHANNEL_VECTORS }}u / {{ ROW_VECTORS }}u * dy_line + part_{{ j }} % {{ ROW_VECTORS }}u;
    {% endfor %}

    // One loop over the tiles of all samples: a loop keeps the sums of lanes that have left it, which costs software
    // adapters a blend for each sum and turn.
    let tiles_across = params.grid_w;
    let tiles_down = params.grid_h;
    let next_row = {{ ROWS * STRIDE_H }}u * line - tiles_across * {{ COLUMNS * STRIDE_W // 4 }}u;
    let dy_next_row = {{ ROWS }}u * dy_line - tiles_across * {{ ROW_VECTORS }}u;
    let next_sample = channels * area - tiles_down * {{ ROWS * STRIDE_H }}u * line;
    let dy_next_sample = params.result_channels * dy_area - tiles_down * {{ ROWS }}u * dy_line;
    var across = tiles_across;
    var down = tiles_down;
    {% for k in range(OUT_CHANNELS) %}{% for tap in range(BLOCK_TAPS) %}
    var dw_{{ k }}_{{ tap }} = 0.0;
    {% endfor %}{% endfor %}
    for (var i = samples * tiles_down * tiles_across; i > 0u; i--) {
        {% for row in range(WINDOW) %}
        {% for v in range(VECTORS) %}
        let x_{{ row }}_{{ v }} = padded_x[at{% if row %} + line_{{ row }}{% endif %}{% if v %} + {{ v }}u{% endif %}];
        {% endfor %}
        {% endfor %}
        {% for j in range(SHARES) %}
        let dy_{{ j }} = {{ DY }}[dy_at + dy_from_{{ j }}];
        {% endfor %}
        {% for k in range(OUT_CHANNELS) %}
        {% for r in range(ROWS) %}{% for p in range(COLUMNS) %}
        let dy_{{ k }}_{{ r }}_{{ p }} = {{ gradient(k, r, p) }};
        {% endfor %}{% endfor %}
        {% for h in range(TAPS_H) %}{% for s in range(TAPS_W) %}
        dw_{{ k }}_{{ h * TAPS_W + s }} = dw_{{ k }}_{{ h * TAPS_W + s }}
            {%- for r in range(ROWS) %}{% for p in range(COLUMNS) %} + dy_{{ k }}_{{ r }}_{{ p }} * {{ pixel(r * STRIDE_H + h * DILATION_H, p * STRIDE_W + s * DILATION_W) }}{% endfor %}{% endfor %};
        {% endfor %}{% endfor %}
        {% endfor %}
        at += {{ COLUMNS * STRIDE_W // 4 }}u;
        dy_at += {{ ROW_VECTORS }}u;
        across -= 1u;
        if across == 0u {
            across = tiles_across;
            down -= 1u;
            at += next_row;
            dy_at += dy_next_row;
        }
        if down == 0u {
            down = tiles_down;
            at += next_sample;
            dy_at += dy_next_sample;
        }
    }
    if channel >= channels || slice >= params.slices {
        return;
    }
    let taps = params.filter_h * params.filter_w;
    {% for k in range(OUT_CHANNELS) %}
    if first_k + {{ k }}u < params.result_count {
        let filter_{{ k }} = (slice * params.result_count + first_k + {{ k }}u) * channels + channel;
        let to = filter_{{ k }} * taps + first_tap * {{ TAPS_W }}u;
        {% for tap in range(BLOCK_TAPS) %}
        scratch[to + {{ tap }}u] = dw_{{ k }}_{{ tap }};
        {% endfor %}
    }
    {% endfor %}
}
