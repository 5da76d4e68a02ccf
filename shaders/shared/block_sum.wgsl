// The sum of the blocks of 64 invocations. Lane 8r + c receives row r, column c.

var<workgroup> partial: array<f32, 4096>;

fn share_row(row: u32, low: vec4<f32>, high: vec4<f32>, lane: u32) {
    let at = 512u * row + lane;
    partial[at] = low.x;
    partial[at + 64u] = low.y;
    partial[at + 128u] = low.z;
    partial[at + 192u] = low.w;
    partial[at + 256u] = high.x;
    partial[at + 320u] = high.y;
    partial[at + 384u] = high.z;
    partial[at + 448u] = high.w;
}

// To be called once, by all 64 invocations.
fn block_sum(block: ptr<function, Block>, lane: u32) -> f32 {
    share_row(0u, (*block)[0], (*block)[1], lane);
    share_row(1u, (*block)[2], (*block)[3], lane);
    share_row(2u, (*block)[4], (*block)[5], lane);
    share_row(3u, (*block)[6], (*block)[7], lane);
    share_row(4u, (*block)[8], (*block)[9], lane);
    share_row(5u, (*block)[10], (*block)[11], lane);
    share_row(6u, (*block)[12], (*block)[13], lane);
    share_row(7u, (*block)[14], (*block)[15], lane);
    workgroupBarrier();
    // Each lane starts at another place, so that no two read from one memory bank at once.
    var sum = 0.0;
    for (var i = 0u; i < 64u; i++) {
        sum += partial[64u * lane + ((lane + i) & 63u)];
    }
    return sum;
}
