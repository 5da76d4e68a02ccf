//! What a dispatch of a convolution is bound to: windows of its tensors, and parts of the scratch memory.

use std::ops::Range;

use super::super::bound::{BLOCK, Bound, bound, bound_to, fits, scaled};
use super::super::slots::slot;
use super::NAME;
use super::plan::Planner;
use crate::{Access, Binding, PlanError, Tensor, pieces};

/// Elements of a padded copy beyond which the samples are cut, so that scratch memory stays small: 16 MiB.
const MOST_PADDED: usize = 1 << 22;

impl Planner<'_> {
    /// Ranges of rows of `w`, in whole blocks, such that `w` and scratch memory of `stride` elements a row fit bindings.
    pub(super) fn rows(&self, stride: usize) -> Result<Vec<Range<usize>>, PlanError> {
        let k = self.sides.k;
        let stride = stride.max(self.sides.filter());
        let blocks = pieces(NAME, "w", k.div_ceil(BLOCK), &[BLOCK * stride], self.limits)?;
        Ok(blocks.into_iter().map(|range| range.start * BLOCK..k.min(range.end * BLOCK)).collect())
    }

    /// Ranges of samples such that `x`, `y` and copies of `padded` elements a sample fit bindings, and the copies are
    /// no larger than needed.
    pub(super) fn samples(&self, padded: usize) -> Result<Vec<Range<usize>>, PlanError> {
        let strides = [self.sides.x(), self.sides.y(), padded];
        let most = (MOST_PADDED / padded.max(1)).max(1);
        let fitting = pieces(NAME, "a sample", self.sides.n, &strides, self.limits)?;
        Ok(fitting.into_iter().flat_map(|range| every(range, most)).collect())
    }

    pub(super) fn x(&self, slot: u32, tensor: Tensor, access: Access, samples: &Range<usize>) -> Bound {
        bound_to(slot, tensor, access, scaled(samples, self.sides.x()))
    }

    pub(super) fn y(&self, slot: u32, tensor: Tensor, access: Access, samples: &Range<usize>) -> Bound {
        bound_to(slot, tensor, access, scaled(samples, self.sides.y()))
    }

    pub(super) fn w(&self, tensor: Tensor, access: Access, rows: &Range<usize>) -> Bound {
        bound(tensor, access, scaled(rows, self.sides.filter()))
    }

    /// The bias, or where there is none something else to read that is not used: a slot cannot stay empty.
    pub(super) fn bias(&self, rows: &Range<usize>) -> Bound {
        if self.conv.bias {
            bound(Tensor::B, Access::Read, rows.clone())
        } else {
            bound_to(slot(Tensor::B), Tensor::W, Access::Read, 0..1)
        }
    }

    /// The next `elements` of the scratch memory.
    pub(super) fn scratch(&mut self, scratch: &mut Scratch, elements: usize) -> Result<Range<usize>, PlanError> {
        fits(NAME, elements, self.limits)?;
        let start = scratch.used.next_multiple_of(64);
        scratch.used = start + elements;
        let needed = 4 * scratch.used as u64;
        if needed > self.limits.buffer_bytes {
            return Err(PlanError::Limit {
                operation: NAME,
                what: "scratch memory".into(),
                needed: format!("{needed} bytes"),
                allowed: format!("{} bytes", self.limits.buffer_bytes),
            });
        }
        self.plan.workspace = self.plan.workspace.max(scratch.used);
        Ok(start..scratch.used)
    }
}

/// A range cut into pieces of at most `most`.
pub(super) fn every(range: Range<usize>, most: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range.step_by(most).map(move |start| start..end.min(start + most))
}

/// How much of the scratch memory is taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Scratch {
    used: usize,
}

pub(super) fn part(slot: u32, access: Access, range: &Range<usize>) -> Binding {
    Binding { slot, tensor: Tensor::Workspace, access, range: range.clone() }
}

pub(super) fn read(slot: u32, range: &Range<usize>) -> Binding {
    part(slot, Access::Read, range)
}
