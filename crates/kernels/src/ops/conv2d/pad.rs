//! Copies of pictures with zeros around, whose rows are whole vectors, for adapters that compute on the host's cores; see
//! `shaders/conv2d/pad_rows.wgsl` and `pad_vectors.wgsl`.

use std::ops::Range;

use super::plan::{Planner, SCRATCH};
use super::windows::{Scratch, part};
use super::{Conv2dParams, NAME};
use crate::ops::bound::Bound;
use crate::{Access, PlanError, Shader, workgroups};

/// Elements of a vector.
const VECTOR: usize = 4;

/// The padded copy needs no definitions: one module serves all.
static PAD: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/pad_rows.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

/// The same for pictures whose rows are whole vectors.
static PAD_VECTORS: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/pad_vectors.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};
/// Invocations of a workgroup of `pad_vectors`, and its rows, which the shader's `quotient` can tell apart.
const PAD_GROUP: usize = 8;
const MOST_ROWS: usize = (1 << 20) - 1;

/// A copy of a picture whose first tap of the first result lies at its start: sides, and zeros before the first row
/// and column of the picture (fewer than none where the first taps lie inside it).
#[derive(Debug, Clone, Copy)]
pub(super) struct Copied {
    pub(super) channels: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) border_h: i64,
    pub(super) border_w: i64,
}

impl Copied {
    pub(super) const fn elements(&self) -> usize {
        self.channels.saturating_mul(self.h).saturating_mul(self.w)
    }
}

impl Planner<'_> {
    /// Copies the `source` of `geometry` with zeros around it, and returns where to.
    pub(super) fn pad_rows(
        &mut self,
        scratch: &mut Scratch,
        source: Bound,
        copied: Copied,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let elements = geometry.samples as usize * copied.elements();
        let copy = self.scratch(scratch, elements.max(VECTOR))?;
        if elements == 0 {
            return Ok(copy);
        }
        let params = Conv2dParams { source_skip: source.skip, ..padded(geometry, copied) };
        let rows = geometry.samples as usize * copied.channels * copied.h;
        if geometry.source_w.is_multiple_of(4) && source.skip.is_multiple_of(4) && rows <= MOST_ROWS {
            // The vector of the picture with the copy's first pixel, and how many pixels of it lie before that.
            let shift = (-copied.border_w).rem_euclid(VECTOR as i64);
            let origin_w = ((copied.border_w + shift) / VECTOR as i64) as u32;
            let bindings = vec![source.binding, part(SCRATCH, Access::Write, &copy)];
            let groups = workgroups(NAME, rows.div_ceil(PAD_GROUP), self.limits)?;
            let params = Conv2dParams { origin_w, ..params };
            self.push_expanded(&PAD_VECTORS, vec![("SHIFT", shift as u32)], "pad_vectors", &params, bindings, groups);
            return Ok(copy);
        }
        let groups = [self.dimension(copied.channels)?, self.dimension(geometry.samples as usize)?, 1];
        let bindings = vec![source.binding, part(SCRATCH, Access::Write, &copy)];
        self.push_expanded(&PAD, Vec::new(), "pad_rows", &params, bindings, groups);
        Ok(copy)
    }
}

/// `geometry` with the sides and borders of a copy.
pub(super) fn padded(geometry: &Conv2dParams, copied: Copied) -> Conv2dParams {
    Conv2dParams {
        // Negative borders wrap, as the shader's indices do.
        padding_h: copied.border_h as u32,
        padding_w: copied.border_w as u32,
        padded_h: copied.h as u32,
        padded_w: copied.w as u32,
        ..*geometry
    }
}
