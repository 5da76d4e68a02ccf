//! The dispatches of a convolution.
//!
//! What does not fit a binding is cut by rows of `w` (output channels) and by samples. Each piece is bound through a
//! window that may start a few elements early; the kernel is told how many to skip.

use std::ops::Range;

use bytemuck::Zeroable;

use super::super::bound::{BLOCK, Bound};
use super::super::gemm;
use super::super::slots::slot;
use super::direct::Direct;
use super::phase::{Phase, phases};
use super::pointwise::Pointwise;
use super::windows::{Scratch, part, read};
use super::winograd::Winograd;
use super::winograd_tiles::WinogradTiles;
use super::{BROADCAST, Conv2d, Conv2dParams, SHADER, Sides};
use crate::{Access, Limits, Pass, Plan, PlanError, Shader, Tensor, Variant};

/// Channels that the padded copies of pictures hold in one vector.
pub(super) const QUAD: usize = 4;
/// Phases of `backward_input` beyond which a dispatch for each is too many.
const MOST_PHASES: usize = 64;
/// The slots of the picture that is read and of the one that is written.
pub(super) const SOURCE: u32 = slot(Tensor::X);
pub(super) const RESULT: u32 = slot(Tensor::Y);
/// The slots of parts of the scratch memory.
pub(super) const SCRATCH: u32 = slot(Tensor::Workspace);
const PACKED: u32 = SCRATCH + 1;

pub(super) fn plan(
    conv: &Conv2d,
    pass: Pass,
    variant: &Variant,
    sides: Sides,
    limits: &Limits,
) -> Result<Plan, PlanError> {
    let shader = if variant.name == "broadcast" { &BROADCAST } else { &SHADER };
    let mut planner = Planner { conv, sides, limits, shader, plan: Plan::default() };
    if let Some(direct) = Direct::named(variant.name) {
        match pass {
            Pass::Forward => planner.forward_direct(direct)?,
            Pass::BackwardInput => planner.backward_input_direct(direct)?,
            Pass::BackwardWeight => planner.backward_weight_direct(direct)?,
            Pass::Update => {}
        }
        return Ok(planner.plan);
    }
    if let Some(winograd) = Winograd::named(variant.name) {
        match pass {
            Pass::Forward => planner.forward_winograd(winograd)?,
            Pass::BackwardInput => planner.backward_input_winograd(winograd)?,
            Pass::BackwardWeight | Pass::Update => {}
        }
        return Ok(planner.plan);
    }
    if let Some(winograd) = WinogradTiles::named(variant.name) {
        planner.in_winograd_tiles(winograd, pass)?;
        return Ok(planner.plan);
    }
    if let Some(pointwise) = Pointwise::named(variant.name) {
        planner.pointwise(pointwise, pass)?;
        return Ok(planner.plan);
    }
    let many_phases = conv.stride.h * conv.stride.w > MOST_PHASES;
    if let Some(member) = gemm::find(variant.name).filter(|_| pass != Pass::BackwardInput || !many_phases) {
        planner.in_tiles(member, pass)?;
        return Ok(planner.plan);
    }
    match (pass, variant.name == "naive") {
        (Pass::Forward, true) => planner.forward_naive()?,
        (Pass::Forward, false) => planner.forward()?,
        (Pass::BackwardInput, naive) if naive || many_phases => planner.backward_input_naive()?,
        (Pass::BackwardInput, _) => planner.backward_input()?,
        (Pass::BackwardWeight, true) => planner.backward_weight_naive()?,
        (Pass::BackwardWeight, false) => planner.backward_weight()?,
        (Pass::Update, _) => {}
    }
    Ok(planner.plan)
}

pub(super) struct Planner<'a> {
    pub(super) conv: &'a Conv2d,
    pub(super) sides: Sides,
    pub(super) limits: &'a Limits,
    pub(super) shader: &'static Shader,
    pub(super) plan: Plan,
}

/// A padded copy of a picture: sides, and zeros before the first row and column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Padded {
    pub(super) channels: usize,
    pub(super) h: usize,
    pub(super) w: usize,
    pub(super) border_h: usize,
    pub(super) border_w: usize,
}

impl Padded {
    /// No copy.
    pub(super) const NONE: Self = Self { channels: 0, h: 0, w: 0, border_h: 0, border_w: 0 };

    /// Elements of a sample.
    pub(super) const fn elements(&self) -> usize {
        self.channels.next_multiple_of(QUAD).saturating_mul(self.h).saturating_mul(self.w)
    }
}

impl Planner<'_> {
    fn forward(&mut self) -> Result<(), PlanError> {
        let Sides { c, r, s, p, q, .. } = self.sides;
        let Conv2d { padding, dilation, .. } = *self.conv;
        let geometry = self.geometry(&(0..0));
        let padded = Padded {
            channels: c,
            h: (p - 1) * geometry.stride_h as usize + (r - 1) * dilation.h + 1,
            w: (q.next_multiple_of(BLOCK) - 1) * geometry.stride_w as usize + (s - 1) * dilation.w + 1,
            border_h: padding.h,
            border_w: padding.w,
        };
        for rows in self.rows(c.next_multiple_of(QUAD) * self.sides.taps())? {
            let geometry =
                Conv2dParams { padded_h: padded.h as u32, padded_w: padded.w as u32, ..self.geometry(&rows) };
            let mut scratch = Scratch::default();
            let packed = self.pack(&mut scratch, &rows, &geometry)?;
            for samples in self.samples(padded.elements())? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let copy = self.pad(&mut scratch.clone(), x, &samples, padded, &geometry)?;
                let y = self.y(RESULT, Tensor::Y, Access::Write, &samples);
                let b = self.bias(&rows);
                let params =
                    Conv2dParams { samples: samples.len() as u32, result_skip: y.skip, b_skip: b.skip, ..geometry };
                let groups = self.tiles(&params)?;
                let bindings = vec![b.binding, y.binding, read(SCRATCH, &copy), read(PACKED, &packed)];
                self.push_storing((Pass::Forward, "forward"), &params, bindings, groups);
            }
        }
        Ok(())
    }

    /// A correlation of `dy` with flipped filters for each phase of the stride. Where `w` is cut by rows, the first
    /// piece writes `dx` and the others add to it.
    fn backward_input(&mut self) -> Result<(), PlanError> {
        let (conv, sides) = (self.conv, self.sides);
        let down = phases(sides.h, sides.r, conv.stride.h, conv.padding.h, conv.dilation.h);
        let across = phases(sides.w, sides.s, conv.stride.w, conv.padding.w, conv.dilation.w);
        let border_h = Phase::border(&down);
        let border_w = Phase::border(&across);
        let h = down.iter().map(|phase| phase.extent(border_h, 1)).max().unwrap_or(1);
        let w = across.iter().map(|phase| phase.extent(border_w, BLOCK)).max().unwrap_or(1);
        // Rows of `w` are the channels of `dy` here, and each has the padded channels of `dx`.
        for rows in self.rows(sides.c.next_multiple_of(BLOCK) * sides.taps())? {
            let padded = Padded { channels: rows.len(), h, w, border_h, border_w };
            let mut scratch = Scratch::default();
            let mut parts = Vec::new();
            for down in &down {
                for across in &across {
                    let geometry = self.phase_geometry(&rows, padded, down, across);
                    parts.push((geometry, self.pack(&mut scratch, &rows, &geometry)?));
                }
            }
            for samples in self.samples(padded.elements())? {
                self.backward_input_phases(&rows, &samples, padded, &parts, scratch.clone())?;
            }
        }
        Ok(())
    }

    fn backward_input_phases(
        &mut self,
        rows: &Range<usize>,
        samples: &Range<usize>,
        padded: Padded,
        parts: &[(Conv2dParams, Range<usize>)],
        mut scratch: Scratch,
    ) -> Result<(), PlanError> {
        let Some((any, _)) = parts.first() else { return Ok(()) };
        let dy = self.y(SOURCE, Tensor::Dy, Access::Read, samples);
        let copy = self.pad(&mut scratch, dy, samples, padded, any)?;
        for (geometry, packed) in parts {
            let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
            let dx = self.x(RESULT, Tensor::Dx, access, samples);
            let params = Conv2dParams { samples: samples.len() as u32, result_skip: dx.skip, ..*geometry };
            let groups = self.tiles(&params)?;
            let bindings = vec![dx.binding, read(SCRATCH, &copy), read(PACKED, packed)];
            self.push_storing((Pass::BackwardInput, "backward_input"), &params, bindings, groups);
        }
        Ok(())
    }

    pub(super) fn phase_geometry(
        &self,
        rows: &Range<usize>,
        padded: Padded,
        down: &Phase,
        across: &Phase,
    ) -> Conv2dParams {
        let Sides { c, k, .. } = self.sides;
        let forward = self.geometry(rows);
        let met = down.taps > 0 && across.taps > 0;
        Conv2dParams {
            source_channels: k as u32,
            source_h: forward.result_h,
            source_w: forward.result_w,
            result_channels: c as u32,
            result_h: forward.source_h,
            result_w: forward.source_w,
            source_first: rows.start as u32,
            source_count: rows.len() as u32,
            result_first: 0,
            result_count: c as u32,
            grid_h: down.grid as u32,
            grid_w: across.grid as u32,
            first_h: down.first as u32,
            first_w: across.first as u32,
            step_h: self.conv.stride.h as u32,
            step_w: self.conv.stride.w as u32,
            filter_h: if met { down.taps as u32 } else { 0 },
            filter_w: if met { across.taps as u32 } else { 0 },
            stride_h: 1,
            stride_w: 1,
            dilation_h: down.dilation as u32,
            dilation_w: across.dilation as u32,
            padded_h: padded.h as u32,
            padded_w: padded.w as u32,
            origin_h: down.origin(padded.border_h) as u32,
            origin_w: across.origin(padded.border_w) as u32,
            tap_first_h: down.last_tap as u32,
            tap_first_w: across.last_tap as u32,
            tap_step_h: (down.tap_step as u32).wrapping_neg(),
            tap_step_w: (across.tap_step as u32).wrapping_neg(),
            w_source: forward.w_result,
            w_result: forward.w_source,
            accumulate: u32::from(rows.start > 0),
            ..forward
        }
    }

    /// Rearranges the weights of `rows` for `geometry`, and returns where.
    fn pack(
        &mut self,
        scratch: &mut Scratch,
        rows: &Range<usize>,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let taps = geometry.filter_h as usize * geometry.filter_w as usize;
        let results = (geometry.result_count as usize).next_multiple_of(BLOCK);
        let elements = results * (geometry.source_count as usize).next_multiple_of(QUAD) * taps;
        // A phase without taps reads no weights; its binding must still be there.
        let packed = self.scratch(scratch, elements.max(QUAD))?;
        if elements > 0 {
            let w = self.w(Tensor::W, Access::Read, rows);
            let params = Conv2dParams { w_skip: w.skip, ..*geometry };
            let groups = self.flat(elements)?;
            self.push("pack", &params, vec![w.binding, part(SCRATCH, Access::Write, &packed)], groups);
        }
        Ok(packed)
    }

    /// Copies the `source` of `geometry` with zeros around it, and returns where to.
    pub(super) fn pad(
        &mut self,
        scratch: &mut Scratch,
        source: Bound,
        samples: &Range<usize>,
        padded: Padded,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let elements = samples.len() * padded.elements();
        let copy = self.scratch(scratch, elements)?;
        let params = Conv2dParams {
            samples: samples.len() as u32,
            source_skip: source.skip,
            padding_h: padded.border_h as u32,
            padding_w: padded.border_w as u32,
            padded_h: padded.h as u32,
            padded_w: padded.w as u32,
            ..*geometry
        };
        let groups = self.flat(elements / QUAD)?;
        self.push("pad", &params, vec![source.binding, part(SCRATCH, Access::Write, &copy)], groups);
        Ok(copy)
    }

    /// What all dispatches have in common, with the shapes of the forward pass.
    pub(super) fn geometry(&self, rows: &Range<usize>) -> Conv2dParams {
        let Sides { c, h, w, k, r, s, p, q, .. } = self.sides;
        let Conv2d { stride, padding, dilation, .. } = *self.conv;
        Conv2dParams {
            source_channels: c as u32,
            source_h: h as u32,
            source_w: w as u32,
            result_channels: k as u32,
            result_h: p as u32,
            result_w: q as u32,
            source_count: c as u32,
            result_first: rows.start as u32,
            result_count: rows.len() as u32,
            grid_h: p as u32,
            grid_w: q as u32,
            step_h: 1,
            step_w: 1,
            filter_h: r as u32,
            filter_w: s as u32,
            // With a single position the stride plays no part, however large it is.
            stride_h: if p == 1 { 1 } else { stride.h as u32 },
            stride_w: if q == 1 { 1 } else { stride.w as u32 },
            dilation_h: dilation.h as u32,
            dilation_w: dilation.w as u32,
            padding_h: padding.h as u32,
            padding_w: padding.w as u32,
            tap_step_h: 1,
            tap_step_w: 1,
            w_row: s as u32,
            w_source: self.sides.taps() as u32,
            w_result: self.sides.filter() as u32,
            has_bias: u32::from(self.conv.bias),
            ..Conv2dParams::zeroed()
        }
    }
}
