//! The gradient of filters of 1 × 1 in registers, for adapters that compute on the host's cores; see
//! `shaders/conv2d/pointwise_weight.wgsl`.

use std::ops::Range;

use super::plan::{Planner, SCRATCH, SOURCE};
use super::pointwise::Pointwise;
use super::windows::{Scratch, part, read};
use super::{Conv2dParams, NAME};
use crate::ops::bound::allowed;
use crate::ops::slots::slot;
use crate::{Access, PlanError, Shader, Tensor};

/// Workgroups that keep the host's cores busy, and evenly so.
const BUSY: usize = 16;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/pointwise_weight.wgsl"),
        include_str!("../../../shaders/conv2d/sum_slices.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

impl Planner<'_> {
    pub(super) fn backward_weight_pointwise(&mut self, pointwise: &Pointwise) -> Result<(), PlanError> {
        for rows in self.rows(0)? {
            for samples in self.whole_planes(pointwise)? {
                self.slices_pointwise(pointwise, &rows, &samples)?;
                self.sum_bias(&rows, &samples)?;
            }
        }
        Ok(())
    }

    /// Partial sums over slices of the samples, as many as keep the device busy, and their sum.
    fn slices_pointwise(
        &mut self,
        pointwise: &Pointwise,
        rows: &Range<usize>,
        samples: &Range<usize>,
    ) -> Result<(), PlanError> {
        let [channels, turn] = pointwise.transposed();
        let across = self.sides.c.div_ceil(channels * pointwise.group());
        let down = rows.len().div_ceil(pointwise.rows);
        let elements = rows.len() * self.sides.c;
        let most = (allowed(self.limits) / elements).max(1);
        let slice = samples.len().div_ceil(BUSY.div_ceil(across * down).min(most).min(samples.len()));
        let slices = samples.len().div_ceil(slice);
        let sums = self.scratch(&mut Scratch::default(), slices * elements)?;

        let x = self.x(SOURCE, Tensor::X, Access::Read, samples);
        let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, samples);
        let dw = self.w(Tensor::Dw, Access::ReadWrite, rows);
        let params = Conv2dParams {
            samples: samples.len() as u32,
            source_skip: x.skip,
            result_skip: dy.skip,
            w_skip: dw.skip,
            slice: slice as u32,
            slices: slices as u32,
            ..self.geometry(rows)
        };
        let definitions = vec![
            ("ROWS", pointwise.rows as u32),
            ("CHANNELS", channels as u32),
            ("TURN", turn as u32),
            ("LANES", pointwise.lanes as u32),
        ];
        let groups = [self.dimension(across)?, self.dimension(down)?, self.dimension(slices)?];
        let bindings = vec![x.binding, dy.binding, part(SCRATCH, Access::ReadWrite, &sums)];
        self.push_expanded(&SHADER, definitions.clone(), "backward_weight", &params, bindings, groups);

        let groups = self.flat(elements)?;
        let bindings = vec![dw.binding, read(SCRATCH, &sums)];
        self.push_expanded(&SHADER, definitions, "sum_slices", &params, bindings, groups);
        Ok(())
    }
}
