// A result on its way to memory, and what is done to it there where a rectifier is fused to the pass.
//
// Definitions: RECTIFY, whether the rectifier that follows is computed too; MASK, the slot of the output of the rectifier
// before, where results are gradients of its input, else 0. NaN passes, as in relu.wgsl. What is masked lies where the
// results do: it has their shape, and is bound through a window of the same elements.

{% if MASK %}
@group(0) @binding({{ MASK }}) var<storage, read> mask: array<f32>;
@group(0) @binding({{ MASK }}) var<storage, read> mask_vectors: array<vec4<f32>>;
{% endif %}

// `value` is to be stored, or added, at element `at`.
fn stored(at: u32, value: f32) -> f32 {
    {% if RECTIFY %}
    return select(max(value, 0.0), value, is_nan(value));
    {% elif MASK %}
    let rectified = mask[at];
    return select(0.0, value, rectified > 0.0 || is_nan(rectified));
    {% else %}
    return value;
    {% endif %}
}

// Four results, at vector `at`.
fn stored_vector(at: u32, value: vec4<f32>) -> vec4<f32> {
    {% if RECTIFY %}
    return select(max(value, vec4(0.0)), value, are_nan(value));
    {% elif MASK %}
    let rectified = mask_vectors[at];
    return select(vec4(0.0), value, (rectified > vec4(0.0)) | are_nan(rectified));
    {% else %}
    return value;
    {% endif %}
}
