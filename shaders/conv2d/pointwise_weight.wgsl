// The gradient of filters of 1 × 1 in registers, for adapters that compute on the host's cores; see pointwise.wgsl. It is
// dy × x transposed, and vectors run along the depth, which is the positions of all samples. An invocation keeps ROWS
// channels of the result × CHANNELS channels of the source, and goes through TURN vectors of positions a turn. The lanes
// of a workgroup have neighbouring channels of the source, and with LANES they share the loading of dy.
//
// Definitions: ROWS, CHANNELS (a multiple of 4), TURN and LANES as above.

{% set SHARE = LANES if LANES else 1 %}
{% set GROUP = LANES if LANES else 8 %}
{# Vectors of dy that a turn needs of each lane. #}
{% set PARTS = ROWS * TURN // SHARE %}
{% set COMPONENTS = "xyzw" %}

@group(0) @binding(1) var<storage, read> x_vectors: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> dy_vectors: array<vec4<f32>>;

{# Component `q` of vector t of the turn, of row r: it came with vector `index` of the turn's. #}
{% macro gradient(r, t, q) -%}
{%- set index = r * TURN + t -%}
{%- if LANES -%}
subgroupBroadcast(dy_{{ index // LANES }}.{{ COMPONENTS[q] }}, {{ index % LANES }}u)
{%- else -%}
dy_{{ index }}.{{ COMPONENTS[q] }}
{%- endif -%}
{%- endmacro %}
@compute @workgroup_size({{ GROUP }})
fn backward_weight(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    {% if LANES %}
    @builtin(subgroup_invocation_id) lane: u32,
    {% endif %}
) {
    let area = params.result_h * params.result_w / 4u;
    let channels = params.source_channels;
    let first_channel = (group.x * {{ GROUP }}u + invocation) * {{ CHANNELS }}u;
    let first_row = group.y * {{ ROWS }}u;
    let slice = group.z;
    let first_sample = min(slice * params.slice, params.samples);
    let samples = min(first_sample + params.slice, params.samples) - first_sample;
    // Channels beyond the last one repeat it; nobody reads their results.
    {% for c in range(CHANNELS) %}
    let x_from_{{ c }} = params.source_skip / 4u + min(first_channel + {{ c }}u, channels - 1u) * area;
    {% endfor %}
    {% for j in range(PARTS) %}
    {% if LANES %}
    let part_{{ j }} = {{ j * LANES }}u + lane;
    {% else %}
    let part_{{ j }} = {{ j }}u;
    {% endif %}
    let row_{{ j }} = min(first_row + part_{{ j }} / {{ TURN }}u, params.result_count - 1u);
    let dy_from_{{ j }} = params.result_skip / 4u + (params.result_first + row_{{ j }}) * area;
    {% endfor %}
    let next_sample = channels * area;
    let dy_next_sample = params.result_channels * area;
    var x_at = first_sample * next_sample;
    var dy_at = first_sample * dy_next_sample;
    var within = 0u;
    {% for r in range(ROWS) %}{% for c in range(CHANNELS) %}
    var sum_{{ r }}_{{ c }} = 0.0;
    {% endfor %}{% endfor %}
    for (var turn = samples * ((area + {{ TURN - 1 }}u) / {{ TURN }}u); turn > 0u; turn--) {
        {% for j in range(PARTS) %}
        {# Beyond the plane's end zeros, which make what is loaded of x there harmless. #}
        let place_{{ j }} = within + part_{{ j }} % {{ TURN }}u;
        let dy_{{ j }} = select(vec4(0.0), dy_vectors[dy_at + dy_from_{{ j }} + min(place_{{ j }}, area - 1u)], place_{{ j }} < area);
        {% endfor %}
        {% for t in range(TURN) %}
        let place_x_{{ t }} = x_at + {% if t %}min(within + {{ t }}u, area - 1u){% else %}within{% endif %};
        {% for c in range(CHANNELS) %}
        let x_{{ c }}_{{ t }} = x_vectors[place_x_{{ t }} + x_from_{{ c }}];
        {% endfor %}
        {% endfor %}
        {% for r in range(ROWS) %}
        {% for t in range(TURN) %}{% for q in range(4) %}
        let g_{{ r }}_{{ t }}_{{ q }} = {{ gradient(r, t, q) }};
        {% endfor %}{% endfor %}
        {% for c in range(CHANNELS) %}
        sum_{{ r }}_{{ c }} = sum_{{ r }}_{{ c }}
            {%- for t in range(TURN) %}{% for q in range(4) %} + g_{{ r }}_{{ t }}_{{ q }} * x_{{ c }}_{{ t }}.{{ COMPONENTS[q] }}{% endfor %}{% endfor %};
        {% endfor %}
        {% endfor %}
        within += {{ TURN }}u;
        if within >= area {
            within = 0u;
            x_at += next_sample;
            dy_at += dy_next_sample;
        }
    }
    {% for r in range(ROWS) %}
    let to_{{ r }} = (slice * params.result_count + first_row + {{ r }}u) * channels + first_channel;
    {% for c in range(CHANNELS) %}
    if (first_row + {{ r }}u < params.result_count) & (first_channel + {{ c }}u < channels) {
        scratch[to_{{ r }} + {{ c }}u] = sum_{{ r }}_{{ c }};
    }
    {% endfor %}
    {% endfor %}
}

