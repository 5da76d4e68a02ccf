// y = max(x, 0); dx = dy where y > 0, else 0. NaN passes both ways, as in PyTorch: it must not be lost here.
// A workgroup takes 1024 elements in a row, so that neighbouring lanes read neighbours.

struct ReluParams {
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: ReluParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read> y_given: array<f32>;
@group(0) @binding(5) var<storage, read_write> dx: array<f32>;
@group(0) @binding(8) var<storage, read> dy: array<f32>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.elements);
    for (var i = first; i < end; i += 256u) {
        let value = x[i];
        y[i] = select(max(value, 0.0), value, is_nan(value));
    }
}

@compute @workgroup_size(256)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.elements);
    for (var i = first; i < end; i += 256u) {
        dx[i] = select(0.0, dy[i], y_given[i] > 0.0 || is_nan(y_given[i]));
    }
}
