// d = gradient_unscale · dw + weight_decay · w; v = momentum · v + fresh · d; w -= learning_rate · (b · d + a · v), where
// the shares a and b are 1 and 0 but with Nesterov or spike compensation; dw = 0. Nothing of it where the update is held.

struct SgdParams {
    // In floats.
    elements: u32,
    momentum: f32,
    // 1 - dampening.
    fresh: f32,
    weight_decay: f32,
    velocity_share: f32,
    gradient_share: f32,
}

@group(0) @binding(0) var<uniform> params: SgdParams;
@group(0) @binding(2) var<storage, read_write> w: array<Element>;
@group(0) @binding(6) var<storage, read_write> dw: array<Element>;
@group(0) @binding(12) var<storage, read_write> v: array<Element>;
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
    let share = share_of(group, groups, lane, given.elements);
    for (var i = share.x; i < share.y; i += 256u) {
        let weight = w[i];
        let gradient = unscale * dw[i] + given.weight_decay * weight;
        let velocity = given.momentum * v[i] + given.fresh * gradient;
        let mixed = given.gradient_share * gradient + given.velocity_share * velocity;
        let step = select(mixed, velocity, given.gradient_share == 0.0);
        w[i] = weight - learning_rate * step;
        v[i] = velocity;
        dw[i] = Element(0.0);
    }
}
