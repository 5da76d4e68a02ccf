//! The dispatches of a convolution.
//!
//! What does not fit a binding is cut by rows of `w` (output channels) and by samples. Each piece is bound through a
//! window that may start a few elements early; the kernel is told how many to skip.

use std::ops::Range;

use bytemuck::Zeroable;

use super::super::bound::{BLOCK, BLOCK_LANES, Bound, allowed, bound, bound_to, dimension, flat, scaled, scratch};
use super::super::elementwise::slot;
use super::{Conv2d, Conv2dParams, NAME, SHADER, Sides};
use crate::{Access, Binding, Dispatch, Kernel, Limits, Pass, Plan, PlanError, Tensor, Variant, pieces, workgroups};

/// Phases of `backward_input` beyond which a dispatch for each is too many.
const MOST_PHASES: usize = 64;
/// The slots of the picture that is read and of the one that is written.
const SOURCE: u32 = slot(Tensor::X);
const RESULT: u32 = slot(Tensor::Y);

pub(super) fn plan(
    conv: &Conv2d,
    pass: Pass,
    variant: &Variant,
    sides: Sides,
    limits: &Limits,
) -> Result<Plan, PlanError> {
    let mut planner = Planner { conv, sides, limits, plan: Plan::default() };
    match (pass, variant.name) {
        (Pass::Forward, "naive") => planner.forward_naive()?,
        (Pass::Forward, _) => planner.forward()?,
        (Pass::BackwardInput, "naive") => planner.backward_input_naive()?,
        (Pass::BackwardInput, _) if conv.stride.h * conv.stride.w > MOST_PHASES => planner.backward_input_naive()?,
        (Pass::BackwardInput, _) => planner.backward_input()?,
        (Pass::BackwardWeight, name) => planner.backward_weight(name == "naive")?,
        (Pass::Update, _) => {}
    }
    Ok(planner.plan)
}

struct Planner<'a> {
    conv: &'a Conv2d,
    sides: Sides,
    limits: &'a Limits,
    plan: Plan,
}

impl Planner<'_> {
    fn forward(&mut self) -> Result<(), PlanError> {
        for rows in self.rows(self.sides.filter())? {
            let geometry = self.geometry(&rows);
            let packed = self.pack(&rows, &geometry)?;
            for samples in self.samples()? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let y = self.y(RESULT, Tensor::Y, Access::Write, &samples);
                let b = self.bias(&rows);
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: x.skip,
                    result_skip: y.skip,
                    b_skip: b.skip,
                    ..geometry
                };
                let groups = self.tiles(&params)?;
                self.push("forward", &params, vec![x.binding, b.binding, y.binding, packed.clone()], groups);
            }
        }
        Ok(())
    }

    fn forward_naive(&mut self) -> Result<(), PlanError> {
        for rows in self.rows(self.sides.filter())? {
            for samples in self.samples()? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let y = self.y(RESULT, Tensor::Y, Access::Write, &samples);
                let (w, b) = (self.w(Tensor::W, Access::Read, &rows), self.bias(&rows));
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: x.skip,
                    result_skip: y.skip,
                    w_skip: w.skip,
                    b_skip: b.skip,
                    ..self.geometry(&rows)
                };
                let groups = self.flat(samples.len() * rows.len() * self.sides.p * self.sides.q)?;
                self.push("forward_naive", &params, vec![x.binding, w.binding, b.binding, y.binding], groups);
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
        for rows in self.rows(sides.c.next_multiple_of(BLOCK) * sides.taps())? {
            for h in &down {
                for w in &across {
                    self.backward_input_phase(&rows, h, w)?;
                }
            }
        }
        Ok(())
    }

    fn backward_input_phase(&mut self, rows: &Range<usize>, h: &Phase, w: &Phase) -> Result<(), PlanError> {
        let Sides { c, k, .. } = self.sides;
        let forward = self.geometry(rows);
        let geometry = Conv2dParams {
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
            grid_h: h.grid,
            grid_w: w.grid,
            first_h: h.first,
            first_w: w.first,
            step_h: forward.stride_h,
            step_w: forward.stride_w,
            filter_h: h.taps,
            filter_w: w.taps,
            stride_h: 1,
            stride_w: 1,
            padding_h: h.padding,
            padding_w: w.padding,
            dilation_h: h.dilation,
            dilation_w: w.dilation,
            tap_first_h: h.tap_first,
            tap_first_w: w.tap_first,
            tap_step_h: h.tap_step,
            tap_step_w: w.tap_step,
            w_source: forward.w_result,
            w_result: forward.w_source,
            accumulate: u32::from(rows.start > 0),
            ..forward
        };
        let packed = self.pack(rows, &geometry)?;
        for samples in self.samples()? {
            let dy = self.y(SOURCE, Tensor::Dy, Access::Read, &samples);
            let dx = self.x(RESULT, Tensor::Dx, written(rows), &samples);
            let params =
                Conv2dParams { samples: samples.len() as u32, source_skip: dy.skip, result_skip: dx.skip, ..geometry };
            let groups = self.tiles(&params)?;
            self.push("backward_input", &params, vec![dy.binding, dx.binding, packed.clone()], groups);
        }
        Ok(())
    }

    fn backward_input_naive(&mut self) -> Result<(), PlanError> {
        for rows in self.rows(self.sides.filter())? {
            for samples in self.samples()? {
                let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, &samples);
                let dx = self.x(RESULT, Tensor::Dx, written(&rows), &samples);
                let w = self.w(Tensor::W, Access::Read, &rows);
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: dx.skip,
                    result_skip: dy.skip,
                    w_skip: w.skip,
                    accumulate: u32::from(rows.start > 0),
                    ..self.geometry(&rows)
                };
                let groups = self.flat(samples.len() * self.sides.x())?;
                self.push("backward_input_naive", &params, vec![dy.binding, w.binding, dx.binding], groups);
            }
        }
        Ok(())
    }

    fn backward_weight(&mut self, naive: bool) -> Result<(), PlanError> {
        for rows in self.rows(self.sides.filter())? {
            for samples in self.samples()? {
                let x = self.x(SOURCE, Tensor::X, Access::Read, &samples);
                let dy = self.y(slot(Tensor::Dy), Tensor::Dy, Access::Read, &samples);
                let dw = self.w(Tensor::Dw, Access::ReadWrite, &rows);
                let params = Conv2dParams {
                    samples: samples.len() as u32,
                    source_skip: x.skip,
                    result_skip: dy.skip,
                    w_skip: dw.skip,
                    ..self.geometry(&rows)
                };
                let pictures = vec![x.binding, dy.binding.clone()];
                if naive {
                    let groups = self.flat(dw.binding.range.len())?;
                    let bindings = [pictures, vec![dw.binding]].concat();
                    self.push("backward_weight_naive", &params, bindings, groups);
                } else {
                    self.backward_weight_slices(params, pictures, dw.binding)?;
                }
                if self.conv.bias {
                    let db = bound(Tensor::Db, Access::ReadWrite, rows.clone());
                    let params = Conv2dParams { b_skip: db.skip, ..params };
                    let groups = [self.dimension(rows.len())?, 1, 1];
                    self.push("backward_bias", &params, vec![dy.binding, db.binding], groups);
                }
            }
        }
        Ok(())
    }

    /// Partial sums over slices of the samples, as many as keep the device busy, and their sum.
    fn backward_weight_slices(
        &mut self,
        params: Conv2dParams,
        pictures: Vec<Binding>,
        dw: Binding,
    ) -> Result<(), PlanError> {
        let samples = params.samples as usize;
        let across = self.sides.filter().div_ceil(BLOCK);
        let down = (params.result_count as usize).div_ceil(BLOCK);
        let elements = across * down * BLOCK_LANES;
        let wanted = if self.limits.software { 16 } else { 1024 };
        let most = allowed(self.limits) / elements;
        let slices = usize::div_ceil(wanted, across * down).min(most).clamp(1, samples);
        let slice = samples.div_ceil(slices);
        let slices = samples.div_ceil(slice);
        let params = Conv2dParams { slice: slice as u32, slices: slices as u32, ..params };

        let groups = [self.dimension(across)?, self.dimension(down)?, self.dimension(slices)?];
        let partials = self.workspace(slices * elements)?;
        let bindings = [pictures, vec![partials.clone()]].concat();
        self.push("backward_weight", &params, bindings, groups);

        let groups = self.flat(params.result_count as usize * self.sides.filter())?;
        let bindings = vec![dw, Binding { access: Access::Read, ..partials }];
        self.push("backward_weight_sum", &params, bindings, groups);
        Ok(())
    }

    /// Rearranges the weights of `rows` for `geometry`, and returns the binding to read them.
    fn pack(&mut self, rows: &Range<usize>, geometry: &Conv2dParams) -> Result<Binding, PlanError> {
        let taps = geometry.filter_h as usize * geometry.filter_w as usize;
        let channels = (geometry.result_count as usize).next_multiple_of(BLOCK);
        // A phase without taps reads no weights; its binding must still be there.
        let elements = (channels * geometry.source_count as usize * taps).max(BLOCK);
        let packed = self.workspace(elements)?;
        if taps > 0 {
            let w = self.w(Tensor::W, Access::Read, rows);
            let params = Conv2dParams { w_skip: w.skip, ..*geometry };
            let groups = self.flat(elements)?;
            self.push("pack", &params, vec![w.binding, packed.clone()], groups);
        }
        Ok(Binding { access: Access::Read, ..packed })
    }

    /// What all dispatches have in common, with the shapes of the forward pass.
    fn geometry(&self, rows: &Range<usize>) -> Conv2dParams {
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
            stride_h: stride.h as u32,
            stride_w: stride.w as u32,
            padding_h: padding.h as u32,
            padding_w: padding.w as u32,
            dilation_h: dilation.h as u32,
            dilation_w: dilation.w as u32,
            tap_step_h: 1,
            tap_step_w: 1,
            w_row: s as u32,
            w_source: self.sides.taps() as u32,
            w_result: self.sides.filter() as u32,
            has_bias: u32::from(self.conv.bias),
            ..Conv2dParams::zeroed()
        }
    }

    /// Ranges of rows of `w`, in whole blocks, such that a range of `stride` elements a row fits a binding.
    fn rows(&self, stride: usize) -> Result<Vec<Range<usize>>, PlanError> {
        let k = self.sides.k;
        let stride = stride.max(self.sides.filter());
        let blocks = pieces(NAME, "w", k.div_ceil(BLOCK), &[BLOCK * stride], self.limits)?;
        Ok(blocks.into_iter().map(|range| range.start * BLOCK..k.min(range.end * BLOCK)).collect())
    }

    fn samples(&self) -> Result<Vec<Range<usize>>, PlanError> {
        pieces(NAME, "a sample", self.sides.n, &[self.sides.x(), self.sides.y()], self.limits)
    }

    fn x(&self, slot: u32, tensor: Tensor, access: Access, samples: &Range<usize>) -> Bound {
        bound_to(slot, tensor, access, scaled(samples, self.sides.x()))
    }

    fn y(&self, slot: u32, tensor: Tensor, access: Access, samples: &Range<usize>) -> Bound {
        bound_to(slot, tensor, access, scaled(samples, self.sides.y()))
    }

    fn w(&self, tensor: Tensor, access: Access, rows: &Range<usize>) -> Bound {
        bound(tensor, access, scaled(rows, self.sides.filter()))
    }

    /// The bias, or where there is none something else to read that is not used: a slot cannot stay empty.
    fn bias(&self, rows: &Range<usize>) -> Bound {
        if self.conv.bias {
            bound(Tensor::B, Access::Read, rows.clone())
        } else {
            bound_to(slot(Tensor::B), Tensor::W, Access::Read, 0..1)
        }
    }

    /// The first `elements` of the scratch memory.
    fn workspace(&mut self, elements: usize) -> Result<Binding, PlanError> {
        let scratch = scratch(NAME, elements, self.limits)?;
        self.plan.workspace = self.plan.workspace.max(elements);
        Ok(scratch)
    }

    /// One invocation for 8 neighbours of each row of the grid, and a plane of workgroups for every 8 channels.
    fn tiles(&self, params: &Conv2dParams) -> Result<[u32; 3], PlanError> {
        let tiles = params.samples as usize * params.grid_h as usize * (params.grid_w as usize).div_ceil(BLOCK);
        let [x, y, _] = workgroups(NAME, tiles.div_ceil(BLOCK_LANES), self.limits)?;
        Ok([x, y, self.dimension((params.result_count as usize).div_ceil(BLOCK))?])
    }

    /// One invocation for each of `elements`.
    fn flat(&self, elements: usize) -> Result<[u32; 3], PlanError> {
        flat(NAME, elements, self.limits)
    }

    /// `count` workgroups in one dimension.
    fn dimension(&self, count: usize) -> Result<u32, PlanError> {
        dimension(NAME, count, self.limits)
    }

    fn push(&mut self, entry: &'static str, params: &Conv2dParams, bindings: Vec<Binding>, workgroups: [u32; 3]) {
        let kernel = Kernel { shader: &SHADER, entry, constants: Vec::new() };
        let uniform = bytemuck::bytes_of(params).to_vec();
        self.plan.dispatches.push(Dispatch { kernel, bindings, uniform, workgroups });
    }
}

/// How `dx` is touched by the dispatch that has the weights of `rows`.
const fn written(rows: &Range<usize>) -> Access {
    if rows.start == 0 { Access::Write } else { Access::ReadWrite }
}

/// The input positions of one axis with the same remainder by the stride: first + stride · i for i < grid. Each gets
/// Σ over t < taps of dy\[i + t·dilation − padding\] · w\[tap_first + t·tap_step\].
#[derive(Debug, Clone, Copy)]
struct Phase {
    first: u32,
    grid: u32,
    taps: u32,
    tap_first: u32,
    /// Negative: as the shader's wrapping u32.
    tap_step: u32,
    dilation: u32,
    /// May be negative: as the shader's wrapping u32.
    padding: u32,
}

/// The phases of an axis. Input position h meets tap r where h + padding − r·dilation is a multiple of the stride;
/// for the positions of a phase these are the taps r₀, r₀ + step, r₀ + 2·step, …, with step = stride / gcd(stride,
/// dilation), and each further tap lies dilation / gcd positions earlier in `dy`.
fn phases(input: usize, kernel: usize, stride: usize, padding: usize, dilation: usize) -> Vec<Phase> {
    let divisor = gcd(stride, dilation);
    let step = stride / divisor;
    let phase = |first: usize| {
        let meets = |r: &usize| (first + padding).abs_diff(r * dilation).is_multiple_of(stride);
        let taps = (0..kernel).find(meets).map(|tap| (tap, (kernel - tap).div_ceil(step)));
        let (last_tap, nearest, taps) = match taps {
            Some((tap, taps)) => {
                let nearest = ((first + padding) as i64 - (tap * dilation) as i64) / stride as i64;
                (tap + (taps - 1) * step, nearest, taps)
            }
            None => (0, 0, 0),
        };
        let reach = (taps.saturating_sub(1) * (dilation / divisor)) as i64;
        Phase {
            first: first as u32,
            grid: (input - first).div_ceil(stride) as u32,
            taps: taps as u32,
            tap_first: last_tap as u32,
            tap_step: (step as u32).wrapping_neg(),
            dilation: (dilation / divisor) as u32,
            padding: (reach - nearest) as u32,
        }
    };
    (0..stride.min(input)).map(phase).collect()
}

const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
