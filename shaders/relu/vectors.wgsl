// y = max(x, 0); dx = dy where y > 0, else 0. NaN passes both ways, as in PyTorch: it must not be lost here.
// As relu.wgsl, four elements at a time. A workgroup takes 4096 elements in a row.

struct ReluParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: ReluParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> y_given: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dx: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read> dy: array<vec4<f32>>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.elements / 4u);
    for (var i = first; i < end; i += 256u) {
        let value = x[i];
        y[i] = select(max(value, vec4(0.0)), value, are_nan(value));
    }
}

@compute @workgroup_size(256)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.elements / 4u);
    for (var i = first; i < end; i += 256u) {
        let value = y_given[i];
        dx[i] = select(vec4(0.0), dy[i], (value > vec4(0.0)) | are_nan(value));
    }
}
