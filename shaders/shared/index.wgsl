// Where an invocation stands in a row of workgroups that was folded into two dimensions.

fn flat_workgroup(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

fn flat_invocation(group: vec3<u32>, groups: vec3<u32>, lane: u32, lanes: u32) -> u32 {
    return flat_workgroup(group, groups) * lanes + lane;
}

// a / b for a < 2²⁰, by way of floating point: dividing integers costs software adapters hundreds of cycles. The half
// keeps the quotient further from the next integer than any adapter's division is inexact.
fn quotient(a: u32, b: u32) -> u32 {
    return u32((f32(a) + 0.5) / f32(b));
}
