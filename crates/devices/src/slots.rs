//! How large allocations are, and which programs share staging slots: what an executor allocates and a plan counts.

use brigade_kernels::Dispatch;

/// Upload slots of a ring: one that the device reads, and one that is filled meanwhile. Its own submission sets a slot
/// free, so that more would only be memory.
pub(crate) const UPLOADS: usize = 2;

/// Transfers outside of programs go in pieces of at most so many bytes, so that their staging memory stays small.
pub(crate) const PIECE: usize = 8 << 20;

/// Uniforms start at multiples of this: the strictest alignment among adapters.
pub(crate) const UNIFORM_ALIGNMENT: usize = 256;

/// Bytes of one timestamp.
pub(crate) const STAMP_BYTES: u64 = 8;

/// Timestamps of a submission that is not profiled: at its start and at its end.
pub(crate) const AROUND: u32 = 2;

/// Smaller slots are all of this size, in rings of their own: a few bytes need not wait for a slot of many.
const SMALL: u64 = 64 << 10;

/// The direction of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Host to device, for every program: a slot is free again as soon as its submission has finished.
    Up,
    /// Device to host, for the programs of one lane: a slot is free when whoever has its contents lets go of them.
    Down {
        /// See [`crate::Program::lane`].
        lane: usize,
    },
}

/// Direction and slot size of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slots {
    pub(crate) way: Way,
    pub(crate) bytes: u64,
}

impl Slots {
    /// What holds at least `bytes`.
    pub(crate) fn new(way: Way, bytes: u64) -> Self {
        let bytes = if bytes <= SMALL { SMALL } else { bytes.next_multiple_of(256) };
        Self { way, bytes }
    }

    /// The smallest of `rings` that serve where these slots are wanted.
    pub(crate) fn among(self, rings: impl Iterator<Item = Self>) -> Option<usize> {
        let small = |slots: &Self| slots.bytes <= SMALL;
        let serves = |ring: &Self| ring.way == self.way && ring.bytes >= self.bytes && small(ring) == small(&self);
        let serving = rings.enumerate().filter(|(_, ring)| serves(ring));
        serving.min_by_key(|(_, ring)| ring.bytes).map(|(index, _)| index)
    }
}

/// Bytes of a buffer that holds at least `bytes`.
pub(crate) fn buffer_bytes(bytes: u64) -> u64 {
    bytes.max(16).next_multiple_of(16)
}

/// Bytes of what a program brings back: its downloads, and timestamps behind them.
pub(crate) fn returned_bytes(downloads: u64, stamps: u64) -> u64 {
    downloads.next_multiple_of(8) + stamps
}

/// The uniforms of a program, one after another.
pub(crate) fn uniforms<'a>(dispatches: impl Iterator<Item = &'a Dispatch>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for dispatch in dispatches.filter(|dispatch| !dispatch.uniform.is_empty()) {
        bytes.extend_from_slice(&dispatch.uniform);
        bytes.resize(bytes.len().next_multiple_of(UNIFORM_ALIGNMENT), 0);
    }
    bytes
}
