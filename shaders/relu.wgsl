// y = max(x, 0); dx = dy where y > 0, else 0. NaN passes both ways, as in PyTorch: it must not be lost here.

{% set NAN = "are_nan" if VECTOR == 1 else "is_nan" %}

struct ReluParams {
    // In floats.
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: ReluParams;
@group(0) @binding(1) var<storage, read> x: array<Element>;
@group(0) @binding(4) var<storage, read_write> y: array<Element>;
@group(0) @binding(4) var<storage, read> y_given: array<Element>;
@group(0) @binding(5) var<storage, read_write> dx: array<Element>;
@group(0) @binding(8) var<storage, read> dy: array<Element>;

@compute @workgroup_size(256)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = share_of(group, groups, lane, params.elements);
    for (var i = share.x; i < share.y; i += 256u) {
        let value = x[i];
        y[i] = select(max(value, Element(0.0)), value, {{ NAN }}(value));
    }
}

@compute @workgroup_size(256)
fn backward_input(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let share = share_of(group, groups, lane, params.elements);
    for (var i = share.x; i < share.y; i += 256u) {
        let value = y_given[i];
        dx[i] = select(Element(0.0), dy[i], (value > Element(0.0)) | {{ NAN }}(value));
    }
}
