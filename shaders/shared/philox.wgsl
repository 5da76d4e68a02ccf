// Philox4x32-10, a counter-based random number generator (Salmon et al., Parallel random numbers: as easy as 1, 2, 3,
// SC 2011). Integers only: the same on every adapter. Its twin is in crates/kernels/src/ops/dropout.rs.

fn multiply_high(a: u32, b: u32) -> u32 {
    let a_low = a & 0xffffu;
    let a_high = a >> 16u;
    let b_low = b & 0xffffu;
    let b_high = b >> 16u;
    let first = a_high * b_low + ((a_low * b_low) >> 16u);
    let second = a_low * b_high + (first & 0xffffu);
    return a_high * b_high + (first >> 16u) + (second >> 16u);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round++) {
        let high_0 = multiply_high(0xd2511f53u, c.x);
        let high_2 = multiply_high(0xcd9e8d57u, c.z);
        c = vec4<u32>(high_2 ^ c.y ^ k.x, 0xcd9e8d57u * c.z, high_0 ^ c.w ^ k.y, 0xd2511f53u * c.x);
        k += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}
