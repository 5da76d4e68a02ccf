//! The dispatches of a linear layer. What does not fit a binding is cut by rows of `w` and by samples.

use std::ops::Range;

use bytemuck::Zeroable;

use super::super::bound::{BLOCK, BLOCK_LANES, Bound, allowed, bound, bound_to, dimension, fits, flat, lanes, scaled};
use super::super::gemm;
use super::super::slots::slot;
use super::direct::Direct;
use super::{Linear, LinearParams, NAME, SHADER, Sides};
use crate::fusion::Stored;
use crate::{
    Access, Binding, Dispatch, Fusion, Kernel, Limits, Pass, Plan, PlanError, Shader, Tensor, Variant, pieces,
};

/// Inputs that one workgroup of `backward_input` and `backward_weight` covers.
const COLUMNS: usize = BLOCK * BLOCK_LANES;
/// Workgroups that keep a GPU busy.
const BUSY: usize = 512;

pub(super) fn plan(
    linear: &Linear,
    pass: Pass,
    variant: &Variant,
    sides: Sides,
    limits: &Limits,
) -> Result<Plan, PlanError> {
    let mut planner = Planner { linear, sides, limits, plan: Plan::default() };
    let naive = variant.name == "naive";
    let member = gemm::find(variant.name);
    for rows in pieces(NAME, "w", sides.outputs, &[sides.inputs], limits)? {
        for samples in pieces(NAME, "a sample", sides.n, &[sides.inputs, sides.outputs], limits)? {
            if let Some(direct) = Direct::named(variant.name) {
                planner.direct(direct, pass, &rows, &samples)?;
                continue;
            }
            if let Some(member) = member {
                planner.in_tiles(member, pass, &rows, &samples)?;
                continue;
            }
            match pass {
                Pass::Forward => planner.forward(&rows, &samples, naive)?,
                Pass::BackwardInput => planner.backward_input(&rows, &samples, naive)?,
                Pass::BackwardWeight => planner.backward_weight(&rows, &samples, naive)?,
                Pass::Update => {}
            }
        }
    }
    Ok(planner.plan)
}

pub(super) struct Planner<'a> {
    pub(super) linear: &'a Linear,
    pub(super) sides: Sides,
    pub(super) limits: &'a Limits,
    pub(super) plan: Plan,
}

impl Planner<'_> {
    fn forward(&mut self, rows: &Range<usize>, samples: &Range<usize>, naive: bool) -> Result<(), PlanError> {
        let x = self.x(Tensor::X, Access::Read, samples);
        let y = self.y(Tensor::Y, Access::Write, samples);
        let w = self.w(Tensor::W, Access::Read, rows);
        let b = self.bias(rows);
        let params = LinearParams {
            x_skip: x.skip,
            y_skip: y.skip,
            w_skip: w.skip,
            b_skip: b.skip,
            ..self.params(rows, samples)
        };
        let bindings = vec![x.binding, w.binding, b.binding, y.binding];
        if naive {
            let groups = self.flat(samples.len() * rows.len())?;
            self.push_storing((Pass::Forward, "forward_naive"), &params, bindings, groups);
        } else {
            let groups = [self.blocks(rows.len(), BLOCK)?, self.blocks(samples.len(), BLOCK)?, 1];
            self.push_storing((Pass::Forward, "forward"), &params, bindings, groups);
        }
        Ok(())
    }

    /// Where `w` is cut by rows, the first piece writes `dx` and the others add to it.
    fn backward_input(&mut self, rows: &Range<usize>, samples: &Range<usize>, naive: bool) -> Result<(), PlanError> {
        let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
        let dx = self.x(Tensor::Dx, access, samples);
        let dy = self.y(Tensor::Dy, Access::Read, samples);
        let w = self.w(Tensor::W, Access::Read, rows);
        let params = LinearParams {
            x_skip: dx.skip,
            y_skip: dy.skip,
            w_skip: w.skip,
            accumulate: u32::from(rows.start > 0),
            ..self.params(rows, samples)
        };
        let mut bindings = vec![w.binding, dy.binding];
        if naive {
            bindings.push(dx.binding);
            let groups = self.flat(samples.len() * self.sides.inputs)?;
            self.push_storing((Pass::BackwardInput, "backward_input_naive"), &params, bindings, groups);
            return Ok(());
        }
        let slices = self.slices(rows.len(), samples.len());
        let slice = rows.len().div_ceil(slices);
        let slices = rows.len().div_ceil(slice);
        let params = LinearParams { slice: slice as u32, slices: slices as u32, ..params };
        let across = self.blocks(self.sides.inputs, COLUMNS)?;
        let groups = [across, self.blocks(samples.len(), BLOCK)?, self.blocks(slices, 1)?];
        if slices == 1 {
            bindings.push(dx.binding);
            self.push_storing((Pass::BackwardInput, "backward_input"), &params, bindings, groups);
        } else {
            let elements = slices * samples.len() * self.sides.inputs;
            fits(NAME, elements, self.limits)?;
            let partials = bound(Tensor::Workspace, Access::Write, 0..elements).binding;
            self.plan.workspace = self.plan.workspace.max(elements);
            bindings.push(Binding { slot: slot(Tensor::Dx), ..partials.clone() });
            let into_scratch = LinearParams { x_skip: 0, accumulate: 0, ..params };
            self.push("backward_input", &into_scratch, bindings, groups);
            let bindings = vec![Binding { access: Access::Read, ..partials }, dx.binding];
            let groups = self.flat(samples.len() * self.sides.inputs)?;
            self.push_storing((Pass::BackwardInput, "backward_input_sum"), &params, bindings, groups);
        }
        Ok(())
    }

    /// Slices of the rows of `w`, so many that there is work for the whole device.
    fn slices(&self, rows: usize, samples: usize) -> usize {
        if self.limits.software {
            return 1;
        }
        let groups = self.sides.inputs.div_ceil(COLUMNS) * samples.div_ceil(BLOCK);
        let most = (allowed(self.limits) / (samples * self.sides.inputs)).min(rows.div_ceil(BLOCK));
        BUSY.div_ceil(groups).clamp(1, most.max(1))
    }

    fn backward_weight(&mut self, rows: &Range<usize>, samples: &Range<usize>, naive: bool) -> Result<(), PlanError> {
        let x = self.x(Tensor::X, Access::Read, samples);
        let dy = self.y(Tensor::Dy, Access::Read, samples);
        let dw = self.w(Tensor::Dw, Access::ReadWrite, rows);
        let params = LinearParams { x_skip: x.skip, y_skip: dy.skip, w_skip: dw.skip, ..self.params(rows, samples) };
        let bindings = vec![x.binding, dw.binding, dy.binding];
        if naive {
            let groups = self.flat(rows.len() * self.sides.inputs)?;
            self.push("backward_weight_naive", &params, bindings, groups);
        } else {
            let groups = [self.blocks(self.sides.inputs, COLUMNS)?, self.blocks(rows.len(), BLOCK)?, 1];
            self.push("backward_weight", &params, bindings, groups);
        }
        self.backward_bias(rows, samples)
    }

    pub(super) fn backward_bias(&mut self, rows: &Range<usize>, samples: &Range<usize>) -> Result<(), PlanError> {
        if self.linear.bias {
            let dy = self.y(Tensor::Dy, Access::Read, samples);
            let db = bound(Tensor::Db, Access::ReadWrite, rows.clone());
            let params = LinearParams { y_skip: dy.skip, b_skip: db.skip, ..self.params(rows, samples) };
            let groups = self.flat(rows.len())?;
            self.push("backward_bias", &params, vec![db.binding, dy.binding], groups);
        }
        Ok(())
    }

    pub(super) fn params(&self, rows: &Range<usize>, samples: &Range<usize>) -> LinearParams {
        LinearParams {
            samples: samples.len() as u32,
            inputs: self.sides.inputs as u32,
            outputs: self.sides.outputs as u32,
            first: rows.start as u32,
            rows: rows.len() as u32,
            has_bias: u32::from(self.linear.bias),
            ..LinearParams::zeroed()
        }
    }

    pub(super) fn x(&self, tensor: Tensor, access: Access, samples: &Range<usize>) -> Bound {
        bound(tensor, access, scaled(samples, self.sides.inputs))
    }

    pub(super) fn y(&self, tensor: Tensor, access: Access, samples: &Range<usize>) -> Bound {
        bound(tensor, access, scaled(samples, self.sides.outputs))
    }

    pub(super) fn w(&self, tensor: Tensor, access: Access, rows: &Range<usize>) -> Bound {
        bound(tensor, access, scaled(rows, self.sides.inputs))
    }

    /// The bias, or where there is none something else to read that is not used: a slot cannot stay empty.
    pub(super) fn bias(&self, rows: &Range<usize>) -> Bound {
        if self.linear.bias {
            bound(Tensor::B, Access::Read, rows.clone())
        } else {
            bound_to(slot(Tensor::B), Tensor::W, Access::Read, 0..1)
        }
    }

    /// Workgroups in one dimension, each for `size` of `count`.
    pub(super) fn blocks(&self, count: usize, size: usize) -> Result<u32, PlanError> {
        dimension(NAME, count.div_ceil(size), self.limits)
    }

    fn flat(&self, elements: usize) -> Result<[u32; 3], PlanError> {
        flat(NAME, elements, self.limits)
    }

    fn push(&mut self, entry: &'static str, params: &LinearParams, bindings: Vec<Binding>, workgroups: [u32; 3]) {
        let definitions = Fusion::no_definitions().to_vec();
        self.push_expanded(&SHADER, definitions, entry, params, bindings, workgroups);
    }

    /// A kernel that stores the results of a pass.
    fn push_storing(
        &mut self,
        (pass, entry): (Pass, &'static str),
        params: &LinearParams,
        mut bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let constants = if entry == "forward" { lanes(self.limits) } else { Vec::new() };
        let definitions = self.stored(pass, &mut bindings).to_vec();
        self.push_kernel(Kernel { shader: &SHADER, entry, definitions, constants }, params, bindings, workgroups);
    }

    /// What a kernel is expanded with that stores the results of a pass, and what it is bound to besides.
    pub(super) fn stored(&self, pass: Pass, bindings: &mut Vec<Binding>) -> Stored {
        self.linear.fusion.bound(pass, slot(Tensor::Dx), bindings)
    }

    pub(super) fn push_expanded(
        &mut self,
        shader: &'static Shader,
        definitions: Vec<(&'static str, u32)>,
        entry: &'static str,
        params: &LinearParams,
        bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let kernel = Kernel { shader, entry, definitions, constants: Vec::new() };
        self.push_kernel(kernel, params, bindings, workgroups);
    }

    fn push_kernel(&mut self, kernel: Kernel, params: &LinearParams, bindings: Vec<Binding>, workgroups: [u32; 3]) {
        let uniform = bytemuck::bytes_of(params).to_vec();
        self.plan.dispatches.push(Dispatch { kernel, bindings, uniform, workgroups });
    }
}
