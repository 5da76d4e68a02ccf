//! The products of a linear layer in registers, for adapters that compute on the host's cores; see
//! `shaders/linear/direct.wgsl`.

use std::ops::Range;

use super::plan::Planner;
use super::{LinearParams, NAME};
use crate::{Access, Pass, PlanError, Requirements, Shader, Tensor, Variant};

/// Elements of a vector.
const VECTOR: usize = 4;
/// Invocations of a workgroup whose lanes share nothing.
const ALONE: usize = 8;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/nan.wgsl"),
        include_str!("../../../shaders/shared/stored.wgsl"),
        include_str!("../../../shaders/linear/params.wgsl"),
        include_str!("../../../shaders/linear/direct.wgsl"),
    ],
    uniform: LinearParams::LAYOUT,
};

/// The block that one invocation computes, and how many lanes share the loading of its left operand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direct {
    name: &'static str,
    rows: usize,
    columns: usize,
    depth: usize,
    lanes: usize,
}

/// The members of the family, those first that suit most shapes.
const FAMILY: [Direct; 5] = [
    Direct { name: "direct-32x8x4", rows: 32, columns: 8, depth: 4, lanes: 8 },
    Direct { name: "direct-16x8x8", rows: 16, columns: 8, depth: 8, lanes: 8 },
    Direct { name: "direct-8x8x8", rows: 8, columns: 8, depth: 8, lanes: 8 },
    Direct { name: "direct-8x8x8-narrow", rows: 8, columns: 8, depth: 8, lanes: 4 },
    Direct { name: "direct-8x8x4-alone", rows: 8, columns: 8, depth: 4, lanes: 0 },
];

impl Direct {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FAMILY.iter().find(|member| member.name == name)
    }

    pub(super) fn variants(pass: Pass) -> impl Iterator<Item = Variant> {
        FAMILY.iter().filter(move |_| pass != Pass::Update).map(move |member| Variant {
            name: member.name,
            pass,
            requires: Requirements { subgroup_min: member.lanes as u32, software: true, ..Requirements::PORTABLE },
        })
    }

    fn definitions(&self, aligned: bool) -> Vec<(&'static str, u32)> {
        vec![
            ("ROWS", self.rows as u32),
            ("COLUMNS", self.columns as u32),
            ("DEPTH", self.depth as u32),
            ("LANES", self.lanes as u32),
            ("ALIGNED", u32::from(aligned)),
        ]
    }

    /// Columns of a workgroup.
    fn width(&self) -> usize {
        self.columns * if self.lanes == 0 { ALONE } else { self.lanes }
    }
}

impl Planner<'_> {
    pub(super) fn direct(
        &mut self,
        direct: &Direct,
        pass: Pass,
        rows: &Range<usize>,
        samples: &Range<usize>,
    ) -> Result<(), PlanError> {
        self.whole_vectors(direct, pass, rows)?;
        let params = self.params(rows, samples);
        let (inputs, outputs) = (self.sides.inputs, self.sides.outputs);
        let (x_access, y_access) = match pass {
            Pass::Forward => (Access::Read, Access::Write),
            Pass::BackwardInput if rows.start > 0 => (Access::ReadWrite, Access::Read),
            Pass::BackwardInput => (Access::Write, Access::Read),
            _ => (Access::Read, Access::Read),
        };
        let x = self.x(if pass == Pass::BackwardInput { Tensor::Dx } else { Tensor::X }, x_access, samples);
        let y = self.y(if pass == Pass::Forward { Tensor::Y } else { Tensor::Dy }, y_access, samples);
        let w = match pass {
            Pass::BackwardWeight => self.w(Tensor::Dw, Access::ReadWrite, rows),
            _ => self.w(Tensor::W, Access::Read, rows),
        };
        let b = self.bias(rows);
        let params = LinearParams {
            x_skip: x.skip,
            y_skip: y.skip,
            w_skip: w.skip,
            b_skip: b.skip,
            accumulate: u32::from(x_access == Access::ReadWrite),
            ..params
        };
        let (height, width) = match pass {
            Pass::Forward => (samples.len(), rows.len()),
            Pass::BackwardInput => (samples.len(), inputs),
            _ => (rows.len(), inputs),
        };
        let groups = [self.blocks(width, direct.width())?, self.blocks(height, direct.rows)?, 1];
        let mut bindings = vec![x.binding, w.binding, y.binding];
        if pass == Pass::Forward {
            bindings.push(b.binding);
        }
        let aligned = outputs.is_multiple_of(VECTOR) && (y.skip as usize + rows.start).is_multiple_of(VECTOR);
        let stored = self.stored(pass, &mut bindings);
        let definitions = [&direct.definitions(aligned)[..], &stored].concat();
        self.push_expanded(&SHADER, definitions, pass.name(), &params, bindings, groups);
        if pass == Pass::BackwardWeight {
            self.backward_bias(rows, samples)?;
        }
        Ok(())
    }

    /// Refuses sides that vectors do not divide.
    fn whole_vectors(&self, direct: &Direct, pass: Pass, rows: &Range<usize>) -> Result<(), PlanError> {
        let outputs = [self.sides.outputs, rows.start, rows.len()];
        let whole = |count: &usize| count.is_multiple_of(VECTOR);
        if whole(&self.sides.inputs) && (pass == Pass::Forward || outputs.iter().all(whole)) {
            return Ok(());
        }
        Err(PlanError::Unsuited {
            operation: NAME,
            variant: direct.name,
            why: format!("{} inputs and {} outputs are not whole vectors of {VECTOR}", self.sides.inputs, outputs[0]),
        })
    }
}
