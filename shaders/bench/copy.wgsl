// What an adapter's memory can carry at most: every element read once and written once.

struct CopyParams {
    quads: u32,
}

@group(0) @binding(0) var<uniform> params: CopyParams;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

// A workgroup takes 1024 quads in a row, so that neighbouring lanes read neighbours.
@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.quads);
    for (var i = first; i < end; i += 256u) {
        y[i] = x[i];
    }
}
