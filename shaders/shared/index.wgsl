// Where an invocation stands in a row of workgroups that was folded into two dimensions.

fn flat_workgroup(group: vec3<u32>, groups: vec3<u32>) -> u32 {
    return group.y * groups.x + group.x;
}

fn flat_invocation(group: vec3<u32>, groups: vec3<u32>, lane: u32, lanes: u32) -> u32 {
    return flat_workgroup(group, groups) * lanes + lane;
}
