// Direct convolution in registers, for adapters that compute on the host's cores. There every load is a load for each
// lane, however the addresses lie, and arithmetic is cheap: so an invocation keeps OUT_CHANNELS × ROWS × COLUMNS
// results, uses each pixel that it loads for all of them, and LANES lanes share the loading of the weights, which are
// the same for all.
//
// Definitions: OUT_CHANNELS, ROWS, COLUMNS (a multiple of 4) as above; TAPS_H rows and TAPS_W columns of the filter at
// once; STRIDE_H, STRIDE_W, DILATION_H, DILATION_W; LANES, 0 where each lane loads all weights itself; ROW_LOOP, whether
// the filter has more rows than TAPS_H; ALIGNED, ACCUMULATE and STEP_W, see put.wgsl.

{% set BLOCK_TAPS = TAPS_H * TAPS_W %}
{% set BLOCK_WEIGHTS = OUT_CHANNELS * BLOCK_TAPS %}
{# Vectors of weights that one load of all lanes together brings, and how many such loads bring a block. #}
{% set SHARE = LANES if LANES else 1 %}
{% set SHARES = (BLOCK_WEIGHTS + 4 * SHARE - 1) // (4 * SHARE) %}
{# Vectors of neighbouring pixels that the taps of a row of results need. #}
{% set VECTORS = ((COLUMNS - 1) * STRIDE_W + (TAPS_W - 1) * DILATION_W + 4) // 4 %}
{# Rows of pixels that they need, and some between where stride or dilation leave rows out: compilers drop those. #}
{% set WINDOW = (ROWS - 1) * STRIDE_H + (TAPS_H - 1) * DILATION_H + 1 %}
{% set COMPONENTS = "xyzw" %}

@group(0) @binding(15) var<storage, read_write> packed_weights: array<f32>;

// Weights in the order in which the loops below read them: for OUT_CHANNELS channels of the result, each source
// channel and each TAPS_H rows of the filter a block, by channel of the result, row and column. Channels beyond the
// last one get zeros.
@compute @workgroup_size(256)
fn pack_rows(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let block = i / {{ 4 * SHARE * SHARES }}u;
    let weight = i % {{ 4 * SHARE * SHARES }}u;
    let row_blocks = params.filter_h / {{ TAPS_H }}u;
    let depth = params.source_count * row_blocks;
    if block >= (params.result_count + {{ OUT_CHANNELS - 1 }}u) / {{ OUT_CHANNELS }}u * depth {
        return;
    }
    let channel = block / depth * {{ OUT_CHANNELS }}u + weight / {{ BLOCK_TAPS }}u;
    let c = block % depth / row_blocks;
    var value = 0.0;
    if weight < {{ BLOCK_WEIGHTS }}u && channel < params.result_count {
        let tap_h = block % row_blocks * {{ TAPS_H }}u + weight % {{ BLOCK_TAPS }}u / {{ TAPS_W }}u;
        let r = params.tap_first_h + tap_h * params.tap_step_h;
        let s = params.tap_first_w + weight % {{ TAPS_W }}u * params.tap_step_w;
        value = w[params.w_skip + c * params.w_source + channel * params.w_result + r * params.w_row + s];
    }
    packed_weights[i] = value;
}

{% macro weight(index) -%}
{%- if LANES -%}
subgroupBroadcast(weights_{{ index // (4 * LANES) }}.{{ COMPONENTS[index % 4] }}, {{ index // 4 % LANES }}u)
{%- else -%}
weights_{{ index // 4 }}.{{ COMPONENTS[index % 4] }}
{%- endif -%}
{%- endmacro %}
{% macro pixel(row, column) -%}
x_{{ row }}_{{ column // 4 }}.{{ COMPONENTS[column % 4] }}
{%- endmacro %}
{# With a rectifier fused to it a text is for one pass. #}
{% for entry in ["forward", "backward_input"] if not (RECTIFY and entry == "backward_input" or MASK and entry == "forward") %}
@compute @workgroup_size(64)
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
    {% if LANES %}
    @builtin(subgroup_invocation_id) subgroup_lane: u32,
    {% endif %}
) {
    let i = flat_invocation(group, groups, lane, 64u);
    let across = (params.grid_w + {{ COLUMNS - 1 }}u) / {{ COLUMNS }}u;
    let down = (params.grid_h + {{ ROWS - 1 }}u) / {{ ROWS }}u;
    let tile_row = quotient(i, across);
    let any_sample = quotient(tile_row, down);
    let column = (i - tile_row * across) * {{ COLUMNS }}u;
    let row = (tile_row - any_sample * down) * {{ ROWS }}u;
    let channel = group.z * {{ OUT_CHANNELS }}u;
    // Beyond the last sample an invocation repeats it and writes nothing: all of a subgroup must walk the same loops.
    let inside = any_sample < params.samples;
    let sample = min(any_sample, params.samples - 1u);

    // Read once: not every compiler moves the reading of uniforms out of loops.
    let channels = params.source_count;
    let row_blocks = params.filter_h / {{ TAPS_H }}u;
    let line = params.padded_w / 4u;
    let area = params.padded_h * line;
    {% for row in range(1, WINDOW) %}
    let line_{{ row }} = {{ row }}u * line;
    {% endfor %}
    var at = (sample * channels * area) + row * {{ STRIDE_H }}u * line + column * {{ STRIDE_W }}u / 4u;
    var block = group.z * channels * row_blocks * {{ SHARE * SHARES }}u{% if LANES %} + subgroup_lane % {{ LANES }}u{% endif %};
    {% if ROW_LOOP %}
    let next_rows = {{ TAPS_H * DILATION_H }}u * line;
    let next_channel = area - row_blocks * next_rows;
    var rows_left = row_blocks;
    {% endif %}
    {% for k in range(OUT_CHANNELS) %}{% for r in range(ROWS) %}{% for p in range(COLUMNS) %}
    var y_{{ k }}_{{ r }}_{{ p }} = 0.0;
    {% endfor %}{% endfor %}{% endfor %}
    // One loop, not one for channels around one for rows: a loop keeps the results of lanes that have left it, which
    // costs software adapters a blend for each result and turn.
    for (var i = channels * row_blocks; i > 0u; i--) {
        {% for row in range(WINDOW) %}
        {% for v in range(VECTORS) %}
        let x_{{ row }}_{{ v }} = padded[at{% if row %} + line_{{ row }}{% endif %}{% if v %} + {{ v }}u{% endif %}];
        {% endfor %}
        {% endfor %}
        {% for j in range(SHARES) %}
        let weights_{{ j }} = packed[block{% if j %} + {{ j * SHARE }}u{% endif %}];
        {% endfor %}
        {% for k in range(OUT_CHANNELS) %}
        {% for tap in range(BLOCK_TAPS) %}
        let w_{{ k }}_{{ tap }} = {{ weight(k * BLOCK_TAPS + tap) }};
        {% endfor %}
        {% for r in range(ROWS) %}{% for p in range(COLUMNS) %}
        y_{{ k }}_{{ r }}_{{ p }} = y_{{ k }}_{{ r }}_{{ p }}
            {%- for h in range(TAPS_H) %}{% for s in range(TAPS_W) %} + w_{{ k }}_{{ h * TAPS_W + s }} * {{ pixel(r * STRIDE_H + h * DILATION_H, p * STRIDE_W + s * DILATION_W) }}{% endfor %}{% endfor %};
        {% endfor %}{% endfor %}
        {% endfor %}
        block += {{ SHARE * SHARES }}u;
        {% if ROW_LOOP %}
        rows_left -= 1u;
        at += next_rows;
        if rows_left == 0u {
            rows_left = row_blocks;
            at += next_channel;
        }
        {% else %}
        at += area;
        {% endif %}
    }
    if !inside {
        return;
    }
    let left = params.grid_w - column;
    {% for k in range(OUT_CHANNELS) %}
    if channel + {{ k }}u < params.result_count {
        let bias = {{ "bias_at(channel + " ~ k ~ "u)" if entry == "forward" else "0.0" }};
        let plane = sample * params.result_channels + params.result_first + channel + {{ k }}u;
        {% for r in range(ROWS) %}
        if row + {{ r }}u < params.grid_h {
            let y = params.first_h + (row + {{ r }}u) * params.step_h;
            let at = params.result_skip + (plane * params.result_h + y) * params.result_w + params.first_w + column * {{ STEP_W }}u;
            {% for p in range(0, COLUMNS, 4) %}
            if left > {{ p }}u {
                put_vector(at + {{ p * STEP_W }}u, left - {{ p }}u, bias + vec4(y_{{ k }}_{{ r }}_{{ p }}, y_{{ k }}_{{ r }}_{{ p + 1 }}, y_{{ k }}_{{ r }}_{{ p + 2 }}, y_{{ k }}_{{ r }}_{{ p + 3 }}));
            }
            {% endfor %}
        }
        {% endfor %}
    }
    {% endfor %}
}

{% endfor %}
