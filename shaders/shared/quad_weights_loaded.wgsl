// Every invocation loads all 32 weights. Where the hardware sees that neighbours load the same, that is one load.

fn quad_weights(at: u32, lane: u32) -> QuadWeights {
    return QuadWeights(
        Eight(packed[at], packed[at + 1u]),
        Eight(packed[at + 2u], packed[at + 3u]),
        Eight(packed[at + 4u], packed[at + 5u]),
        Eight(packed[at + 6u], packed[at + 7u]),
    );
}
