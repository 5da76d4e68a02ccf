// y[HOLD] = 1 where any dw is infinite or NaN; everything else stays.

alias Bits = {{ "vec4<u32>" if VECTOR == 1 else "u32" }};

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
    let share = share_of(group, groups, lane, params.elements);
    var found = false;
    for (var i = share.x; i < share.y; i += 256u) {
        found = found || any((dw[i] & Bits(EXPONENT)) == Bits(EXPONENT));
    }
    // Every writer writes the same, so that their order does not matter.
    if found {
        atomicStore(&y[HOLD], 1u);
    }
}
