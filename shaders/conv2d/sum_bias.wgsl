// db += the sum of dy over samples and positions, for adapters that compute on the host's cores: each lane has a channel
// of its own, so that nothing is exchanged between lanes, and takes UNROLLED steps of a row of its planes a turn.
//
// Definitions: VECTORS, whether planes are whole vectors; else elements are taken one by one.

@group(0) @binding(8) var<storage, read> dy_whole: array<vec4<f32>>;

{% set UNROLLED = 4 %}
{% set STEP = 4 if VECTORS else 1 %}
@compute @workgroup_size(8)
fn sum_bias(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let channel = group.x * 8u + lane;
    let last = params.result_count - 1u;
    let area = params.result_h * params.result_w / {{ STEP }}u;
    // Channels beyond the last one repeat it and write nothing.
    var at = params.result_skip / {{ STEP }}u + (params.result_first + min(channel, last)) * area;
    let next_sample = (params.result_channels - 1u) * area;
    var left = area;
    {% for i in range(UNROLLED) %}
    var sum_{{ i }} = {{ "vec4(0.0)" if VECTORS else "0.0" }};
    {% endfor %}
    let turns = params.samples * ((area + {{ UNROLLED - 1 }}u) / {{ UNROLLED }}u);
    for (var turn = turns; turn > 0u; turn--) {
        {% for i in range(UNROLLED) %}
        {% if VECTORS %}
        let dy_{{ i }} = dy_whole[at + min({{ i }}u, left - 1u)];
        sum_{{ i }} += select(vec4(0.0), dy_{{ i }}, {{ i }}u < left);
        {% else %}
        let dy_{{ i }} = dy[at + min({{ i }}u, left - 1u)];
        sum_{{ i }} += select(0.0, dy_{{ i }}, {{ i }}u < left);
        {% endif %}
        {% endfor %}
        let taken = min({{ UNROLLED }}u, left);
        at += taken;
        left -= taken;
        if left == 0u {
            left = area;
            at += next_sample;
        }
    }
    if channel <= last {
        let sum = {% for i in range(UNROLLED) %}sum_{{ i }}{{ " + " if not loop.last }}{% endfor %};
        db[params.b_skip + channel] += {{ "sum.x + sum.y + sum.z + sum.w" if VECTORS else "sum" }};
    }
}
