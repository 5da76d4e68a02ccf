//! The weights' gradient in registers, for adapters that compute on the host's cores; see
//! `shaders/conv2d/direct_weight.wgsl`.

use std::ops::Range;

use super::direct::{Direct, copied};
use super::pad::{Copied, padded};
use super::plan::{Planner, SCRATCH, SOURCE};
use super::windows::{Scratch, part, read};
use super::{Conv2dParams, NAME};
use crate::ops::bound::{Bound, allowed};
use crate::{Access, Binding, PlanError, Shader, Tensor};

/// Workgroups that keep the host's cores busy, and evenly so.
const BUSY: usize = 16;
/// Invocations of a workgroup whose lanes have samples of their own.
const ALONE: usize = 8;
/// The slots of the pictures that are multiplied.
const PADDED_X: u32 = SCRATCH + 1;
const PADDED_DY: u32 = SCRATCH + 2;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/direct_weight.wgsl"),
        include_str!("../../../shaders/conv2d/sum_slices.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

impl Planner<'_> {
    pub(super) fn backward_weight_direct(&mut self, direct: &Direct) -> Result<(), PlanError> {
        let conv = self.conv;
        for rows in self.rows(self.sides.filter())? {
            let geometry = self.geometry(&rows);
            let x_copy = copied(direct, &geometry, [conv.padding.h as i64, conv.padding.w as i64]);
            let dy_copy = dy_copied(direct, &geometry);
            for samples in self.samples(x_copy.elements().max(dy_copy.elements()))? {
                let mut scratch = Scratch::default();
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let x = self.pad_rows(&mut scratch, x, x_copy, &geometry)?;
                let (dy, geometry) = self.dy_vectors(&mut scratch, &samples, dy_copy, &geometry)?;
                let params = Conv2dParams {
                    grid_h: (geometry.grid_h as usize).div_ceil(direct.rows) as u32,
                    grid_w: (geometry.grid_w as usize).div_ceil(direct.columns) as u32,
                    ..padded(&geometry, x_copy)
                };
                self.sums_of_slices(direct, &mut scratch, params, &rows, [part(PADDED_X, Access::ReadWrite, &x), dy])?;
                self.sum_bias(&rows, &samples)?;
            }
        }
        Ok(())
    }

    /// Where `dy` is read as whole vectors, and the geometry of that place: the tensor itself where its rows are whole
    /// tiles, else a copy that is filled up with zeros.
    fn dy_vectors(
        &mut self,
        scratch: &mut Scratch,
        samples: &Range<usize>,
        copy: Copied,
        geometry: &Conv2dParams,
    ) -> Result<(Binding, Conv2dParams), PlanError> {
        let whole = self.y(PADDED_DY, Tensor::Dy, Access::Read, samples);
        let fits = [copy.h, copy.w] == [self.sides.p, self.sides.q] && whole.skip.is_multiple_of(4);
        if fits {
            return Ok((whole.binding, Conv2dParams { result_skip: whole.skip, ..*geometry }));
        }
        let source_geometry = Conv2dParams {
            source_channels: geometry.result_channels,
            source_h: geometry.result_h,
            source_w: geometry.result_w,
            source_first: geometry.result_first,
            source_count: geometry.result_count,
            ..*geometry
        };
        let dy = Bound { binding: Binding { slot: SOURCE, ..whole.binding }, skip: whole.skip };
        let at = self.pad_rows(scratch, dy, copy, &source_geometry)?;
        let copied = Conv2dParams {
            result_channels: geometry.result_count,
            result_first: 0,
            result_h: copy.h as u32,
            result_w: copy.w as u32,
            ..*geometry
        };
        Ok((part(PADDED_DY, Access::ReadWrite, &at), copied))
    }

    /// Partial sums over slices of the samples, as many as keep the device busy, and their sum.
    fn sums_of_slices(
        &mut self,
        direct: &Direct,
        scratch: &mut Scratch,
        params: Conv2dParams,
        rows: &Range<usize>,
        [x, dy]: [Binding; 2],
    ) -> Result<(), PlanError> {
        let taps_h = direct.taps_h(self.sides.r, self.sides.s);
        let across = self.sides.c.div_ceil(direct.lanes.max(1)) * (self.sides.r / taps_h);
        let down = rows.len().div_ceil(direct.out_channels);
        let elements = rows.len() * self.sides.filter();
        let samples = params.samples as usize;
        let most = (allowed(self.limits) / elements).max(1);
        let wanted =
            if direct.lanes == 0 { ALONE * BUSY.div_ceil(across * down) } else { BUSY.div_ceil(across * down) };
        let slice = samples.div_ceil(wanted.min(most).min(samples));
        let slices = samples.div_ceil(slice);
        let sums = self.scratch(scratch, slices * elements)?;
        let dw = self.w(Tensor::Dw, Access::ReadWrite, rows);
        let params = Conv2dParams { slice: slice as u32, slices: slices as u32, w_skip: dw.skip, ..params };

        let deep = if direct.lanes == 0 { slices.div_ceil(ALONE) } else { slices };
        let groups = [self.dimension(across)?, self.dimension(down)?, self.dimension(deep)?];
        let definitions = vec![
            ("OUT_CHANNELS", direct.out_channels as u32),
            ("ROWS", direct.rows as u32),
            ("COLUMNS", direct.columns as u32),
            ("TAPS_H", taps_h as u32),
            ("TAPS_W", params.filter_w),
            ("STRIDE_H", params.stride_h),
            ("STRIDE_W", params.stride_w),
            ("DILATION_H", params.dilation_h),
            ("DILATION_W", params.dilation_w),
            ("LANES", direct.lanes as u32),
            ("COPIED", u32::from(dy.tensor == Tensor::Workspace)),
        ];
        let bindings = vec![part(SCRATCH, Access::ReadWrite, &sums), x, dy];
        self.push_expanded(&SHADER, definitions.clone(), "backward_weight", &params, bindings, groups);

        let groups = self.flat(elements)?;
        let bindings = vec![dw.binding, read(SCRATCH, &sums)];
        self.push_expanded(&SHADER, definitions, "sum_slices", &params, bindings, groups);
        Ok(())
    }
}

/// The copy of `dy` that is whole tiles.
fn dy_copied(direct: &Direct, geometry: &Conv2dParams) -> Copied {
    Copied {
        channels: geometry.result_count as usize,
        h: (geometry.result_h as usize).next_multiple_of(direct.rows),
        w: (geometry.result_w as usize).next_multiple_of(direct.columns),
        border_h: 0,
        border_w: 0,
    }
}
