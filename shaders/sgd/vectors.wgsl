// As sgd.wgsl, four elements at a time. A workgroup takes 4096 elements in a row.

struct SgdParams {
    elements: u32,
    momentum: f32,
    // 1 - dampening.
    fresh: f32,
    weight_decay: f32,
    velocity_share: f32,
    gradient_share: f32,
}

@group(0) @binding(0) var<uniform> params: SgdParams;
@group(0) @binding(2) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dw: array<vec4<f32>>;
@group(0) @binding(12) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(13) var<storage, read> scalars: Scalars;

@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    if scalars.hold != 0u {
        return;
    }
    // Read once: a driver must assume that a store could change them.
    let given = params;
    let learning_rate = scalars.learning_rate;
    let unscale = scalars.gradient_unscale;
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, given.elements / 4u);
    for (var i = first; i < end; i += 256u) {
        let weight = w[i];
        let gradient = unscale * dw[i] + given.weight_decay * weight;
        let velocity = given.momentum * v[i] + given.fresh * gradient;
        let mixed = given.gradient_share * gradient + given.velocity_share * velocity;
        let step = select(mixed, velocity, given.gradient_share == 0.0);
        w[i] = weight - learning_rate * step;
        v[i] = velocity;
        dw[i] = vec4(0.0);
    }
}
