//! How a dispatch of a convolution gets into its plan.

use super::super::bound::{BLOCK, BLOCK_LANES, dimension, flat, lanes};
use super::plan::{Planner, RESULT};
use super::{Conv2dParams, NAME};
use crate::fusion::Stored;
use crate::{Binding, Dispatch, Fusion, Kernel, Pass, PlanError, Shader, workgroups};

impl Planner<'_> {
    /// One invocation for 8 neighbours of each row of the grid, and a plane of workgroups for every 8 channels.
    pub(super) fn tiles(&self, params: &Conv2dParams) -> Result<[u32; 3], PlanError> {
        let tiles = params.samples as usize * params.grid_h as usize * (params.grid_w as usize).div_ceil(BLOCK);
        let [x, y, _] = workgroups(NAME, tiles.div_ceil(BLOCK_LANES), self.limits)?;
        Ok([x, y, self.dimension((params.result_count as usize).div_ceil(BLOCK))?])
    }

    pub(super) fn flat(&self, elements: usize) -> Result<[u32; 3], PlanError> {
        flat(NAME, elements, self.limits)
    }

    pub(super) fn dimension(&self, count: usize) -> Result<u32, PlanError> {
        dimension(NAME, count, self.limits)
    }

    pub(super) fn push(
        &mut self,
        entry: &'static str,
        params: &Conv2dParams,
        bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let constants = if entry == "backward_weight" { lanes(self.limits) } else { Vec::new() };
        let definitions = Fusion::no_definitions().to_vec();
        self.push_kernel(Kernel { shader: self.shader, entry, definitions, constants }, params, bindings, workgroups);
    }

    /// A kernel that stores the results of a pass.
    pub(super) fn push_storing(
        &mut self,
        (pass, entry): (Pass, &'static str),
        params: &Conv2dParams,
        mut bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let definitions = self.stored(pass, &mut bindings).to_vec();
        self.push_expanded(self.shader, definitions, entry, params, bindings, workgroups);
    }

    /// What the kernels of a pass are expanded with, and where one stores the results, what it is bound to besides.
    pub(super) fn stored(&self, pass: Pass, bindings: &mut Vec<Binding>) -> Stored {
        self.conv.fusion.bound(pass, RESULT, bindings)
    }

    pub(super) fn push_expanded(
        &mut self,
        shader: &'static Shader,
        definitions: Vec<(&'static str, u32)>,
        entry: &'static str,
        params: &Conv2dParams,
        bindings: Vec<Binding>,
        workgroups: [u32; 3],
    ) {
        let kernel = Kernel { shader, entry, definitions, constants: Vec::new() };
        self.push_kernel(kernel, params, bindings, workgroups);
    }

    fn push_kernel(&mut self, kernel: Kernel, params: &Conv2dParams, bindings: Vec<Binding>, workgroups: [u32; 3]) {
        let uniform = bytemuck::bytes_of(params).to_vec();
        self.plan.dispatches.push(Dispatch { kernel, bindings, uniform, workgroups });
    }
}
