// The three matrix products of a linear layer in registers, for adapters that compute on the host's cores. There every
// load is a load for each lane, however the addresses lie, and arithmetic is cheap: so an invocation keeps a block of
// ROWS × COLUMNS results and goes through DEPTH terms of their sums at a time. The lanes of a workgroup have
// neighbouring columns and the same rows; with LANES they share the loading of the left operand.
//
//                   left (rows × depth)     right (depth × columns)
//   forward         x: samples × inputs     w: inputs × outputs, lies transposed
//   backward_input  dy: samples × outputs   w: outputs × inputs
//   backward_weight dy: outputs × samples,  x: samples × inputs
//                   lies transposed
//
// All loads are of whole vectors: inputs and outputs are multiples of 4 where they are what vectors run along.
//
// Definitions: ROWS, COLUMNS and DEPTH (multiples of 4) and LANES as above; ALIGNED, whether y's rows are whole vectors.

{% set SHARE = LANES if LANES else 1 %}
{% set GROUP = LANES if LANES else 8 %}
{# Vectors of the left operand that a turn needs of each lane. #}
{% set SHARES = ROWS * DEPTH // 4 // SHARE %}
{% set COMPONENTS = "xyzw" %}

@group(0) @binding(1) var<storage, read> x_vectors: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w_vectors: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y_vectors: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx_vectors: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dw_vectors: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> dy_vectors: array<vec4<f32>>;

{# An element of the left operand: it came with vector `index` of the turn's. #}
{% macro shared(index, component) -%}
{%- if LANES -%}
subgroupBroadcast(left_{{ index // LANES }}.{{ component }}, {{ index % LANES }}u)
{%- else -%}
left_{{ index }}.{{ component }}
{%- endif -%}
{%- endmacro %}
{% macro left(r, d, transposed) -%}
{{ shared(d * (ROWS // 4) + r // 4, COMPONENTS[r % 4]) if transposed else shared(d // 4 * ROWS + r, COMPONENTS[d % 4]) }}
{%- endmacro %}
{% macro right(d, c, transposed) -%}
{%- if transposed -%}
right_{{ c }}_{{ d // 4 }}.{{ COMPONENTS[d % 4] }}
{%- else -%}
right_{{ d }}_{{ c // 4 }}.{{ COMPONENTS[c % 4] }}
{%- endif -%}
{%- endmacro %}
{% macro part(j) -%}
{{ j * SHARE }}u{{ " + lane" if LANES }}
{%- endmacro %}
{# A vector along the depth; beyond its end zeros, which make what else is loaded there harmless. #}
{% macro within(operand, j) -%}
{%- set place = "i + left_depth_" ~ j -%}
select(vec4(0.0), {{ operand }}[left_from_{{ j }} + min({{ place }}, depth - 1u)], {{ place }} < depth)
{%- endmacro %}
{# Sums of a turn; `left_transposed` and `right_transposed` say along what the operands' vectors run. #}
{% macro multiply_add(left_transposed, right_transposed) %}
        {% for r in range(ROWS) %}
        {% for d in range(DEPTH) %}
        let a_{{ r }}_{{ d }} = {{ left(r, d, left_transposed) }};
        {% endfor %}
        {% for c in range(COLUMNS) %}
        sum_{{ r }}_{{ c }} = sum_{{ r }}_{{ c }}
            {%- for d in range(DEPTH) %} + a_{{ r }}_{{ d }} * {{ right(d, c, right_transposed) }}{% endfor %};
        {% endfor %}
        {% endfor %}
{% endmacro %}
{% macro sums() %}
    {% for r in range(ROWS) %}{% for c in range(COLUMNS) %}
    var sum_{{ r }}_{{ c }} = 0.0;
    {% endfor %}{% endfor %}
{% endmacro %}
{% macro four(r, c) -%}
vec4(sum_{{ r }}_{{ c }}, sum_{{ r }}_{{ c + 1 }}, sum_{{ r }}_{{ c + 2 }}, sum_{{ r }}_{{ c + 3 }})
{%- endmacro %}
{% macro arguments() %}
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) invocation: u32,
    {% if LANES %}
    @builtin(subgroup_invocation_id) lane: u32,
    {% endif %}
{% endmacro %}
fn bias_at(row: u32) -> f32 {
    if params.has_bias != 0u && row < params.rows {
        return b[params.b_skip + row];
    }
    return 0.0;
}

@compute @workgroup_size({{ GROUP }})
fn forward(
{{ arguments() -}}
) {
    let first_row = group.y * {{ ROWS }}u;
    let first_column = (group.x * {{ GROUP }}u + invocation) * {{ COLUMNS }}u;
    let depth = params.inputs / 4u;
    // Rows and columns beyond the last one repeat it; nobody reads their results.
    {% for j in range(SHARES) %}
    let part_{{ j }} = {{ part(j) }};
    let left_depth_{{ j }} = part_{{ j }} / {{ ROWS }}u;
    let left_from_{{ j }} = params.x_skip / 4u + min(first_row + part_{{ j }} % {{ ROWS }}u, params.samples - 1u) * depth;
    {% endfor %}
    {% for c in range(COLUMNS) %}
    let right_from_{{ c }} = params.w_skip / 4u + min(first_column + {{ c }}u, params.rows - 1u) * depth;
    {% endfor %}
    {{- sums() }}
    for (var i = 0u; i < depth; i += {{ DEPTH // 4 }}u) {
        {% for j in range(SHARES) %}
        let left_{{ j }} = {{ within("x_vectors", j) }};
        {% endfor %}
        {% for c in range(COLUMNS) %}{% for d in range(DEPTH // 4) %}
        let right_{{ c }}_{{ d }} = w_vectors[right_from_{{ c }} + {% if d %}min(i + {{ d }}u, depth - 1u){% else %}i{% endif %}];
        {% endfor %}{% endfor %}
{{ multiply_add(false, true) -}}
    }
    let left_over = params.rows - min(first_column, params.rows);
    {% for c in range(COLUMNS) %}
    let bias_{{ c }} = bias_at(first_column + {{ c }}u);
    {% endfor %}
    {% for r in range(ROWS) %}
    if first_row + {{ r }}u < params.samples {
        let at = params.y_skip + (first_row + {{ r }}u) * params.outputs + params.first + first_column;
        {% for c in range(0, COLUMNS, 4) %}
        let value_{{ c }} = {{ four(r, c) }} + vec4(bias_{{ c }}, bias_{{ c + 1 }}, bias_{{ c + 2 }}, bias_{{ c + 3 }});
        {% if ALIGNED %}
        if left_over > {{ c }}u {
            y_vectors[at / 4u + {{ c // 4 }}u] = stored_vector(at / 4u + {{ c // 4 }}u, value_{{ c }});
        }
        {% else %}
        {% for i in range(4) %}
        if left_over > {{ c + i }}u {
            y[at + {{ c + i }}u] = stored(at + {{ c + i }}u, value_{{ c }}.{{ COMPONENTS[i] }});
        }
        {% endfor %}
        {% endif %}
        {% endfor %}
    }
    {% endfor %}
}

@compute @workgroup_size({{ GROUP }})
fn backward_input(
{{ arguments() -}}
) {
    let first_row = group.y * {{ ROWS }}u;
    let first_column = (group.x * {{ GROUP }}u + invocation) * {{ COLUMNS }}u;
    let depth = params.rows / 4u;
    let line = params.inputs / 4u;
    {% for j in range(SHARES) %}
    let part_{{ j }} = {{ part(j) }};
    let left_depth_{{ j }} = part_{{ j }} / {{ ROWS }}u;
    let left_from_{{ j }} = (params.y_skip + params.first) / 4u
        + min(first_row + part_{{ j }} % {{ ROWS }}u, params.samples - 1u) * (params.outputs / 4u);
    {% endfor %}
    {% for c in range(0, COLUMNS, 4) %}
    let right_from_{{ c }} = params.w_skip / 4u + min(first_column / 4u + {{ c // 4 }}u, line - 1u);
    {% endfor %}
    {{- sums() }}
    for (var i = 0u; i < depth; i += {{ DEPTH // 4 }}u) {
        {% for j in range(SHARES) %}
        let left_{{ j }} = {{ within("dy_vectors", j) }};
        {% endfor %}
        {% for d in range(DEPTH) %}
        let line_{{ d }} = {% if d < 4 %}4u * i + {{ d }}u{% else %}min(4u * i + {{ d }}u, params.rows - 1u){% endif %};
        {% for c in range(0, COLUMNS, 4) %}
        let right_{{ d }}_{{ c // 4 }} = w_vectors[right_from_{{ c }} + line_{{ d }} * line];
        {% endfor %}
        {% endfor %}
{{ multiply_add(false, false) -}}
    }
    let left_over = params.inputs - min(first_column, params.inputs);
    {% for r in range(ROWS) %}
    if first_row + {{ r }}u < params.samples {
        let at = params.x_skip / 4u + (first_row + {{ r }}u) * line + first_column / 4u;
        {% for c in range(0, COLUMNS, 4) %}
        if left_over > {{ c }}u {
            if params.accumulate != 0u {
                dx_vectors[at + {{ c // 4 }}u] += stored_vector(at + {{ c // 4 }}u, {{ four(r, c) }});
            } else {
                dx_vectors[at + {{ c // 4 }}u] = stored_vector(at + {{ c // 4 }}u, {{ four(r, c) }});
            }
        }
        {% endfor %}
    }
    {% endfor %}
}

@compute @workgroup_size({{ GROUP }})
fn backward_weight(
{{ arguments() -}}
) {
    let first_row = group.y * {{ ROWS }}u;
    let first_column = (group.x * {{ GROUP }}u + invocation) * {{ COLUMNS }}u;
    let depth = params.samples;
    let line = params.inputs / 4u;
    let dy_line = params.outputs / 4u;
    {% for j in range(SHARES) %}
    let part_{{ j }} = {{ part(j) }};
    let left_depth_{{ j }} = part_{{ j }} / {{ ROWS // 4 }}u;
    let left_from_{{ j }} = (params.y_skip + params.first) / 4u
        + min(first_row / 4u + part_{{ j }} % {{ ROWS // 4 }}u, params.rows / 4u - 1u);
    {% endfor %}
    {% for c in range(0, COLUMNS, 4) %}
    let right_from_{{ c }} = params.x_skip / 4u + min(first_column / 4u + {{ c // 4 }}u, line - 1u);
    {% endfor %}
    {{- sums() }}
    for (var i = 0u; i < depth; i += {{ DEPTH }}u) {
        {% for j in range(SHARES) %}
        let sample_{{ j }} = min(i + left_depth_{{ j }}, depth - 1u);
        let left_{{ j }} = select(vec4(0.0), dy_vectors[left_from_{{ j }} + sample_{{ j }} * dy_line], i + left_depth_{{ j }} < depth);
        {% endfor %}
        {% for d in range(DEPTH) %}
        let line_{{ d }} = {% if d %}min(i + {{ d }}u, depth - 1u){% else %}i{% endif %};
        {% for c in range(0, COLUMNS, 4) %}
        let right_{{ d }}_{{ c // 4 }} = x_vectors[right_from_{{ c }} + line_{{ d }} * line];
        {% endfor %}
        {% endfor %}
{{ multiply_add(true, false) -}}
    }
    let left_over = params.inputs - min(first_column, params.inputs);
    {% for r in range(ROWS) %}
    if first_row + {{ r }}u < params.rows {
        let at = params.w_skip / 4u + (first_row + {{ r }}u) * line + first_column / 4u;
        {% for c in range(0, COLUMNS, 4) %}
        if left_over > {{ c }}u {
            dw_vectors[at + {{ c // 4 }}u] += {{ four(r, c) }};
        }
        {% endfor %}
    }
    {% endfor %}
}
