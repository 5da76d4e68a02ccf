//! The gradient of the bias, for adapters that compute on the host's cores; see `shaders/conv2d/sum_bias.wgsl`.

use std::ops::Range;

use super::plan::Planner;
use super::{Conv2dParams, NAME};
use crate::ops::bound::bound;
use crate::ops::slots::slot;
use crate::{Access, PlanError, Shader, Tensor};

/// Channels of a workgroup, one for each lane.
const GROUP: usize = 8;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/sum_bias.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

impl Planner<'_> {
    /// As [`Planner::backward_bias`], without workgroup memory and barriers.
    pub(super) fn sum_bias(&mut self, rows: &Range<usize>, samples: &Range<usize>) -> Result<(), PlanError> {
        if !self.conv.bias {
            return Ok(());
        }
        let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, samples);
        let db = bound(Tensor::Db, Access::ReadWrite, rows.clone());
        let vectors = (self.sides.p * self.sides.q).is_multiple_of(4) && dy.skip.is_multiple_of(4);
        let params = Conv2dParams {
            samples: samples.len() as u32,
            result_skip: dy.skip,
            b_skip: db.skip,
            ..self.geometry(rows)
        };
        let groups = [self.dimension(rows.len().div_ceil(GROUP))?, 1, 1];
        let definitions = vec![("VECTORS", u32::from(vectors))];
        self.push_expanded(&SHADER, definitions, "sum_bias", &params, vec![dy.binding, db.binding], groups);
        Ok(())
    }
}
