// How results of stride 1 are written, four neighbours of a row at once, and what is added to them.
//
// Definitions: ALIGNED, whether results are written as whole vectors.

@group(0) @binding(4) var<storage, read_write> result_vectors: array<vec4<f32>>;

fn bias_at(channel: u32) -> f32 {
    if params.has_bias != 0u && channel < params.result_count {
        return b[params.b_skip + channel];
    }
    return 0.0;
}

{% if not ALIGNED %}
fn put_at(at: u32, inside: bool, value: f32) {
    if inside {
        if params.accumulate != 0u {
            result[at] += stored(at, value);
        } else {
            result[at] = stored(at, value);
        }
    }
}

{% endif %}
// Four results of a row.
fn put_vector(at: u32, left: u32, value: vec4<f32>) {
    {% if ALIGNED %}
    if left > 0u {
        if params.accumulate != 0u {
            result_vectors[at / 4u] += stored_vector(at / 4u, value);
        } else {
            result_vectors[at / 4u] = stored_vector(at / 4u, value);
        }
    }
    {% else %}
    {% for i in range(4) %}
    put_at(at + {{ i }}u, left > {{ i }}u, value.{{ "xyzw"[i] }});
    {% endfor %}
    {% endif %}
}

