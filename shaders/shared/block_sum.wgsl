// The sum of the blocks of all invocations of a workgroup. Value 8r + c of a block is row r, column c.

// Invocations of the workgroup, a power of two: many hide the waiting for memory on a GPU, few leave less to add up.
override lanes: u32 = 64u;

var<workgroup> partial: array<f32, 64u * lanes>;

fn share_row(value: u32, low: vec4<f32>, high: vec4<f32>, lane: u32) {
    partial[value * lanes + lane] = low.x;
    partial[(value + 1u) * lanes + lane] = low.y;
    partial[(value + 2u) * lanes + lane] = low.z;
    partial[(value + 3u) * lanes + lane] = low.w;
    partial[(value + 4u) * lanes + lane] = high.x;
    partial[(value + 5u) * lanes + lane] = high.y;
    partial[(value + 6u) * lanes + lane] = high.z;
    partial[(value + 7u) * lanes + lane] = high.w;
}

// To be called once, by all invocations, before `block_sum`.
fn share(block: ptr<function, Block>, lane: u32) {
    share_row(0u, (*block)[0], (*block)[1], lane);
    share_row(8u, (*block)[2], (*block)[3], lane);
    share_row(16u, (*block)[4], (*block)[5], lane);
    share_row(24u, (*block)[6], (*block)[7], lane);
    share_row(32u, (*block)[8], (*block)[9], lane);
    share_row(40u, (*block)[10], (*block)[11], lane);
    share_row(48u, (*block)[12], (*block)[13], lane);
    share_row(56u, (*block)[14], (*block)[15], lane);
    workgroupBarrier();
}

// The sum of one of the 64 values. Each starts at another lane's, so that no two invocations read from one memory bank
// at once.
fn block_sum(value: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < lanes; i++) {
        sum += partial[lanes * value + ((value + i) & (lanes - 1u))];
    }
    return sum;
}
