//! Interleaved 1F1B: several layer-blocks a device, so that the pipes fill in a fraction of the time (Narayanan et al.
//! 2021).
//!
//! Each layer-block is a stage. Of P devices and V layer-blocks on each, stage s is block s / P of device s mod P. A device
//! has one row for all of its blocks; the row of a stage is what of it is the stage's own, and the turns say where its
//! actions stand in the row of the device.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::{Action, Verb};
use crate::batch::microbatches;

/// Layer-blocks of each device, two at least.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks(usize);

impl Blocks {
    /// Two: the fewest that interleave.
    pub const TWO: Self = Self(2);

    /// How many.
    pub const fn count(self) -> usize {
        self.0
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Blocks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count @ 2..) => Ok(Self(count)),
            _ => Err(format!("`{text}` is no number of layer-blocks from 2 on")),
        }
    }
}

/// What one device does in a step: for each action but the update, the block and the action, in order. `first` is the
/// step's first microbatch.
///
/// Microbatches go through the blocks in groups. With g in the first and largest, the device runs
/// 2(P − 1 − p) + (V − 1)·g + 1 forwards, then a backward and a forward in turn, then the backwards that are left; fewer
/// forwards where the step has not as many.
pub(super) fn device_row(
    device: usize,
    devices: usize,
    blocks: usize,
    first: usize,
    count: usize,
) -> Vec<(usize, Action)> {
    let groups = groups(devices, count);
    let largest = groups.first().map_or(0, ExactSizeIterator::len);
    let warmup = 2 * (devices - 1 - device) + (blocks - 1) * largest + 1;
    let mut forwards = through(&groups, blocks).map(|(block, m)| (block, Action::forward(first + m)));
    let mut row: Vec<_> = forwards.by_ref().take(warmup).collect();
    for (block, m) in through(&groups, blocks) {
        row.push((blocks - 1 - block, Action::backward(first + m)));
        row.extend(forwards.next());
    }
    row
}

/// As many groups as have a microbatch for each device, as equal as possible: the published groups of P where P divides the
/// number of microbatches. A group of fewer than P would let two devices wait for one another.
fn groups(devices: usize, count: usize) -> Vec<Range<usize>> {
    microbatches(count, (count / devices).max(1))
}

/// Every block and microbatch: a group of microbatches through all blocks, then the next group.
fn through(groups: &[Range<usize>], blocks: usize) -> impl Iterator<Item = (usize, usize)> {
    groups.iter().flat_map(move |group| (0..blocks).flat_map(move |block| group.clone().map(move |m| (block, m))))
}

/// Steps of more microbatches a device hold no more than shorter ones: their groups are hardly larger than the devices are
/// many, and the row repeats itself. A test holds that.
pub(super) const TELLING: usize = 4;

/// Most microbatches of a row whose forward is done and whose backward is not.
pub(super) fn most_in_flight(row: &[Action]) -> usize {
    let begun = row.iter().scan(0usize, |begun, action| {
        *begun = if action.verb == Verb::Forward { *begun + 1 } else { *begun - 1 };
        Some(*begun)
    });
    begun.max().unwrap_or(0)
}
