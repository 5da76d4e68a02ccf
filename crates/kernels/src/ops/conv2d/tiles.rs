//! A convolution's products in tiles, for GPUs.

use std::ops::Range;

use bytemuck::Zeroable;

use super::phase::{Phase, phases};
use super::plan::{Planner, RESULT, SCRATCH, SOURCE};
use super::windows::{Scratch, part, read};
use super::{Conv2dTilesParams, NAME, Sides, TILES};
use crate::fusion::Stored;
use crate::ops::bound::Bound;
use crate::ops::gemm;
use crate::ops::slots::slot;
use crate::{Access, Binding, Dispatch, Fusion, Pass, PlanError, Tensor};

/// Where the left operand is bound.
const LEFT: u32 = slot(Tensor::W);

/// One product, ready to be cut into slices.
struct Product {
    pass: Pass,
    entry: &'static str,
    sum: &'static str,
    params: Conv2dTilesParams,
    /// With the bias, where the product has one.
    operands: Vec<Binding>,
    result: Bound,
}

impl Planner<'_> {
    /// A pass with a member of the family.
    pub(super) fn in_tiles(&mut self, member: usize, pass: Pass) -> Result<(), PlanError> {
        let product = match pass {
            Pass::Forward => Self::forward_product,
            Pass::BackwardWeight => Self::backward_weight_product,
            Pass::BackwardInput => return self.backward_input_tiles(member),
            Pass::Update => return Ok(()),
        };
        for rows in self.rows(0)? {
            for samples in self.samples(0)? {
                let product = product(self, &rows, &samples);
                self.push_product(member, product)?;
                if pass == Pass::BackwardWeight {
                    self.backward_bias(&rows, &samples)?;
                }
            }
        }
        Ok(())
    }

    /// A product for each phase of the stride. Where `w` is cut by rows, the first piece writes `dx` and the others add
    /// to it.
    fn backward_input_tiles(&mut self, member: usize) -> Result<(), PlanError> {
        let (conv, Sides { h, w, r, s, .. }) = (self.conv, self.sides);
        let down = phases(h, r, conv.stride.h, conv.padding.h, conv.dilation.h);
        let across = phases(w, s, conv.stride.w, conv.padding.w, conv.dilation.w);
        for rows in self.rows(0)? {
            for samples in self.samples(0)? {
                for down in &down {
                    for across in &across {
                        let product = self.backward_input_product(&rows, &samples, down, across);
                        self.push_product(member, product)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Output channels × positions over the elements of a filter.
    fn forward_product(&self, rows: &Range<usize>, samples: &Range<usize>) -> Product {
        let Sides { p, q, .. } = self.sides;
        let x = self.x(SOURCE, Tensor::X, Access::Read, samples);
        let y = self.y(RESULT, Tensor::Y, Access::Write, samples);
        let (w, b) = (self.w(Tensor::W, Access::Read, rows), self.bias(rows));
        let params = Conv2dTilesParams {
            rows: rows.len() as u32,
            columns: (samples.len() * p * q) as u32,
            depth: self.sides.filter() as u32,
            left_skip: w.skip,
            left_row: self.sides.filter() as u32,
            left_outer: self.sides.taps() as u32,
            left_down: self.sides.s as u32,
            left_right: 1,
            result_skip: y.skip + (rows.start * p * q) as u32,
            result_row: (p * q) as u32,
            result_sample: self.sides.y() as u32,
            result_down: q as u32,
            result_right: 1,
            b_skip: b.skip,
            has_bias: u32::from(self.conv.bias),
            ..self.picture(x.skip)
        };
        let operands = vec![x.binding, w.binding, b.binding];
        Product { pass: Pass::Forward, entry: "forward", sum: "forward_sum", params, operands, result: y }
    }

    /// Output channels × elements of a filter over positions.
    fn backward_weight_product(&self, rows: &Range<usize>, samples: &Range<usize>) -> Product {
        let Sides { p, q, .. } = self.sides;
        let x = self.x(SOURCE, Tensor::X, Access::Read, samples);
        let dy = self.y(LEFT, Tensor::Dy, Access::Read, samples);
        let mut dw = self.w(Tensor::Dw, Access::ReadWrite, rows);
        dw.binding.slot = RESULT;
        let params = Conv2dTilesParams {
            rows: rows.len() as u32,
            columns: self.sides.filter() as u32,
            depth: (samples.len() * p * q) as u32,
            left_skip: dy.skip + (rows.start * p * q) as u32,
            left_row: (p * q) as u32,
            left_outer: self.sides.y() as u32,
            left_down: q as u32,
            left_right: 1,
            result_skip: dw.skip,
            result_row: self.sides.filter() as u32,
            ..self.picture(x.skip)
        };
        let operands = vec![x.binding, dy.binding];
        let (entry, sum) = ("backward_weight", "backward_weight_sum");
        Product { pass: Pass::BackwardWeight, entry, sum, params, operands, result: dw }
    }

    /// Input channels × positions of a phase over output channels and the taps that these positions meet.
    fn backward_input_product(
        &self,
        rows: &Range<usize>,
        samples: &Range<usize>,
        down: &Phase,
        across: &Phase,
    ) -> Product {
        let Sides { c, h, w, s, p, q, .. } = self.sides;
        let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
        let dy = self.y(SOURCE, Tensor::Dy, Access::Read, samples);
        let dx = self.x(RESULT, Tensor::Dx, access, samples);
        let weights = self.w(Tensor::W, Access::Read, rows);
        let params = Conv2dTilesParams {
            rows: c as u32,
            columns: (samples.len() * down.grid * across.grid) as u32,
            depth: (rows.len() * down.taps * across.taps) as u32,
            left_skip: weights.skip + (down.last_tap * s + across.last_tap) as u32,
            left_row: self.sides.taps() as u32,
            left_outer: self.sides.filter() as u32,
            left_down: ((down.tap_step * s) as u32).wrapping_neg(),
            left_right: (across.tap_step as u32).wrapping_neg(),
            source_skip: dy.skip + (rows.start * p * q) as u32,
            source_sample: self.sides.y() as u32,
            source_plane: (p * q) as u32,
            source_h: p as u32,
            source_w: q as u32,
            grid_h: down.grid as u32,
            grid_w: across.grid as u32,
            stride_h: 1,
            stride_w: 1,
            origin_h: down.origin(0) as u32,
            origin_w: across.origin(0) as u32,
            // Without taps the depth is zero; but the shader divides by these.
            filter_h: down.taps.max(1) as u32,
            filter_w: across.taps.max(1) as u32,
            dilation_h: down.dilation as u32,
            dilation_w: across.dilation as u32,
            result_skip: dx.skip + (down.first * w + across.first) as u32,
            result_row: (h * w) as u32,
            result_sample: self.sides.x() as u32,
            result_down: (self.conv.stride.h * w) as u32,
            result_right: self.conv.stride.w as u32,
            ..Conv2dTilesParams::zeroed()
        };
        let operands = vec![dy.binding, weights.binding];
        let (entry, sum) = ("backward_input", "backward_input_sum");
        Product { pass: Pass::BackwardInput, entry, sum, params, operands, result: dx }
    }

    /// What is the same wherever x is the source.
    fn picture(&self, skip: u32) -> Conv2dTilesParams {
        let (conv, Sides { h, w, r, s, p, q, .. }) = (self.conv, self.sides);
        Conv2dTilesParams {
            source_skip: skip,
            source_sample: self.sides.x() as u32,
            source_plane: (h * w) as u32,
            source_h: h as u32,
            source_w: w as u32,
            grid_h: p as u32,
            grid_w: q as u32,
            stride_h: conv.stride.h as u32,
            stride_w: conv.stride.w as u32,
            origin_h: (conv.padding.h as u32).wrapping_neg(),
            origin_w: (conv.padding.w as u32).wrapping_neg(),
            filter_h: r as u32,
            filter_w: s as u32,
            dilation_h: conv.dilation.h as u32,
            dilation_w: conv.dilation.w as u32,
            ..Conv2dTilesParams::zeroed()
        }
    }

    fn push_product(&mut self, member: usize, product: Product) -> Result<(), PlanError> {
        let Product { pass, entry, sum, params, mut operands, result } = product;
        let accumulate = result.binding.access == Access::ReadWrite;
        let sides = [params.rows, params.columns, params.depth].map(|side| side as usize);
        let grid = gemm::TILES[member].grid(NAME, sides, self.limits)?;
        let params = Conv2dTilesParams { slice: grid.slice as u32, slices: grid.slices as u32, ..params };
        if grid.slices == 1 {
            operands.push(result.binding);
            let stored = self.conv.fusion.bound(pass, RESULT, &mut operands);
            self.push_tiles(member, (entry, stored), accumulate, &params, operands, grid.workgroups);
            return Ok(());
        }
        let partials = self.scratch(&mut Scratch::default(), grid.slices * sides[0] * sides[1])?;
        let b = operands.iter().find(|binding| binding.slot == slot(Tensor::B)).cloned();
        operands.push(part(RESULT, Access::Write, &partials));
        let into_scratch = Conv2dTilesParams { result_skip: 0, result_row: params.columns, has_bias: 0, ..params };
        self.push_tiles(member, (entry, Fusion::no_definitions()), false, &into_scratch, operands, grid.workgroups);

        let mut bindings = vec![result.binding, read(SCRATCH, &partials)];
        bindings.extend(b);
        let groups = self.flat(sides[0] * sides[1])?;
        let stored = self.conv.fusion.bound(pass, RESULT, &mut bindings);
        self.push_tiles(member, (sum, stored), accumulate, &params, bindings, groups);
        Ok(())
    }

    fn push_tiles(
        &mut self,
        member: usize,
        (entry, stored): (&'static str, Stored),
        accumulate: bool,
        params: &Conv2dTilesParams,
        bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let kernel = gemm::kernel(&TILES, member, entry, accumulate, stored);
        let uniform = bytemuck::bytes_of(params).to_vec();
        self.plan.dispatches.push(Dispatch { kernel, bindings, uniform, workgroups });
    }
}
