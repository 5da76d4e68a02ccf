//! The gradients of a convolution's weights and bias.

use std::ops::Range;

use super::plan::{Padded, Planner, QUAD, SCRATCH, SOURCE};
use super::windows::{Scratch, part, read};
use super::{Conv2d, Conv2dParams, Sides};
use crate::ops::bound::{BLOCK, allowed, bound};
use crate::ops::slots::slot;
use crate::{Access, PlanError, Tensor};

/// Workgroups of `backward_weight` that keep a GPU busy, and those that keep the host's cores busy.
const BUSY: usize = 1024;
const BUSY_SOFTWARE: usize = 16;
/// The slots of the copies that `pad` made, in the scratch memory too.
const PADDED_X: u32 = SCRATCH + 1;
const PADDED_DY: u32 = SCRATCH + 2;

impl Planner<'_> {
    pub(super) fn backward_weight(&mut self) -> Result<(), PlanError> {
        let Sides { c, r, s, p, q, .. } = self.sides;
        let Conv2d { stride, padding, dilation, .. } = *self.conv;
        let x_copy = Padded {
            channels: c,
            h: (p - 1) * stride.h + (r - 1) * dilation.h + 1,
            w: (q - 1) * stride.w + (s - 1) * dilation.w + 1,
            border_h: padding.h,
            border_w: padding.w,
        };
        for rows in self.rows(c.next_multiple_of(QUAD) * self.sides.taps())? {
            let dy_copy = Padded { channels: rows.len(), h: p, w: q, border_h: 0, border_w: 0 };
            let geometry = self.geometry(&rows);
            for samples in self.samples(x_copy.elements().max(dy_copy.elements()))? {
                let mut scratch = Scratch::default();
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let dy = self.y(SOURCE, Tensor::Dy, Access::Read, &samples);
                let dy_geometry = Conv2dParams {
                    source_channels: geometry.result_channels,
                    source_h: geometry.result_h,
                    source_w: geometry.result_w,
                    source_first: geometry.result_first,
                    source_count: geometry.result_count,
                    ..geometry
                };
                let x_copied = self.pad(&mut scratch, x, &samples, x_copy, &geometry)?;
                let dy_copied = self.pad(&mut scratch, dy, &samples, dy_copy, &dy_geometry)?;
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    padded_h: x_copy.h as u32,
                    padded_w: x_copy.w as u32,
                    ..geometry
                };
                self.backward_weight_slices(&mut scratch, params, &rows, [x_copied, dy_copied])?;
                self.backward_bias(&rows, &samples)?;
            }
        }
        Ok(())
    }

    /// Partial sums over slices of the samples, as many as keep the device busy, and their sum.
    fn backward_weight_slices(
        &mut self,
        scratch: &mut Scratch,
        params: Conv2dParams,
        rows: &Range<usize>,
        [x, dy]: [Range<usize>; 2],
    ) -> Result<(), PlanError> {
        let samples = params.samples as usize;
        let across = (self.sides.c.div_ceil(QUAD) * self.sides.taps()).div_ceil(BLOCK / QUAD);
        let down = rows.len().div_ceil(BLOCK);
        let elements = across * down * BLOCK * BLOCK;
        let wanted = if self.limits.software { BUSY_SOFTWARE } else { BUSY };
        let most = allowed(self.limits) / elements;
        let slices = wanted.div_ceil(across * down).min(most).clamp(1, samples);
        let slice = samples.div_ceil(slices);
        let slices = samples.div_ceil(slice);
        let sums = self.scratch(scratch, slices * elements)?;
        let dw = self.w(Tensor::Dw, Access::ReadWrite, rows);
        let params = Conv2dParams { slice: slice as u32, slices: slices as u32, w_skip: dw.skip, ..params };

        let groups = [self.dimension(across)?, self.dimension(down)?, self.dimension(slices)?];
        let bindings = vec![
            part(SCRATCH, Access::ReadWrite, &sums),
            part(PADDED_X, Access::ReadWrite, &x),
            part(PADDED_DY, Access::ReadWrite, &dy),
        ];
        self.push("backward_weight", &params, bindings, groups);

        let groups = self.flat(rows.len() * self.sides.filter())?;
        self.push("backward_weight_sum", &params, vec![dw.binding, read(SCRATCH, &sums)], groups);
        Ok(())
    }

    pub(super) fn backward_bias(&mut self, rows: &Range<usize>, samples: &Range<usize>) -> Result<(), PlanError> {
        if self.conv.bias {
            let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, samples);
            let db = bound(Tensor::Db, Access::ReadWrite, rows.clone());
            let params = Conv2dParams {
                samples: samples.len() as u32,
                result_skip: dy.skip,
                b_skip: db.skip,
                ..self.geometry(rows)
            };
            let groups = [self.dimension(rows.len())?, 1, 1];
            self.push("backward_bias", &params, vec![dy.binding, db.binding], groups);
        }
        Ok(())
    }
}
