// Eight neighbouring invocations load 4 weights each and hand them round: where each invocation's load is one of its
// own, as on software adapters, that is an eighth of the loads. Subgroups are at least 8 wide, their lanes are in the
// order of the workgroup's invocations (the self-test holds that against the adapter), and all of them are here.

fn quad_weights(at: u32, lane: u32) -> QuadWeights {
    let mine = packed[at + lane % 8u];
    return QuadWeights(
        Eight(subgroupBroadcast(mine, 0u), subgroupBroadcast(mine, 1u)),
        Eight(subgroupBroadcast(mine, 2u), subgroupBroadcast(mine, 3u)),
        Eight(subgroupBroadcast(mine, 4u), subgroupBroadcast(mine, 5u)),
        Eight(subgroupBroadcast(mine, 6u), subgroupBroadcast(mine, 7u)),
    );
}
