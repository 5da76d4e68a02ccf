// v = decay · v + (1 - decay) · (w - y): a moving average of what updates change, from the weights after (w) and before
// (y) the last one.

struct DriftParams {
    // In floats.
    elements: u32,
    decay: f32,
    // 1 - decay.
    fresh: f32,
}

@group(0) @binding(0) var<uniform> params: DriftParams;
@group(0) @binding(2) var<storage, read> w: array<Element>;
@group(0) @binding(4) var<storage, read> y: array<Element>;
@group(0) @binding(12) var<storage, read_write> v: array<Element>;

@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    // Read once: a driver must assume that a store could change them.
    let given = params;
    let share = share_of(group, groups, lane, given.elements);
    for (var i = share.x; i < share.y; i += 256u) {
        v[i] = given.decay * v[i] + given.fresh * (w[i] - y[i]);
    }
}
