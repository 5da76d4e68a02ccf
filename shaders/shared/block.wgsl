// Sums of products in registers: each invocation holds a block of 8 rows × 8 columns, so that 16 values loaded
// serve 64 multiply-adds. Everything is unrolled by hand: an index that is not a literal would move the block out of
// the registers.

struct Eight {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Row r lies at 2r (columns 0 to 3) and 2r + 1 (columns 4 to 7).
alias Block = array<vec4<f32>, 16>;

// block[r][c] += rows[r] · columns[c]
fn multiply_add(block: ptr<function, Block>, rows: Eight, columns: Eight) {
    (*block)[0] += rows.low.x * columns.low;
    (*block)[1] += rows.low.x * columns.high;
    (*block)[2] += rows.low.y * columns.low;
    (*block)[3] += rows.low.y * columns.high;
    (*block)[4] += rows.low.z * columns.low;
    (*block)[5] += rows.low.z * columns.high;
    (*block)[6] += rows.low.w * columns.low;
    (*block)[7] += rows.low.w * columns.high;
    (*block)[8] += rows.high.x * columns.low;
    (*block)[9] += rows.high.x * columns.high;
    (*block)[10] += rows.high.y * columns.low;
    (*block)[11] += rows.high.y * columns.high;
    (*block)[12] += rows.high.z * columns.low;
    (*block)[13] += rows.high.z * columns.high;
    (*block)[14] += rows.high.w * columns.low;
    (*block)[15] += rows.high.w * columns.high;
}

// Where eight neighbouring rows (or columns) start in a buffer.
struct Offsets {
    low: vec4<u32>,
    high: vec4<u32>,
}

// Rows `first` to `first` + 7 of `length` elements. Those beyond `last` repeat it; nobody reads their results.
fn offsets(first: u32, last: u32, length: u32, skip: u32) -> Offsets {
    let low = min(first + vec4(0u, 1u, 2u, 3u), vec4(last));
    let high = min(first + vec4(4u, 5u, 6u, 7u), vec4(last));
    return Offsets(low * length + skip, high * length + skip);
}
