// y[HOLD] = 1 where any dw is infinite or NaN; everything else stays. With VECTOR elements come in fours. A workgroup
// takes 1024 of them in a row.

{% if VECTOR == 1 %}alias Bits = vec4<u32>;{% else %}alias Bits = u32;{% endif %}

// Where `Scalars` has its `hold`.
const HOLD = 8u;
// All bits of the exponent: only infinities and NaN have them. Compilers may assume that neither exists.
const EXPONENT = 0x7f800000u;

struct NonFiniteParams {
    // In floats.
    elements: u32,
}

@group(0) @binding(0) var<uniform> params: NonFiniteParams;
@group(0) @binding(4) var<storage, read_write> y: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read> dw: array<Bits>;

@compute @workgroup_size(256)
fn update(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let first = flat_workgroup(group, groups) * 1024u + lane;
    let end = min(first + 1024u, params.elements{% if VECTOR == 1 %} / 4u{% endif %});
    var found = false;
    for (var i = first; i < end; i += 256u) {
        found = found || any((dw[i] & Bits(EXPONENT)) == Bits(EXPONENT));
    }
    // Every writer writes the same, so that their order does not matter.
    if found {
        atomicStore(&y[HOLD], 1u);
    }
}
