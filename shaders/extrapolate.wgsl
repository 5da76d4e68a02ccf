// y = w - distance · v, where the distance is `steps`, times the learning rate where `rated`. With VECTOR elements come
// in fours. A workgroup takes 1024 of them in a row, so that neighbouring lanes read neighbours.

{% if VECTOR == 1 %}alias Element = vec4<f32>;{% else %}alias Element = f32;{% endif %}

struct ExtrapolateParams {
    // In floats.
    elements: u32,
    steps: f32,
    rated: u32,
}

@group(0) @binding(0) var<uniform> params: ExtrapolateParams;
@group(0) @binding(2) var<storage, read> w: array<Element>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;
@group(0) @binding(12) var<storage, read> v: array<Element>;
@group(0) @binding(13) var<storage, read> scalars: Scalars;

@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let distance = params.steps * select(1.0, scalars.learning_rate, params.rated != 0u);
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.elements{% if VECTOR == 1 %} / 4u{% endif %});
    for (var i = first; i < end; i += 256u) {
        y[i] = w[i] - distance * v[i];
    }
}
