// Convolution with filters of 1 × 1 in registers, for adapters that compute on the host's cores; see direct.wgsl. Each
// sample is a matrix product, filters × pictures, and its columns are the positions, four in a vector. An invocation keeps
// ROWS channels of the result × COLUMNS positions and goes through DEPTH channels of the source a turn. The lanes of a
// workgroup have neighbouring positions and the same channels, and with LANES they share the loading of filters.
//
// Planes are whole vectors. Positions are counted through all samples.
//
// Definitions: ROWS, COLUMNS and DEPTH (multiples of 4) and LANES as above; WHOLE, whether blocks fill the result, so
// that nothing is asked of each lane before it stores; ACCUMULATE, see put.wgsl.

{% set BLOCK = ROWS * DEPTH %}
{% set SHARE = LANES if LANES else 1 %}
{% set GROUP = LANES if LANES else 8 %}
{% set VECTORS = COLUMNS // 4 %}
{# Vectors of filters that a turn needs of each lane. #}
{% set SHARES = BLOCK // 4 // SHARE %}
{% set COMPONENTS = "xyzw" %}
{% set ASSIGN = "+=" if ACCUMULATE else "=" %}

@group(0) @binding(1) var<storage, read> source_vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> result_vectors: array<vec4<f32>>;
@group(0) @binding(15) var<storage, read_write> filters: array<f32>;

// Filters in the order in which they are multiplied: blocks of ROWS × DEPTH, the rows next to each other. Those beyond the
// last channel are zeros.
@compute @workgroup_size(256)
fn pack_filters(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 256u);
    let depth_blocks = (params.source_count + {{ DEPTH - 1 }}u) / {{ DEPTH }}u;
    let block = i / {{ BLOCK }}u;
    let row_block = block / depth_blocks;
    if row_block >= (params.result_count + {{ ROWS - 1 }}u) / {{ ROWS }}u {
        return;
    }
    let k = row_block * {{ ROWS }}u + i % {{ ROWS }}u;
    let c = (block - row_block * depth_blocks) * {{ DEPTH }}u + i / {{ ROWS }}u % {{ DEPTH }}u;
    let inside = k < params.result_count && c < params.source_count;
    let at = params.w_skip + select(0u, c * params.w_source + k * params.w_result, inside);
    filters[i] = select(0.0, w[at], inside);
}

fn bias_at(channel: u32) -> f32 {
    let has = (params.has_bias != 0u) & (channel < params.result_count);
    return select(0.0, b[select(0u, params.b_skip + channel, has)], has);
}

{# A filter's value at row r and depth d of the turn: it came with vector `index` of the turn's. #}
{% macro filter(r, d) -%}
{%- set index = d * (ROWS // 4) + r // 4 -%}
{%- if LANES -%}
subgroupBroadcast(filters_{{ index // LANES }}.{{ COMPONENTS[r % 4] }}, {{ index % LANES }}u)
{%- else -%}
filters_{{ index }}.{{ COMPONENTS[r % 4] }}
{%- endif -%}
{%- endmacro %}
{% macro bias(r) -%}
{{ "subgroupBroadcast(biases_" ~ r // LANES ~ ", " ~ r % LANES ~ "u)" if LANES else "biases_" ~ r }}
{%- endmacro %}
{% macro put(entry, r, v) -%}
result_vectors[to_{{ v }} + {{ r }}u * area] {{ ASSIGN }} stored_vector(to_{{ v }} + {{ r }}u * area, sum_{{ r }}_{{ v }}{{ " + " ~ bias(r) if entry == "forward" }});
{%- endmacro %}
{# With a rectifier fused to it a text is for one pass. #}
{% for entry in ["forward", "backward_input"] if not (RECTIFY and entry == "backward_input" or MASK and entry == "forward") %}
@compute @workgroup_size({{ GROUP }})
fn {{ entry }}(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    {% if LANES %}
    @builtin(subgroup_invocation_id) lane: u32,
    {% endif %}
) {
    let area = params.result_h * params.result_w / 4u;
    let count = params.samples * area;
    let channels = params.source_count;
    let turns = (channels + {{ DEPTH - 1 }}u) / {{ DEPTH }}u;
    let first = (group.x * {{ GROUP }}u + invocation) * {{ VECTORS }}u;
    {% for v in range(VECTORS) %}
    // Positions beyond the last one repeat it and are not written.
    let position_{{ v }} = min(first + {{ v }}u, count - 1u);
    let sample_{{ v }} = quotient(position_{{ v }}, area);
    let within_{{ v }} = position_{{ v }} - sample_{{ v }} * area;
    var at_{{ v }} = params.source_skip / 4u
        + (sample_{{ v }} * params.source_channels + params.source_first) * area + within_{{ v }};
    {% endfor %}
    var filters_at = group.y * turns * {{ BLOCK // 4 }}u{{ " + lane" if LANES }};
    {% for r in range(ROWS) %}{% for v in range(VECTORS) %}
    var sum_{{ r }}_{{ v }} = vec4(0.0);
    {% endfor %}{% endfor %}
    for (var channel = 0u; channel < channels; channel += {{ DEPTH }}u) {
        {% for j in range(SHARES) %}
        let filters_{{ j }} = packed[filters_at + {{ j * SHARE }}u];
        {% endfor %}
        filters_at += {{ BLOCK // 4 }}u;
        {% for d in range(DEPTH) %}
        {# Channels beyond the last one meet filters of zeros. #}
        let line_{{ d }} = {% if d %}min({{ d }}u, channels - 1u - channel) * area{% else %}0u{% endif %};
        {% for v in range(VECTORS) %}
        let x_{{ d }}_{{ v }} = source_vectors[at_{{ v }} + line_{{ d }}];
        {% endfor %}
        {% endfor %}
        {% for v in range(VECTORS) %}
        at_{{ v }} += {{ DEPTH }}u * area;
        {% endfor %}
        {% for r in range(ROWS) %}
        {% for d in range(DEPTH) %}
        let filter_{{ r }}_{{ d }} = {{ filter(r, d) }};
        {% endfor %}
        {% for v in range(VECTORS) %}
        sum_{{ r }}_{{ v }} = sum_{{ r }}_{{ v }}{% for d in range(DEPTH) %} + filter_{{ r }}_{{ d }} * x_{{ d }}_{{ v }}{% endfor %};
        {% endfor %}
        {% endfor %}
    }
    let first_row = group.y * {{ ROWS }}u;
    {% for v in range(VECTORS) %}
    let to_{{ v }} = params.result_skip / 4u
        + (sample_{{ v }} * params.result_channels + params.result_first + first_row) * area + within_{{ v }};
    {% endfor %}
    {% if entry == "forward" %}
    {% for j in range(ROWS // SHARE) %}
    let biases_{{ j }} = bias_at(first_row + {{ j * SHARE }}u{{ " + lane" if LANES }});
    {% endfor %}
    {% endif %}
    {% for r in range(ROWS) %}{% for v in range(VECTORS) %}
    {% if WHOLE %}
    {{ put(entry, r, v) }}
    {% else %}
    if (first_row + {{ r }}u < params.result_count) & (first + {{ v }}u < count) {
        {{ put(entry, r, v) }}
    }
    {% endif %}
    {% endfor %}{% endfor %}
}

{% endfor %}
