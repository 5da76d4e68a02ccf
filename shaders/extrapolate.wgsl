// y = w - distance · v, where the distance is `steps`, times the learning rate where `rated`.

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
    let share = share_of(group, groups, lane, params.elements);
    for (var i = share.x; i < share.y; i += 256u) {
        y[i] = w[i] - distance * v[i];
    }
}
