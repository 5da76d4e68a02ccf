//! Work cut into dispatches: ranges that fit a binding, workgroup counts that fit a dimension.

use std::ops::Range;

use crate::{Limits, PlanError};

/// Elements of the strictest offset alignment among adapters: 256 bytes.
const ALIGNMENT: usize = 64;

/// Why work could not be cut.
pub type SplitError = PlanError;

/// Cuts `count` items of `stride` elements each into the fewest equal ranges of items such that each range fits
/// one binding and starts at an aligned element. `what` names the tensor in the error.
///
/// # Errors
/// Where a single aligned group of items is already larger than a binding.
pub fn chunks(
    operation: &'static str,
    what: &str,
    count: usize,
    stride: usize,
    limits: &Limits,
) -> Result<Vec<Range<usize>>, SplitError> {
    let allowed = usize::try_from(limits.binding_bytes / 4).unwrap_or(usize::MAX);
    if count.saturating_mul(stride) <= allowed {
        return Ok(std::iter::once(0..count).collect());
    }
    let group = ALIGNMENT / gcd(stride, ALIGNMENT);
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

/// Workgroups in x and y for `total` workgroups in a row; shaders find theirs as x + y · (workgroups in x).
///
/// # Errors
/// Where even the square of the limit does not suffice.
pub fn workgroups(operation: &'static str, total: usize, limits: &Limits) -> Result<[u32; 3], PlanError> {
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
            if let Ok(ranges) = chunks("test", "x", count, stride, &limits) {
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
        fn workgroups_cover_the_total(total in 1usize..10_000_000) {
            let [x, y, z] = workgroups("test", total, &Limits::PORTABLE).unwrap();
            prop_assert!(x as usize * y as usize >= total && z == 1 && x <= 65535 && y <= 65535);
        }
    }
}
