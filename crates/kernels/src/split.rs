//! Work cut into dispatches: ranges that fit a binding, workgroup counts that fit a dimension.

use std::ops::Range;

use crate::{Limits, PlanError};

/// Elements of the strictest offset alignment among adapters: 256 bytes.
const ALIGNMENT: usize = 64;

/// Cuts `count` items into the fewest equal ranges such that of each of `tensors`, given by its name for errors and its
/// elements an item, every range fits one binding and starts at an aligned element.
///
/// # Errors
/// Where a single aligned group of items is already larger than a binding.
pub(crate) fn chunks_together(
    operation: &'static str,
    count: usize,
    tensors: &[(&str, usize)],
    limits: &Limits,
) -> Result<Vec<Range<usize>>, PlanError> {
    let allowed = usize::try_from(limits.binding_bytes / 4).unwrap_or(usize::MAX);
    let &(what, stride) = tensors.iter().max_by_key(|(_, stride)| *stride).unwrap_or(&("nothing", 1));
    if count.saturating_mul(stride) <= allowed {
        return Ok(std::iter::once(0..count).collect());
    }
    // Powers of two: the largest is a multiple of the others.
    let group = tensors.iter().map(|(_, stride)| ALIGNMENT / gcd(*stride, ALIGNMENT)).max().unwrap_or(1);
    let most = allowed / stride / group * group;
    if most == 0 {
        return Err(PlanError::Limit {
            operation,
            what: format!("one binding of {what}"),
            needed: format!("{} bytes", 4 * group * stride),
            allowed: format!("{} bytes", limits.binding_bytes),
        });
    }
    let parts = count.div_ceil(most);
    let length = count.div_ceil(parts).next_multiple_of(group);
    Ok((0..count).step_by(length).map(|start| start..count.min(start + length)).collect())
}

/// Cuts `count` items into the fewest equal ranges such that the [`window`] of each range fits one binding, whatever
/// the items' sizes: for tensors of `strides` elements an item, cut at the same items. `what` names them in the error.
///
/// # Errors
/// Where a single item is already larger than a binding.
pub(crate) fn pieces(
    operation: &'static str,
    what: &str,
    count: usize,
    strides: &[usize],
    limits: &Limits,
) -> Result<Vec<Range<usize>>, PlanError> {
    let allowed = usize::try_from(limits.binding_bytes / 4).unwrap_or(usize::MAX);
    let stride = strides.iter().copied().max().unwrap_or(1);
    if count.saturating_mul(stride) <= allowed {
        return Ok(std::iter::once(0..count).collect());
    }
    // A window may begin up to an alignment before its range.
    let most = allowed.saturating_sub(ALIGNMENT - 1) / stride;
    if most == 0 {
        return Err(PlanError::Limit {
            operation,
            what: format!("one binding of {what}"),
            needed: format!("{} bytes", 4 * (stride + ALIGNMENT - 1)),
            allowed: format!("{} bytes", limits.binding_bytes),
        });
    }
    let length = count.div_ceil(count.div_ceil(most));
    Ok((0..count).step_by(length).map(|start| start..count.min(start + length)).collect())
}

/// What to bind to see `range`: from the aligned element at or before its start, and how many elements to skip there.
pub(crate) const fn window(range: Range<usize>) -> (Range<usize>, u32) {
    let start = range.start / ALIGNMENT * ALIGNMENT;
    (start..range.end, (range.start - start) as u32)
}

/// Workgroups in x and y for `total` workgroups in a row; shaders find theirs as x + y · (workgroups in x).
///
/// # Errors
/// Where even the square of the limit does not suffice.
pub(crate) fn workgroups(operation: &'static str, total: usize, limits: &Limits) -> Result<[u32; 3], PlanError> {
    let most = limits.workgroups_per_dimension as usize;
    let y = total.div_ceil(most).max(1);
    if y > most {
        return Err(PlanError::Limit {
            operation,
            what: "a dispatch".into(),
            needed: format!("{total} workgroups"),
            allowed: format!("{most} × {most}"),
        });
    }
    Ok([total.div_ceil(y) as u32, y as u32, 1])
}

const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_cover_everything_in_aligned_pieces(count in 1usize..5000, stride in 1usize..9000, kib in 64u64..4096) {
            let limits = Limits { binding_bytes: kib << 10, ..Limits::PORTABLE };
            if let Ok(ranges) = chunks_together("test", count, &[("x", stride)], &limits) {
                prop_assert_eq!(ranges.first().map(|r| r.start), Some(0));
                prop_assert_eq!(ranges.last().map(|r| r.end), Some(count));
                for pair in ranges.windows(2) {
                    prop_assert_eq!(pair[0].end, pair[1].start);
                }
                for range in &ranges {
                    prop_assert!(range.len() * stride * 4 <= limits.binding_bytes as usize);
                    prop_assert_eq!(range.start * stride % ALIGNMENT, 0);
                }
            }
        }

        #[test]
        fn pieces_cover_everything_in_windows_that_fit(count in 1usize..5000, a in 1usize..900, b in 1usize..900, kib in 4u64..64) {
            let limits = Limits { binding_bytes: kib << 10, ..Limits::PORTABLE };
            let ranges = pieces("test", "x", count, &[a, b], &limits).unwrap();
            prop_assert_eq!(ranges.iter().cloned().flatten().collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            for range in &ranges {
                for stride in [a, b] {
                    let (bound, skip) = window(range.start * stride..range.end * stride);
                    prop_assert!(bound.len() * 4 <= limits.binding_bytes as usize);
                    prop_assert_eq!(bound.start % ALIGNMENT, 0);
                    prop_assert_eq!(bound.start + skip as usize, range.start * stride);
                }
            }
        }

        #[test]
        fn chunks_together_are_aligned_in_every_tensor(count in 1usize..5000, a in 1usize..900, b in 1usize..900) {
            let limits = Limits { binding_bytes: 256 << 10, ..Limits::PORTABLE };
            let ranges = chunks_together("test", count, &[("x", a), ("y", b)], &limits).unwrap();
            prop_assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), count);
            for range in &ranges {
                prop_assert!(range.len() * a.max(b) * 4 <= limits.binding_bytes as usize);
                prop_assert!(range.start * a % ALIGNMENT == 0 && range.start * b % ALIGNMENT == 0);
            }
        }

        #[test]
        fn workgroups_cover_the_total(total in 1usize..10_000_000) {
            let [x, y, z] = workgroups("test", total, &Limits::PORTABLE).unwrap();
            prop_assert!(x as usize * y as usize >= total && z == 1 && x <= 65535 && y <= 65535);
        }
    }
}
