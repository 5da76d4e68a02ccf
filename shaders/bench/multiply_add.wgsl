// What an adapter can compute at most: multiply-adds on registers, nothing loaded meanwhile. Twelve chains that do not
// depend on one another hide the latency of each. y = the sum of the chains a ← a · factor + x, which starts from
// x, 2x and so on: the factor comes from outside, so that no compiler can foresee the end of a chain.

struct MultiplyAddParams {
    elements: u32,
    rounds: u32,
    factor: f32,
}

@group(0) @binding(0) var<uniform> params: MultiplyAddParams;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn forward(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = flat_invocation(group, groups, lane, 64u);
    if i >= params.elements {
        return;
    }
    let value = x[i];
    let add = vec4(value);
    let factor = vec4(params.factor);
    var first = value * vec4(1.0, 2.0, 3.0, 4.0);
    var second = value * vec4(5.0, 6.0, 7.0, 8.0);
    var third = value * vec4(9.0, 10.0, 11.0, 12.0);
    for (var round = 0u; round < params.rounds; round++) {
{% for turn in range(8) %}
        first = first * factor + add;
        second = second * factor + add;
        third = third * factor + add;
{% endfor %}
    }
    y[i] = dot(first + second + third, vec4(1.0));
}
