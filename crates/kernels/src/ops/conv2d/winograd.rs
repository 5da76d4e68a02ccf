//! Convolution with filters of 3 × 3 by minimal filtering, for adapters that compute on the host's cores; see
//! `shaders/conv2d/winograd.wgsl`.

use std::ops::Range;

use super::direct::{Copied, padded};
use super::phase::phases;
use super::plan::{Padded, Planner, RESULT, SCRATCH, SOURCE, Scratch, every, part, read};
use super::{Conv2d, Conv2dParams, NAME};
use crate::fusion::Stored;
use crate::ops::bound::{Bound, dimension};
use crate::{Access, Binding, Fusion, Pass, PlanError, Requirements, Shader, Tensor, Variant, workgroups};

/// Sides of the filters.
const FILTER: usize = 3;
/// Tiles in a quad, which are the components of a vector.
const QUAD: usize = 4;
/// Invocations of a workgroup of the transforms, and of `multiply` where its lanes share nothing.
const GROUP: usize = 64;
const ALONE: usize = 8;
/// Elements of the transformed pictures and products beyond which the samples are cut, so that they are still in a
/// cache when they are read: 4 MiB.
const MOST_TRANSFORMED: usize = 1 << 20;
/// Quads of a dispatch: the shader's `quotient` is exact below 2²⁰, and the last workgroup may be ragged.
const MOST_QUADS: usize = (1 << 20) - GROUP;

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/shared/nan.wgsl"),
        include_str!("../../../shaders/shared/stored.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/put.wgsl"),
        include_str!("../../../shaders/conv2d/winograd_lines.wgsl"),
        include_str!("../../../shaders/conv2d/winograd.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

/// F(out × out, 3 × 3): how many results come from a tile, the block of products that an invocation keeps, and how many
/// lanes share the loading of filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winograd {
    name: &'static str,
    out: usize,
    rows: usize,
    columns: usize,
    depth: usize,
    lanes: usize,
}

/// The members of the family, those first that suit most shapes.
const FAMILY: [Winograd; 5] = [
    Winograd { name: "winograd-4x4", out: 4, rows: 32, columns: 8, depth: 4, lanes: 8 },
    Winograd { name: "winograd-4x4-short", out: 4, rows: 16, columns: 8, depth: 8, lanes: 8 },
    Winograd { name: "winograd-2x2", out: 2, rows: 32, columns: 8, depth: 4, lanes: 8 },
    Winograd { name: "winograd-4x4-narrow", out: 4, rows: 8, columns: 8, depth: 8, lanes: 4 },
    Winograd { name: "winograd-4x4-alone", out: 4, rows: 8, columns: 8, depth: 4, lanes: 0 },
];

impl Winograd {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FAMILY.iter().find(|member| member.name == name)
    }

    /// The members that can compute a pass of `conv`.
    pub(super) fn variants(conv: &Conv2d, pass: Pass) -> impl Iterator<Item = Variant> {
        let suits = suits(conv, pass);
        FAMILY.iter().filter(move |_| suits).map(move |member| Variant {
            name: member.name,
            pass,
            requires: Requirements { subgroup_min: member.lanes as u32, software: true, ..Requirements::PORTABLE },
        })
    }

    const fn places(&self) -> usize {
        places(self.out)
    }

    /// Quads of tiles down and across the grid of `geometry`.
    fn quads(&self, geometry: &Conv2dParams) -> [usize; 2] {
        let (grid_h, grid_w) = (geometry.grid_h as usize, geometry.grid_w as usize);
        [grid_h.div_ceil(self.out), grid_w.div_ceil(QUAD * self.out)]
    }

    /// The copy whose pixels the quads read.
    fn copied(&self, geometry: &Conv2dParams, [border_h, border_w]: [i64; 2]) -> Copied {
        let [down, across] = self.quads(geometry);
        Copied {
            channels: geometry.source_count as usize,
            h: down * self.out + FILTER - 1,
            // A quad reads whole vectors, the last of which reaches a vector beyond its results.
            w: (across * self.out + 1) * QUAD,
            border_h,
            border_w,
        }
    }

    fn definitions(&self, params: &Conv2dParams) -> Vec<(&'static str, u32)> {
        let aligned = params.result_w.is_multiple_of(4) && params.result_skip.is_multiple_of(4);
        vec![
            ("OUT", self.out as u32),
            ("ABREAST", QUAD as u32),
            ("ROWS", self.rows as u32),
            ("COLUMNS", self.columns as u32),
            ("DEPTH", self.depth as u32),
            ("LANES", self.lanes as u32),
            ("ALIGNED", u32::from(aligned)),
        ]
    }
}

/// Whether minimal filtering computes a pass of `conv`.
pub(super) fn suits(conv: &Conv2d, pass: Pass) -> bool {
    let sides = [(conv.kernel, FILTER), (conv.stride, 1), (conv.dilation, 1)];
    let computes = matches!(pass, Pass::Forward | Pass::BackwardInput);
    computes && sides.iter().all(|(pair, side)| pair.h == *side && pair.w == *side)
}

/// Places in a tile of out × out results: a matrix product for each.
pub(super) const fn places(out: usize) -> usize {
    (out + FILTER - 1) * (out + FILTER - 1)
}

/// What is read and what is written of some samples, and where they lie in the copy.
struct Ends {
    source: Bound,
    result: Bound,
    bias: Option<Binding>,
    copied: Copied,
}

impl Planner<'_> {
    pub(super) fn forward_winograd(&mut self, winograd: &Winograd) -> Result<(), PlanError> {
        let border = [self.conv.padding.h as i64, self.conv.padding.w as i64];
        for rows in self.rows(winograd.places() * self.sides.c.next_multiple_of(winograd.depth))? {
            let bias = self.bias(&rows);
            let geometry = Conv2dParams { b_skip: bias.skip, ..self.geometry(&rows) };
            let mut scratch = Scratch::default();
            let filters = self.transform_filters(winograd, &mut scratch, &rows, &geometry)?;
            for samples in self.winograd_samples(winograd, &geometry)? {
                let ends = Ends {
                    source: self.x(SOURCE, Tensor::X, Access::Read, &samples),
                    result: self.y(RESULT, Tensor::Y, Access::Write, &samples),
                    bias: Some(bias.binding.clone()),
                    copied: winograd.copied(&geometry, border),
                };
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.filtered(winograd, Pass::Forward, &mut scratch.clone(), &filters, ends, &geometry)?;
            }
        }
        Ok(())
    }

    /// A correlation of `dy` with flipped filters. Where `w` is cut by rows, the first piece writes `dx` and the others
    /// add to it.
    pub(super) fn backward_input_winograd(&mut self, winograd: &Winograd) -> Result<(), PlanError> {
        let (conv, sides) = (self.conv, self.sides);
        let down = phases(sides.h, sides.r, 1, conv.padding.h, 1);
        let across = phases(sides.w, sides.s, 1, conv.padding.w, 1);
        let (Some(down), Some(across)) = (down.first(), across.first()) else { return Ok(()) };
        for rows in self.rows(winograd.places() * sides.c.next_multiple_of(winograd.rows))? {
            let geometry = self.phase_geometry(&rows, Padded::NONE, down, across);
            let mut scratch = Scratch::default();
            let filters = self.transform_filters(winograd, &mut scratch, &rows, &geometry)?;
            for samples in self.winograd_samples(winograd, &geometry)? {
                let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
                let ends = Ends {
                    source: self.y(SOURCE, Tensor::Dy, Access::Read, &samples),
                    result: self.x(RESULT, Tensor::Dx, access, &samples),
                    bias: None,
                    copied: winograd.copied(&geometry, [down.padding, across.padding]),
                };
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.filtered(winograd, Pass::BackwardInput, &mut scratch.clone(), &filters, ends, &geometry)?;
            }
        }
        Ok(())
    }

    /// Ranges of samples whose transformed pictures and products fit a cache, and whose quads the shader can tell
    /// apart.
    fn winograd_samples(&self, winograd: &Winograd, geometry: &Conv2dParams) -> Result<Vec<Range<usize>>, PlanError> {
        let [down, across] = winograd.quads(geometry);
        let quads = down * across;
        let channels = geometry.source_count.max(geometry.result_count) as usize;
        let largest = winograd.places() * channels * quads * QUAD;
        let most = (MOST_TRANSFORMED / largest.max(1)).max(1).min(MOST_QUADS / quads);
        if most == 0 {
            let why = format!("{quads} quads of one sample are more than the {MOST_QUADS} it can tell apart");
            return Err(PlanError::Unsuited { operation: NAME, variant: winograd.name, why });
        }
        Ok(self.samples(largest)?.into_iter().flat_map(|range| every(range, most)).collect())
    }

    fn transform_filters(
        &mut self,
        winograd: &Winograd,
        scratch: &mut Scratch,
        rows: &Range<usize>,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let depth = (geometry.source_count as usize).next_multiple_of(winograd.depth);
        let count = (geometry.result_count as usize).next_multiple_of(winograd.rows) * depth;
        let filters = self.scratch(scratch, winograd.places() * count)?;
        let w = self.w(Tensor::W, Access::Read, rows);
        let params = Conv2dParams { w_skip: w.skip, ..*geometry };
        let bindings = vec![w.binding, part(SCRATCH + 1, Access::Write, &filters)];
        let groups = self.flat(count)?;
        self.push_winograd(winograd, "transform_filters", &params, bindings, groups);
        Ok(filters)
    }

    /// Everything between the source of some samples and their results.
    fn filtered(
        &mut self,
        winograd: &Winograd,
        pass: Pass,
        scratch: &mut Scratch,
        filters: &Range<usize>,
        ends: Ends,
        geometry: &Conv2dParams,
    ) -> Result<(), PlanError> {
        let [down, across] = winograd.quads(geometry);
        let quads = geometry.samples as usize * down * across;
        let (sources, results) = (geometry.source_count as usize, geometry.result_count as usize);
        let params = Conv2dParams { result_skip: ends.result.skip, ..padded(geometry, ends.copied) };

        let copy = self.pad_rows(scratch, ends.source, ends.copied, geometry)?;
        let transformed = self.scratch(scratch, winograd.places() * sources * quads * QUAD)?;
        let products = self.scratch(scratch, winograd.places() * results * quads * QUAD)?;

        let bindings = vec![part(SCRATCH, Access::ReadWrite, &copy), part(SCRATCH + 1, Access::Write, &transformed)];
        let groups = self.quad_groups(quads, sources)?;
        self.push_winograd(winograd, "transform_source", &params, bindings, groups);

        let operands = [(SCRATCH, filters), (SCRATCH + 1, &transformed), (SCRATCH + 2, &products)];
        let bindings = operands.map(|(slot, range)| part(slot, Access::ReadWrite, range)).to_vec();
        let width = winograd.columns / QUAD * if winograd.lanes == 0 { ALONE } else { winograd.lanes };
        let groups = [
            self.dimension(quads.div_ceil(width))?,
            self.dimension(results.div_ceil(winograd.rows))?,
            winograd.places() as u32,
        ];
        self.push_winograd(winograd, "multiply", &params, bindings, groups);

        let mut bindings = ends.bias.into_iter().chain([ends.result.binding, read(SCRATCH, &products)]).collect();
        let groups = self.quad_groups(quads, results)?;
        let stored = self.stored(pass, &mut bindings);
        self.push_winograd_storing(winograd, (pass.name(), stored), &params, bindings, groups);
        Ok(())
    }

    /// An invocation for each quad, and a plane of workgroups for each channel.
    fn quad_groups(&self, quads: usize, channels: usize) -> Result<[u32; 3], PlanError> {
        let [x, y, _] = workgroups(NAME, quads.div_ceil(GROUP), self.limits)?;
        Ok([x, y, dimension(NAME, channels, self.limits)?])
    }

    fn push_winograd(
        &mut self,
        winograd: &Winograd,
        entry: &'static str,
        params: &Conv2dParams,
        bindings: Vec<Binding>,
        groups: [u32; 3],
    ) {
        self.push_winograd_storing(winograd, (entry, Fusion::no_definitions()), params, bindings, groups);
    }

    fn push_winograd_storing(
        &mut self,
        winograd: &Winograd,
        (entry, stored): (&'static str, Stored),
        params: &Conv2dParams,
        bindings: Vec<Binding>,
        groups: [u32; 3],
    ) {
        let definitions = [&winograd.definitions(params)[..], &stored].concat();
        self.push_expanded(&SHADER, definitions, entry, params, bindings, groups);
    }
}
