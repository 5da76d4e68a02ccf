// Elements one at a time, or with VECTOR in fours. A workgroup takes A_WORKGROUP of them in a row, so that neighbouring
// lanes read neighbours.

{% if VECTOR == 1 %}alias Element = vec4<f32>;{% else %}alias Element = f32;{% endif %}

const WIDTH = {{ 4 if VECTOR == 1 else 1 }}u;
const A_WORKGROUP = {{ A_WORKGROUP }}u;

// Of so many floats, the first element of a lane, and the end of its workgroup's.
fn share_of(group: vec3<u32>, groups: vec3<u32>, lane: u32, floats: u32) -> vec2<u32> {
    let first = flat_workgroup(group, groups) * A_WORKGROUP;
    return vec2(first + lane, min(first + A_WORKGROUP, floats / WIDTH));
}
