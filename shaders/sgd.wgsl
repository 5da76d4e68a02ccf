// d = gradient_unscale · dw + weight_decay · w; v = momentum · v + fresh · d; w -= learning_rate · (d + momentum · v
// with Nesterov, else v); dw = 0. A workgroup takes 1024 elements in a row, so that neighbouring lanes read neighbours.

struct SgdParams {
    elements: u32,
    momentum: f32,
    // 1 - dampening.
    fresh: f32,
    weight_decay: f32,
    nesterov: u32,
}

@group(0) @binding(0) var<uniform> params: SgdParams;
@group(0) @binding(2) var<storage, read_write> w: array<f32>;
@group(0) @binding(6) var<storage, read_write> dw: array<f32>;
@group(0) @binding(12) var<storage, read_write> v: array<f32>;
@group(0) @binding(13) var<storage, read> scalars: Scalars;

@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Read once: a driver must assume that a store could change them.
    let given = params;
    let learning_rate = scalars.learning_rate;
    let unscale = scalars.gradient_unscale;
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, given.elements);
    for (var i = first; i < end; i += 256u) {
        let weight = w[i];
        let gradient = unscale * dw[i] + given.weight_decay * weight;
        let velocity = given.momentum * v[i] + given.fresh * gradient;
        let step = select(velocity, gradient + given.momentum * velocity, given.nesterov != 0u);
        w[i] = weight - learning_rate * step;
        v[i] = velocity;
        dw[i] = 0.0;
    }
}
