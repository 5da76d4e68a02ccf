//! Direct convolution in registers, for adapters that compute on the host's cores; see `shaders/conv2d/direct.wgsl`.

use std::ops::Range;

use super::pad::{Copied, padded};
use super::phase::{Phase, phases};
use super::plan::{Planner, RESULT, SCRATCH, SOURCE};
use super::windows::{Scratch, every, part, read};
use super::{Conv2d, Conv2dParams, NAME};
use crate::ops::bound::dimension;
use crate::{Access, Binding, Pass, PlanError, Requirements, Shader, Tensor, Variant, workgroups};

/// Invocations of a workgroup.
const GROUP: usize = 64;
/// Elements of a vector.
const VECTOR: usize = 4;
/// Multiply-adds of one unrolled loop body; more of them outgrow the instruction caches of the host's cores.
const MOST_UNROLLED: usize = 1152;
/// Filters with more columns, longer strides and wider dilations would unroll into too much.
const MOST_COLUMNS: usize = 11;
const MOST_STRIDE: usize = 4;
const MOST_DILATION: usize = 4;

/// Tiles of a dispatch: the shader's `quotient` is exact below 2²⁰, and the last workgroup may be ragged.
const MOST_TILES: usize = (1 << 20) - GROUP;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/shared/nan.wgsl"),
        include_str!("../../../shaders/shared/stored.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/put.wgsl"),
        include_str!("../../../shaders/conv2d/direct.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

/// What one invocation computes, and how many lanes share the loading of its weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Direct {
    pub(super) name: &'static str,
    pub(super) out_channels: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) lanes: usize,
}

/// The members of the family, those first that suit most shapes.
const FAMILY: [Direct; 5] = [
    Direct { name: "direct-16x2x4", out_channels: 16, rows: 2, columns: 4, lanes: 8 },
    Direct { name: "direct-8x2x8", out_channels: 8, rows: 2, columns: 8, lanes: 8 },
    Direct { name: "direct-8x2x4", out_channels: 8, rows: 2, columns: 4, lanes: 8 },
    Direct { name: "direct-8x2x4-narrow", out_channels: 8, rows: 2, columns: 4, lanes: 4 },
    Direct { name: "direct-8x2x4-alone", out_channels: 8, rows: 2, columns: 4, lanes: 0 },
];

impl Direct {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FAMILY.iter().find(|member| member.name == name)
    }

    /// The members that can compute a pass of `conv`.
    pub(super) fn variants(conv: &Conv2d, pass: Pass) -> impl Iterator<Item = Variant> {
        let Conv2d { kernel, stride, dilation, .. } = *conv;
        let suits = pass != Pass::Update
            && stride.h.max(stride.w) <= MOST_STRIDE
            && dilation.h.max(dilation.w) <= MOST_DILATION
            && kernel.w <= MOST_COLUMNS;
        FAMILY.iter().filter(move |_| suits).map(move |member| Variant {
            name: member.name,
            pass,
            requires: Requirements { subgroup_min: member.lanes as u32, software: true, ..Requirements::PORTABLE },
        })
    }

    /// Rows of the filter that one loop body takes: all of a small filter, so that rows of pixels serve several.
    pub(super) fn taps_h(&self, filter_h: usize, filter_w: usize) -> usize {
        let results = self.out_channels * self.rows * self.columns;
        if results * filter_h * filter_w <= MOST_UNROLLED { filter_h } else { 1 }
    }

    /// Tiles of a sample, for one block of channels.
    fn tiles(&self, params: &Conv2dParams) -> usize {
        (params.grid_w as usize).div_ceil(self.columns) * (params.grid_h as usize).div_ceil(self.rows)
    }

    /// Elements of a block of packed weights, which lanes load together.
    fn block(&self, taps: usize) -> usize {
        (self.out_channels * taps).next_multiple_of(VECTOR * self.lanes.max(1))
    }
}

impl Planner<'_> {
    pub(super) fn forward_direct(&mut self, direct: &Direct) -> Result<(), PlanError> {
        let (conv, sides) = (self.conv, self.sides);
        for rows in self.rows(2 * direct.block(sides.taps()) * sides.c)? {
            let geometry = self.geometry(&rows);
            let copied = copied(direct, &geometry, [conv.padding.h as i64, conv.padding.w as i64]);
            let mut scratch = Scratch::default();
            let packed = self.pack_rows((direct, Pass::Forward), &mut scratch, &rows, &geometry)?;
            for samples in self.counted_samples(direct, &geometry, copied)? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let y = self.y(RESULT, Tensor::Y, Access::Write, &samples);
                let b = self.bias(&rows);
                let geometry = Conv2dParams { samples: samples.len() as u32, b_skip: b.skip, ..geometry };
                let copy = self.pad_rows(&mut scratch.clone(), x, copied, &geometry)?;
                let params = Conv2dParams { result_skip: y.skip, ..padded(&geometry, copied) };
                let bindings = vec![b.binding, y.binding, read(SCRATCH, &copy), read(SCRATCH + 1, &packed)];
                let groups = self.direct_groups(direct, &params)?;
                self.push_direct(direct, (Pass::Forward, "forward"), &params, bindings, groups);
            }
        }
        Ok(())
    }

    /// A correlation of `dy` with flipped filters for each phase of the stride. Where `w` is cut by rows, the first piece
    /// writes `dx` and the others add to it.
    pub(super) fn backward_input_direct(&mut self, direct: &Direct) -> Result<(), PlanError> {
        let (conv, sides) = (self.conv, self.sides);
        let down = phases(sides.h, sides.r, conv.stride.h, conv.padding.h, conv.dilation.h);
        let across = phases(sides.w, sides.s, conv.stride.w, conv.padding.w, conv.dilation.w);
        for rows in self.rows(2 * direct.block(sides.taps()) * sides.c.div_ceil(direct.out_channels))? {
            for (down, across) in down.iter().flat_map(|down| across.iter().map(move |across| (down, across))) {
                self.backward_input_phase(direct, &rows, down, across)?;
            }
        }
        Ok(())
    }

    fn backward_input_phase(
        &mut self,
        direct: &Direct,
        rows: &Range<usize>,
        down: &Phase,
        across: &Phase,
    ) -> Result<(), PlanError> {
        // Where the copy lies is told by `Copied`; the padded sides of a phase are not used here.
        let mut geometry = self.phase_geometry(rows, super::plan::Padded::NONE, down, across);
        if geometry.filter_h == 0 {
            // Positions that meet no tap are sums over no channels.
            geometry = Conv2dParams { source_count: 0, filter_h: 1, filter_w: 1, ..geometry };
        }
        let copied = copied(direct, &geometry, [down.padding, across.padding]);
        let mut scratch = Scratch::default();
        let packed = self.pack_rows((direct, Pass::BackwardInput), &mut scratch, rows, &geometry)?;
        for samples in self.counted_samples(direct, &geometry, copied)? {
            let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
            let dy = self.y(SOURCE, Tensor::Dy, Access::Read, &samples);
            let dx = self.x(RESULT, Tensor::Dx, access, &samples);
            let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
            let copy = self.pad_rows(&mut scratch.clone(), dy, copied, &geometry)?;
            let params = Conv2dParams { result_skip: dx.skip, ..padded(&geometry, copied) };
            let bindings = vec![dx.binding, read(SCRATCH, &copy), read(SCRATCH + 1, &packed)];
            let groups = self.direct_groups(direct, &params)?;
            self.push_direct(direct, (Pass::BackwardInput, "backward_input"), &params, bindings, groups);
        }
        Ok(())
    }

    /// Ranges of samples as [`Planner::samples`], with no more tiles than the shader can tell apart.
    fn counted_samples(
        &self,
        direct: &Direct,
        geometry: &Conv2dParams,
        copied: Copied,
    ) -> Result<Vec<Range<usize>>, PlanError> {
        let fitting = self.samples(copied.elements())?;
        let tiles = direct.tiles(geometry);
        let most = MOST_TILES / tiles;
        if most == 0 {
            let why = format!("{tiles} tiles of one sample are more than the {MOST_TILES} it can tell apart");
            return Err(PlanError::Unsuited { operation: NAME, variant: direct.name, why });
        }
        Ok(fitting.into_iter().flat_map(|range| every(range, most)).collect())
    }

    fn pack_rows(
        &mut self,
        (direct, pass): (&Direct, Pass),
        scratch: &mut Scratch,
        rows: &Range<usize>,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let (filter_h, filter_w) = (geometry.filter_h as usize, geometry.filter_w as usize);
        let taps_h = direct.taps_h(filter_h, filter_w);
        let depth = geometry.source_count as usize * (filter_h / taps_h);
        let blocks = (geometry.result_count as usize).div_ceil(direct.out_channels) * depth;
        let elements = blocks * direct.block(taps_h * filter_w);
        // Something must be bound where there is nothing to pack, too.
        let packed = self.scratch(scratch, elements.max(VECTOR))?;
        if elements == 0 {
            return Ok(packed);
        }
        let w = self.w(Tensor::W, Access::Read, rows);
        let params = Conv2dParams { w_skip: w.skip, ..*geometry };
        let groups = self.flat(elements)?;
        let bindings = vec![w.binding, part(SCRATCH + 1, Access::Write, &packed)];
        self.push_direct(direct, (pass, "pack_rows"), &params, bindings, groups);
        Ok(packed)
    }

    /// An invocation for each tile of results, and a plane of workgroups for the channels of a tile.
    fn direct_groups(&self, direct: &Direct, params: &Conv2dParams) -> Result<[u32; 3], PlanError> {
        let tiles = params.samples as usize * direct.tiles(params);
        let [x, y, _] = workgroups(NAME, tiles.div_ceil(GROUP), self.limits)?;
        let planes = (params.result_count as usize).div_ceil(direct.out_channels);
        Ok([x, y, dimension(NAME, planes, self.limits)?])
    }

    /// What a pass is made of has one text, with what is fused to it: reading it takes longer than compiling `pack_rows`.
    fn push_direct(
        &mut self,
        direct: &Direct,
        (pass, entry): (Pass, &'static str),
        params: &Conv2dParams,
        mut bindings: Vec<Binding>,
        groups: [u32; 3],
    ) {
        let taps_h = direct.taps_h(params.filter_h as usize, params.filter_w as usize);
        let whole = params.result_w.is_multiple_of(4) && params.result_skip.is_multiple_of(4);
        let aligned = whole && params.step_w == 1;
        let mut definitions = vec![
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
            ("ROW_LOOP", u32::from(taps_h < params.filter_h as usize)),
            ("ALIGNED", u32::from(aligned)),
            ("ACCUMULATE", params.accumulate),
            ("STEP_W", params.step_w),
        ];
        definitions.extend(self.stored(pass, &mut bindings));
        self.push_expanded(&SHADER, definitions, entry, params, bindings, groups);
    }
}

/// The copy that the tiles of `direct` read for the whole grid of `geometry`.
pub(super) fn copied(direct: &Direct, geometry: &Conv2dParams, [border_h, border_w]: [i64; 2]) -> Copied {
    let reach = |grid: u32, block: usize, stride: u32, filter: u32, dilation: u32| {
        let last = ((grid as usize).next_multiple_of(block) - 1) * stride as usize;
        last + (filter as usize - 1) * dilation as usize + 1
    };
    let Conv2dParams { grid_h, grid_w, stride_h, stride_w, filter_h, filter_w, .. } = *geometry;
    let w = reach(grid_w, direct.columns, stride_w, filter_w, geometry.dilation_w);
    Copied {
        channels: geometry.source_count as usize,
        h: reach(grid_h, direct.rows, stride_h, filter_h, geometry.dilation_h),
        // Tiles read whole vectors; that of the last one may go beyond its last tap.
        w: w.next_multiple_of(VECTOR),
        border_h,
        border_w,
    }
}
