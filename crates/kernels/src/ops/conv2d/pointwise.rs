//! Convolution with filters of 1 × 1 in registers, for adapters that compute on the host's cores; see
//! `shaders/conv2d/pointwise.wgsl`. The weights' gradient is in `pointwise_weight.rs`.

use std::ops::Range;

use super::phase::phases;
use super::plan::{Padded, Planner, RESULT, SCRATCH, SOURCE};
use super::windows::{Scratch, every, part, read};
use super::{Conv2d, Conv2dParams, NAME};
use crate::ops::bound::Bound;
use crate::{Access, Binding, Pass, PlanError, Requirements, Shader, Tensor, Variant};

/// Elements of a vector.
const VECTOR: usize = 4;
/// Invocations of a workgroup whose lanes share nothing.
const ALONE: usize = 8;
/// Vectors of positions of a dispatch: the shader's `quotient` is exact below 2²⁰.
const MOST_POSITIONS: usize = (1 << 20) - 64;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/shared/nan.wgsl"),
        include_str!("../../../shaders/shared/stored.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/pointwise.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

/// The block that one invocation computes, and how many lanes share the loading of filters (backward_weight: of `dy`).
#[derive(Debug, Clone, Copy)]
pub(super) struct Pointwise {
    name: &'static str,
    pub(super) rows: usize,
    columns: usize,
    depth: usize,
    pub(super) lanes: usize,
}

/// The members of the family, those first that suit most shapes.
const FAMILY: [Pointwise; 4] = [
    Pointwise { name: "pointwise-32x8x4", rows: 32, columns: 8, depth: 4, lanes: 8 },
    Pointwise { name: "pointwise-16x8x8", rows: 16, columns: 8, depth: 8, lanes: 8 },
    Pointwise { name: "pointwise-8x8x8-narrow", rows: 8, columns: 8, depth: 8, lanes: 4 },
    Pointwise { name: "pointwise-8x8x4-alone", rows: 8, columns: 8, depth: 4, lanes: 0 },
];

impl Pointwise {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FAMILY.iter().find(|member| member.name == name)
    }

    /// The members that can compute a pass of `conv`.
    pub(super) fn variants(conv: &Conv2d, pass: Pass) -> impl Iterator<Item = Variant> {
        let Conv2d { kernel, stride, padding, .. } = *conv;
        let sides = [(kernel, 1), (stride, 1), (padding, 0)];
        let suits = pass != Pass::Update && sides.iter().all(|(pair, side)| pair.h == *side && pair.w == *side);
        FAMILY.iter().filter(move |_| suits).map(move |member| Variant {
            name: member.name,
            pass,
            requires: Requirements { subgroup_min: member.lanes as u32, software: true, ..Requirements::PORTABLE },
        })
    }

    /// Invocations of a workgroup.
    pub(super) const fn group(&self) -> usize {
        if self.lanes == 0 { ALONE } else { self.lanes }
    }

    /// Channels of the source that an invocation of `backward_weight` keeps, and vectors of positions that it takes a turn:
    /// as many multiply-adds as in the other passes.
    pub(super) const fn transposed(&self) -> [usize; 2] {
        [self.columns / 2, self.depth * self.columns / 16]
    }
}

impl Planner<'_> {
    pub(super) fn pointwise(&mut self, pointwise: &Pointwise, pass: Pass) -> Result<(), PlanError> {
        match pass {
            Pass::Forward => self.forward_pointwise(pointwise),
            Pass::BackwardInput => self.backward_input_pointwise(pointwise),
            Pass::BackwardWeight => self.backward_weight_pointwise(pointwise),
            Pass::Update => Ok(()),
        }
    }

    fn forward_pointwise(&mut self, pointwise: &Pointwise) -> Result<(), PlanError> {
        for rows in self.rows(self.sides.c.next_multiple_of(pointwise.depth))? {
            let bias = self.bias(&rows);
            let geometry = Conv2dParams { b_skip: bias.skip, ..self.geometry(&rows) };
            let filters = self.pack_filters((pointwise, Pass::Forward), &rows, &geometry)?;
            for samples in self.whole_planes(pointwise)? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let y = self.y(RESULT, Tensor::Y, Access::Write, &samples);
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.push_pointwise(pointwise, Pass::Forward, &geometry, &filters, [x, y], Some(bias.binding.clone()))?;
            }
        }
        Ok(())
    }

    /// The same product with `w` transposed. Where `w` is cut by rows, the first piece writes `dx` and the others add to it.
    fn backward_input_pointwise(&mut self, pointwise: &Pointwise) -> Result<(), PlanError> {
        let (down, across) = (phases(self.sides.h, 1, 1, 0, 1), phases(self.sides.w, 1, 1, 0, 1));
        let (Some(down), Some(across)) = (down.first(), across.first()) else { return Ok(()) };
        for rows in self.rows(self.sides.c.next_multiple_of(pointwise.rows))? {
            let geometry = self.phase_geometry(&rows, Padded::NONE, down, across);
            let filters = self.pack_filters((pointwise, Pass::BackwardInput), &rows, &geometry)?;
            for samples in self.whole_planes(pointwise)? {
                let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
                let dy = self.y(SOURCE, Tensor::Dy, Access::Read, &samples);
                let dx = self.x(RESULT, Tensor::Dx, access, &samples);
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.push_pointwise(pointwise, Pass::BackwardInput, &geometry, &filters, [dy, dx], None)?;
            }
        }
        Ok(())
    }

    /// Ranges of samples, with no more positions than the shader can tell apart. Refuses planes that vectors do not divide.
    pub(super) fn whole_planes(&self, pointwise: &Pointwise) -> Result<Vec<Range<usize>>, PlanError> {
        let area = self.sides.h * self.sides.w;
        let most = MOST_POSITIONS / (area / VECTOR).max(1);
        if !area.is_multiple_of(VECTOR) || most == 0 {
            let why = format!("a plane of {area} elements is not made of whole vectors, or of too many");
            return Err(PlanError::Unsuited { operation: NAME, variant: pointwise.name, why });
        }
        Ok(self.samples(0)?.into_iter().flat_map(|range| every(range, most)).collect())
    }

    fn pack_filters(
        &mut self,
        (pointwise, pass): (&Pointwise, Pass),
        rows: &Range<usize>,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let depth = (geometry.source_count as usize).next_multiple_of(pointwise.depth);
        let count = (geometry.result_count as usize).next_multiple_of(pointwise.rows) * depth;
        let filters = self.scratch(&mut Scratch::default(), count)?;
        let w = self.w(Tensor::W, Access::Read, rows);
        let params = Conv2dParams { w_skip: w.skip, ..*geometry };
        let mut bindings = vec![w.binding, part(SCRATCH + 1, Access::Write, &filters)];
        let groups = self.flat(count)?;
        // What a pass is made of has one text, as with `direct`.
        let definitions = [&definitions(pointwise, &params)[..], &self.stored(pass, &mut bindings)].concat();
        self.push_expanded(&SHADER, definitions, "pack_filters", &params, bindings, groups);
        Ok(filters)
    }

    fn push_pointwise(
        &mut self,
        pointwise: &Pointwise,
        pass: Pass,
        geometry: &Conv2dParams,
        filters: &Range<usize>,
        [source, result]: [Bound; 2],
        bias: Option<Binding>,
    ) -> Result<(), PlanError> {
        // Windows start at multiples of an alignment that vectors divide, and so do whole planes.
        let params = Conv2dParams { source_skip: source.skip, result_skip: result.skip, ..*geometry };
        let positions = params.samples as usize * self.sides.h * self.sides.w;
        let groups = [
            self.dimension(positions.div_ceil(pointwise.group() * pointwise.columns))?,
            self.dimension((params.result_count as usize).div_ceil(pointwise.rows))?,
            1,
        ];
        let bound = [source.binding, result.binding, read(SCRATCH + 1, filters)];
        let mut bindings = bound.into_iter().chain(bias).collect();
        let definitions = [&definitions(pointwise, &params)[..], &self.stored(pass, &mut bindings)].concat();
        self.push_expanded(&SHADER, definitions, pass.name(), &params, bindings, groups);
        Ok(())
    }
}

fn definitions(pointwise: &Pointwise, params: &Conv2dParams) -> Vec<(&'static str, u32)> {
    let positions = (params.samples * params.result_h * params.result_w) as usize;
    let whole = (params.result_count as usize).is_multiple_of(pointwise.rows)
        && positions.is_multiple_of(pointwise.group() * pointwise.columns);
    vec![
        ("ROWS", pointwise.rows as u32),
        ("COLUMNS", pointwise.columns as u32),
        ("DEPTH", pointwise.depth as u32),
        ("LANES", pointwise.lanes as u32),
        ("WHOLE", u32::from(whole)),
        ("ACCUMULATE", params.accumulate),
    ]
}
