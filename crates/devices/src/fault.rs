//! Fault points: named places at the seams (device, storage, link) where a test makes something go wrong.
//!
//! `BRIGADE_FAULT=site@k:kind` lets the k-th call of a site fail once, `site@k+:kind` every call from the k-th on, and
//! `site@2.5s:kind` its first call 2.5 seconds after the first call of any; several are given with commas. With `BRIGADE_FAULT_COUNTS=FILE` the calls of each site are counted, and `write_counts`
//! writes them there: a first run counts, and later runs fail each call in turn. With `BRIGADE_DISK_JOURNAL=FILE` every
//! change to the disk is noted there in its order, so that a test can play what a loss of power leaves of them.
//!
//! Without the cargo feature `faults` no fault can be told and [`at`] is nothing at all.

#[cfg(feature = "faults")]
mod armed;
#[cfg(feature = "faults")]
mod executor;

#[cfg(feature = "faults")]
pub use armed::{arm, at, happened, note, write_counts};
#[cfg(feature = "faults")]
pub(crate) use executor::{Faulty, check_there};

/// What goes wrong. Which kinds a site knows is the site's affair; one that it does not know does nothing.
/// [`Fault::Panic`], [`Fault::Hang`] and [`Fault::Kill`] work at every site and never come back from [`at`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails this once, and works when tried again.
    Transient,
    /// The device is lost, and can be opened again.
    Lost,
    /// The device is lost, and cannot be opened any more.
    Gone,
    /// There is no room on the device.
    OutOfMemory,
    /// A feature or limit is missing.
    Missing,
    /// The thread panics.
    Panic,
    /// The thread never goes on.
    Hang,
    /// The thread takes its time: a twentieth of a second.
    Slow,
    /// A device computes wrong numbers.
    Wrong,
    /// A device computes NaN.
    Nan,
    /// A message is lost.
    Drop,
    /// A message comes twice.
    Double,
    /// A message comes after the one behind it.
    Swap,
    /// A message says that it belongs to an earlier microbatch.
    Stale,
    /// One bit is flipped.
    Flip,
    /// The disk is full.
    DiskFull,
    /// The disk fails.
    Io,
    /// The process ends at once, as `kill -9` ends it.
    Kill,
}

impl Fault {
    /// Every kind with its name.
    pub const ALL: [(Self, &str); 18] = [
        (Self::Transient, "transient"),
        (Self::Lost, "lost"),
        (Self::Gone, "gone"),
        (Self::OutOfMemory, "out-of-memory"),
        (Self::Missing, "missing"),
        (Self::Panic, "panic"),
        (Self::Hang, "hang"),
        (Self::Slow, "slow"),
        (Self::Wrong, "wrong"),
        (Self::Nan, "nan"),
        (Self::Drop, "drop"),
        (Self::Double, "double"),
        (Self::Swap, "swap"),
        (Self::Stale, "stale"),
        (Self::Flip, "flip"),
        (Self::DiskFull, "disk-full"),
        (Self::Io, "io"),
        (Self::Kill, "kill"),
    ];
}

/// Notes a change to the disk, where they are noted.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn note(_: &str, _: &std::path::Path, _: Option<&std::path::Path>) {}

/// The fault that happens at this call of `site`, if one does.
#[cfg(not(feature = "faults"))]
#[inline(always)]
pub const fn at(_: &str) -> Option<Fault> {
    None
}
