// How results are written, four neighbours of a row at once, and what is added to them.
//
// Definitions: ALIGNED, whether results are written as whole vectors; ACCUMULATE, whether they are added to what is
// there; STEP_W, how far neighbours lie apart. None is asked in the shader: software adapters walk both branches, lane by
// lane.

@group(0) @binding(4) var<storage, read_write> result_vectors: array<vec4<f32>>;

fn bias_at(channel: u32) -> f32 {
    let has = (params.has_bias != 0u) & (channel < params.result_count);
    return select(0.0, b[select(0u, params.b_skip + channel, has)], has);
}

{% set ASSIGN = "+=" if ACCUMULATE else "=" %}
// Four results of a row, of which `left` are inside, at least one.
fn put_vector(at: u32, left: u32, value: vec4<f32>) {
    {% if ALIGNED %}
    result_vectors[at / 4u] {{ ASSIGN }} stored_vector(at / 4u, value);
    {% else %}
    result[at] {{ ASSIGN }} stored(at, value.x);
    {% for i in range(1, 4) %}
    if left > {{ i }}u {
        result[at + {{ i * STEP_W }}u] {{ ASSIGN }} stored(at + {{ i * STEP_W }}u, value.{{ "xyzw"[i] }});
    }
    {% endfor %}
    {% endif %}
}

