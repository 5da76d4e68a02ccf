//! Convolution with filters of 3 × 3 by minimal filtering, for adapters that compute on the host's cores; see
//! `shaders/conv2d/winograd.wgsl`.

use std::ops::Range;

use super::pad::{Copied, padded};
use super::phase::phases;
use super::plan::{Padded, Planner, RESULT, SCRATCH, SOURCE};
use super::windows::{Scratch, every, part, read};
use super::{Conv2d, Conv2dParams, NAME, Sides};
use crate::fusion::Stored;
use crate::ops::bound::Bound;
use crate::{Access, Binding, Fusion, Pass, PlanError, Requirements, Shader, Tensor, Variant};

/// Sides of the filters, of a tile's results, and of a tile.
const FILTER: usize = 3;
const OUT: usize = 4;
const TILE: usize = OUT + FILTER - 1;
/// Places in a tile: a matrix product for each.
const PLACES: usize = TILE * TILE;
/// Tiles in a quad, which are the components of a vector.
const QUAD: usize = 4;
/// Vectors between planes, and lanes that share nothing; as the shader has them.
const SKEW: usize = 8;
const ALONE: usize = 8;
/// Elements of the transformed pictures or products beyond which the samples are cut, so that they are still in a
/// cache when they are read: 1 MiB.
const MOST_TRANSFORMED: usize = 1 << 18;
/// Quads of a dispatch: the shader's `quotient` is exact below 2²⁰, and the last block may be ragged.
const MOST_QUADS: usize = (1 << 20) - 64;

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

/// F(4 × 4, 3 × 3): the block of products that an invocation keeps, and how many lanes share the loading of filters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Winograd {
    name: &'static str,
    rows: usize,
    columns: usize,
    depth: usize,
    lanes: usize,
}

/// The members of the family, those first that suit most shapes.
const FAMILY: [Winograd; 4] = [
    Winograd { name: "winograd-4x4", rows: 32, columns: 8, depth: 4, lanes: 8 },
    Winograd { name: "winograd-4x4-short", rows: 16, columns: 8, depth: 8, lanes: 8 },
    Winograd { name: "winograd-4x4-narrow", rows: 8, columns: 8, depth: 8, lanes: 4 },
    Winograd { name: "winograd-4x4-alone", rows: 8, columns: 8, depth: 4, lanes: 0 },
];

impl Winograd {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FAMILY.iter().find(|member| member.name == name)
    }

    /// Floating-point operations of the products.
    pub(super) fn flops(sides: &Sides, pass: Pass) -> u64 {
        flops(OUT, sides, pass)
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

    /// Invocations of a workgroup.
    const fn group(&self) -> usize {
        if self.lanes == 0 { ALONE } else { self.lanes }
    }

    /// Quads of a channel that lie next to each other.
    const fn width(&self) -> usize {
        self.group() * self.columns / QUAD
    }

    /// Quads of tiles of a sample, down and across the grid of `geometry`.
    fn quads(geometry: &Conv2dParams) -> [usize; 2] {
        let (grid_h, grid_w) = (geometry.grid_h as usize, geometry.grid_w as usize);
        [grid_h.div_ceil(OUT), grid_w.div_ceil(QUAD * OUT)]
    }

    /// Whole blocks of quads of all samples of `geometry`.
    fn blocks(&self, geometry: &Conv2dParams) -> usize {
        let [down, across] = Self::quads(geometry);
        (geometry.samples as usize * down * across).div_ceil(self.width())
    }

    /// Elements of the planes of so many blocks and channels.
    fn planes(&self, blocks: usize, channels: usize) -> usize {
        QUAD * PLACES * (blocks * channels * self.width() + SKEW)
    }

    /// The copy whose pixels the quads read.
    fn copied(geometry: &Conv2dParams, [border_h, border_w]: [i64; 2]) -> Copied {
        let [down, across] = Self::quads(geometry);
        Copied {
            channels: geometry.source_count as usize,
            h: down * OUT + FILTER - 1,
            // A quad reads whole vectors, the last of which reaches a vector beyond its results.
            w: (across * OUT + 1) * QUAD,
            border_h,
            border_w,
        }
    }

    fn definitions(&self, params: &Conv2dParams, pixels: Pixels, stored: Stored) -> Vec<(&'static str, u32)> {
        let aligned = params.result_w.is_multiple_of(4) && params.result_skip.is_multiple_of(4);
        let [down, across] = Self::quads(params);
        let filled = [down * OUT, across * QUAD * OUT] == [params.grid_h as usize, params.grid_w as usize];
        let whole = filled && (params.samples as usize * down * across).is_multiple_of(self.width());
        let (copied, shift) = match pixels {
            Pixels::Copied => (1, 0),
            Pixels::Shifted(shift) => (0, shift),
        };
        let own = [
            ("OUT", OUT as u32),
            ("ABREAST", QUAD as u32),
            ("ROWS", self.rows as u32),
            ("COLUMNS", self.columns as u32),
            ("DEPTH", self.depth as u32),
            ("LANES", self.lanes as u32),
            ("COPIED", copied),
            ("SHIFT", shift),
            ("WHOLE", u32::from(whole)),
            ("ALIGNED", u32::from(aligned)),
            ("ACCUMULATE", params.accumulate),
            ("STEP_W", 1),
        ];
        [&own[..], &stored].concat()
    }
}

/// Whether minimal filtering computes a pass of `conv`.
pub(super) fn suits(conv: &Conv2d, pass: Pass) -> bool {
    let sides = [(conv.kernel, FILTER), (conv.stride, 1), (conv.dilation, 1)];
    let computes = matches!(pass, Pass::Forward | Pass::BackwardInput);
    computes && sides.iter().all(|(pair, side)| pair.h == *side && pair.w == *side)
}

/// Floating-point operations of the products with tiles of out × out results, which are fewer than the definition's.
pub(super) fn flops(out: usize, sides: &Sides, pass: Pass) -> u64 {
    let [h, w] = if pass == Pass::Forward { [sides.p, sides.q] } else { [sides.h, sides.w] };
    let tiles = h.div_ceil(out) * w.div_ceil(out);
    2 * [places(out), sides.c, sides.k, sides.n, tiles].map(|side| side as u64).iter().product::<u64>()
}

/// Places in a tile of out × out results: a matrix product for each.
pub(super) const fn places(out: usize) -> usize {
    (out + FILTER - 1) * (out + FILTER - 1)
}

/// Where pixels are read.
#[derive(Debug, Clone, Copy)]
enum Pixels {
    /// From a padded copy.
    Copied,
    /// From the picture itself, whose rows are whole vectors. So many pixels of a quad's first vector are left out.
    Shifted(u32),
}

/// What is read and what is written of some samples, and the zeros before the first row and column of what is read.
struct Ends {
    source: Bound,
    result: Bound,
    bias: Option<Binding>,
    border: [i64; 2],
}

impl Planner<'_> {
    pub(super) fn forward_winograd(&mut self, winograd: &Winograd) -> Result<(), PlanError> {
        let border = [self.conv.padding.h as i64, self.conv.padding.w as i64];
        for rows in self.rows(PLACES * self.sides.c.next_multiple_of(winograd.depth))? {
            let bias = self.bias(&rows);
            let geometry = Conv2dParams { b_skip: bias.skip, ..self.geometry(&rows) };
            let mut scratch = Scratch::default();
            let filters = self.transform_filters(winograd, &mut scratch, &rows, &geometry)?;
            for samples in self.winograd_samples(winograd, &geometry)? {
                let ends = Ends {
                    source: self.x(SOURCE, Tensor::X, Access::Read, &samples),
                    result: self.y(RESULT, Tensor::Y, Access::Write, &samples),
                    bias: Some(bias.binding.clone()),
                    border,
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
        for rows in self.rows(PLACES * sides.c.next_multiple_of(winograd.rows))? {
            let geometry = self.phase_geometry(&rows, Padded::NONE, down, across);
            let mut scratch = Scratch::default();
            let filters = self.transform_filters(winograd, &mut scratch, &rows, &geometry)?;
            for samples in self.winograd_samples(winograd, &geometry)? {
                let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
                let ends = Ends {
                    source: self.y(SOURCE, Tensor::Dy, Access::Read, &samples),
                    result: self.x(RESULT, Tensor::Dx, access, &samples),
                    bias: None,
                    border: [down.padding, across.padding],
                };
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.filtered(winograd, Pass::BackwardInput, &mut scratch.clone(), &filters, ends, &geometry)?;
            }
        }
        Ok(())
    }

    /// Ranges of samples whose transformed pictures and products fit a cache, and whose quads the shader can tell apart.
    fn winograd_samples(&self, winograd: &Winograd, geometry: &Conv2dParams) -> Result<Vec<Range<usize>>, PlanError> {
        let [down, across] = Winograd::quads(geometry);
        let quads = down * across;
        let channels = geometry.source_count.max(geometry.result_count) as usize;
        let largest = PLACES * channels * quads * QUAD;
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
        let filters = self.scratch(scratch, PLACES * count)?;
        let w = self.w(Tensor::W, Access::Read, rows);
        let params = Conv2dParams { w_skip: w.skip, ..*geometry };
        let bindings = vec![w.binding, part(SCRATCH + 1, Access::Write, &filters)];
        let groups = self.flat(count)?;
        let definitions = winograd.definitions(&params, Pixels::Shifted(0), Fusion::no_definitions());
        self.push_expanded(&SHADER, definitions, "transform_filters", &params, bindings, groups);
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
        let Ends { source, result, bias, border } = ends;
        let results = geometry.result_count as usize;
        let rows = results.next_multiple_of(winograd.rows);
        let blocks = winograd.blocks(geometry);
        let transformed = self.transform_source(winograd, scratch, source, border, geometry)?;
        let products = self.scratch(scratch, winograd.planes(blocks, rows))?;

        let params = Conv2dParams { result_skip: result.skip, ..*geometry };
        let definitions = winograd.definitions(&params, Pixels::Shifted(0), Fusion::no_definitions());
        let operands = [(SCRATCH, filters), (SCRATCH + 1, &transformed)];
        let operands = operands.map(|(slot, range)| part(slot, Access::ReadWrite, range));
        let bindings = operands.into_iter().chain([part(SCRATCH + 2, Access::Write, &products)]).collect();
        let groups = [self.dimension(blocks)?, self.dimension(rows / winograd.rows)?, PLACES as u32];
        self.push_expanded(&SHADER, definitions, "multiply", &params, bindings, groups);

        let mut bindings = bias.into_iter().chain([result.binding, read(SCRATCH, &products)]).collect();
        let groups = self.quad_groups(winograd, blocks, results)?;
        let stored = self.stored(pass, &mut bindings);
        let definitions = winograd.definitions(&params, Pixels::Shifted(0), stored);
        self.push_expanded(&SHADER, definitions, pass.name(), &params, bindings, groups);
        Ok(())
    }

    /// Transforms the `source` of `geometry`, from a padded copy where its rows are not whole vectors, and returns where
    /// to.
    fn transform_source(
        &mut self,
        winograd: &Winograd,
        scratch: &mut Scratch,
        source: Bound,
        border: [i64; 2],
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let channels = geometry.source_count as usize;
        let blocks = winograd.blocks(geometry);
        let whole = geometry.source_w.is_multiple_of(4) && source.skip.is_multiple_of(4);
        let (pixels, params, picture) = if whole {
            let shift = (-border[1]).rem_euclid(QUAD as i64);
            let params = Conv2dParams {
                source_skip: source.skip,
                // Negative borders wrap, as the shader's indices do.
                padding_h: border[0] as u32,
                origin_w: ((border[1] + shift) / QUAD as i64) as u32,
                ..*geometry
            };
            (Pixels::Shifted(shift as u32), params, source.binding)
        } else {
            let copied = Winograd::copied(geometry, border);
            let copy = self.pad_rows(scratch, source, copied, geometry)?;
            (Pixels::Copied, padded(geometry, copied), part(SCRATCH, Access::ReadWrite, &copy))
        };
        let transformed = self.scratch(scratch, winograd.planes(blocks, channels))?;
        let bindings = vec![picture, part(SCRATCH + 1, Access::Write, &transformed)];
        let groups = self.quad_groups(winograd, blocks, channels)?;
        let definitions = winograd.definitions(&params, pixels, Fusion::no_definitions());
        self.push_expanded(&SHADER, definitions, "transform_source", &params, bindings, groups);
        Ok(transformed)
    }

    /// An invocation for each quad of whole blocks, and a plane of workgroups for each channel.
    fn quad_groups(&self, winograd: &Winograd, blocks: usize, channels: usize) -> Result<[u32; 3], PlanError> {
        let quads = self.dimension(blocks * winograd.width() / winograd.group())?;
        Ok([quads, 1, self.dimension(channels)?])
    }
}
