//! A linear layer's products in tiles, for GPUs.

use std::ops::Range;

use super::plan::Planner;
use super::{LinearTilesParams, NAME, TILES};
use crate::fusion::Stored;
use crate::ops::bound::{Bound, bound_to, flat};
use crate::ops::gemm;
use crate::ops::slots::slot;
use crate::{Access, Binding, Dispatch, Fusion, Pass, PlanError, Tensor};

/// Where the operands and the result of every product are bound.
const LEFT: u32 = slot(Tensor::X);
const RIGHT: u32 = slot(Tensor::W);
const RESULT: u32 = slot(Tensor::Y);

/// One product, ready to be cut into slices.
struct Product {
    pass: Pass,
    entry: &'static str,
    sum: &'static str,
    params: LinearTilesParams,
    /// With the bias, where the product has one.
    operands: Vec<Binding>,
    result: Bound,
}

impl Planner<'_> {
    /// The pass on some rows of `w` and some samples, with a member of the family.
    pub(super) fn in_tiles(
        &mut self,
        member: usize,
        pass: Pass,
        rows: &Range<usize>,
        samples: &Range<usize>,
    ) -> Result<(), PlanError> {
        let product = match pass {
            Pass::Forward => self.forward_product(rows, samples),
            Pass::BackwardInput => self.backward_input_product(rows, samples),
            Pass::BackwardWeight => self.backward_weight_product(rows, samples),
            Pass::Update => return Ok(()),
        };
        self.push_product(member, product)?;
        if pass == Pass::BackwardWeight {
            self.backward_bias(rows, samples)?;
        }
        Ok(())
    }

    /// Samples × outputs over inputs.
    fn forward_product(&self, rows: &Range<usize>, samples: &Range<usize>) -> Product {
        let x = at_slot(LEFT, self.x(Tensor::X, Access::Read, samples));
        let w = at_slot(RIGHT, self.w(Tensor::W, Access::Read, rows));
        let y = at_slot(RESULT, self.y(Tensor::Y, Access::Write, samples));
        let b = self.bias(rows);
        let inputs = self.sides.inputs as u32;
        let params = LinearTilesParams {
            rows: samples.len() as u32,
            columns: rows.len() as u32,
            depth: inputs,
            left_skip: x.skip,
            left_row: inputs,
            left_depth: 1,
            right_skip: w.skip,
            right_column: inputs,
            right_depth: 1,
            result_skip: y.skip + rows.start as u32,
            result_row: self.sides.outputs as u32,
            b_skip: b.skip,
            has_bias: u32::from(self.linear.bias),
            ..bytemuck::Zeroable::zeroed()
        };
        let operands = vec![x.binding, w.binding, b.binding];
        Product { pass: Pass::Forward, entry: "forward", sum: "forward_sum", params, operands, result: y }
    }

    /// Samples × inputs over outputs. Where `w` is cut by rows, the first piece writes `dx` and the others add to it.
    fn backward_input_product(&self, rows: &Range<usize>, samples: &Range<usize>) -> Product {
        let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
        let dy = at_slot(LEFT, self.y(Tensor::Dy, Access::Read, samples));
        let w = at_slot(RIGHT, self.w(Tensor::W, Access::Read, rows));
        let dx = at_slot(RESULT, self.x(Tensor::Dx, access, samples));
        let inputs = self.sides.inputs as u32;
        let params = LinearTilesParams {
            rows: samples.len() as u32,
            columns: inputs,
            depth: rows.len() as u32,
            left_skip: dy.skip + rows.start as u32,
            left_row: self.sides.outputs as u32,
            left_depth: 1,
            right_skip: w.skip,
            right_column: 1,
            right_depth: inputs,
            result_skip: dx.skip,
            result_row: inputs,
            ..bytemuck::Zeroable::zeroed()
        };
        let entry = if self.aligned() { "backward_input_aligned" } else { "backward_input" };
        let operands = vec![dy.binding, w.binding];
        Product { pass: Pass::BackwardInput, entry, sum: "gradient_sum", params, operands, result: dx }
    }

    /// Outputs × inputs over samples.
    fn backward_weight_product(&self, rows: &Range<usize>, samples: &Range<usize>) -> Product {
        let dy = at_slot(LEFT, self.y(Tensor::Dy, Access::Read, samples));
        let x = at_slot(RIGHT, self.x(Tensor::X, Access::Read, samples));
        let dw = at_slot(RESULT, self.w(Tensor::Dw, Access::ReadWrite, rows));
        let inputs = self.sides.inputs as u32;
        let params = LinearTilesParams {
            rows: rows.len() as u32,
            columns: inputs,
            depth: samples.len() as u32,
            left_skip: dy.skip + rows.start as u32,
            left_row: 1,
            left_depth: self.sides.outputs as u32,
            right_skip: x.skip,
            right_column: 1,
            right_depth: inputs,
            result_skip: dw.skip,
            result_row: inputs,
            ..bytemuck::Zeroable::zeroed()
        };
        let entry = if self.aligned() { "backward_weight_aligned" } else { "backward_weight" };
        let operands = vec![dy.binding, x.binding];
        Product { pass: Pass::BackwardWeight, entry, sum: "gradient_sum", params, operands, result: dw }
    }

    /// Whether every row of `w` and `x` can be loaded in vectors of four, however they are bound.
    const fn aligned(&self) -> bool {
        self.sides.inputs.is_multiple_of(4)
    }

    fn push_product(&mut self, member: usize, product: Product) -> Result<(), PlanError> {
        let Product { pass, entry, sum, params, mut operands, result } = product;
        let accumulate = result.binding.access == Access::ReadWrite;
        let sides = [params.rows, params.columns, params.depth].map(|side| side as usize);
        let grid = gemm::TILES[member].grid(NAME, sides, self.limits)?;
        let params = LinearTilesParams { slice: grid.slice as u32, slices: grid.slices as u32, ..params };
        if grid.slices == 1 {
            operands.push(result.binding);
            let stored = self.linear.fusion.bound(pass, RESULT, &mut operands);
            self.push_tiles(member, (entry, stored), accumulate, &params, operands, grid.workgroups);
            return Ok(());
        }
        let elements = grid.slices * sides[0] * sides[1];
        let partials = bound_to(RESULT, Tensor::Workspace, Access::Write, 0..elements).binding;
        self.plan.workspace = self.plan.workspace.max(elements);
        let b = operands.iter().find(|binding| binding.slot == slot(Tensor::B)).cloned();
        operands.push(partials.clone());
        let into_scratch = LinearTilesParams { result_skip: 0, result_row: params.columns, has_bias: 0, ..params };
        self.push_tiles(member, (entry, Fusion::no_definitions()), false, &into_scratch, operands, grid.workgroups);

        let mut bindings = vec![result.binding];
        bindings.extend(b);
        bindings.push(Binding { slot: slot(Tensor::Workspace), access: Access::Read, ..partials });
        let groups = flat(NAME, sides[0] * sides[1], self.limits)?;
        let stored = self.linear.fusion.bound(pass, RESULT, &mut bindings);
        self.push_tiles(member, (sum, stored), accumulate, &params, bindings, groups);
        Ok(())
    }

    fn push_tiles(
        &mut self,
        member: usize,
        (entry, stored): (&'static str, Stored),
        accumulate: bool,
        params: &LinearTilesParams,
        bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let kernel = gemm::kernel(&TILES, member, entry, accumulate, stored);
        let uniform = bytemuck::bytes_of(params).to_vec();
        self.plan.dispatches.push(Dispatch { kernel, bindings, uniform, workgroups });
    }
}

fn at_slot(slot: u32, bound: Bound) -> Bound {
    Bound { binding: Binding { slot, ..bound.binding }, skip: bound.skip }
}
