//! Minimal filtering of 3 × 3 filters for GPUs: transforms through scratch memory, and matrix products in tiles between
//! them; see `shaders/conv2d/winograd_tiles.wgsl`.

use std::ops::Range;

use super::phase::phases;
use super::plan::{Padded, Planner, RESULT, SCRATCH, SOURCE};
use super::windows::{Scratch, every, part, read};
use super::winograd::{flops, places, suits};
use super::{Conv2d, Conv2dParams, NAME, Sides};
use crate::fusion::Stored;
use crate::ops::bound::{Bound, dimension};
use crate::ops::gemm::{self, TILES};
use crate::uniform::uniform;
use crate::{Access, Binding, Dispatch, Fusion, Pass, PlanError, Shader, Tensor, Variant, pieces, workgroups};

/// Invocations of a workgroup of the transforms of pictures and products.
const GROUP: usize = 64;
/// Elements that scratch memory is counted in: vectors.
const VECTOR: usize = 4;
/// Elements of the transformed pictures, or of the products, beyond which the samples are cut: 32 MiB. That is 2,000
/// tiles of 64 × 64 of the products, which fill any device four times over, and no more than fits the last cache of the
/// larger ones.
const MOST_TRANSFORMED: usize = 1 << 23;

uniform! {
    /// What a dispatch of the products of minimal filtering is told; see the shader.
    struct WinogradProductsParams {
        rows: u32,
        columns: u32,
        depth: u32,
        slice: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../../shaders/shared/index.wgsl"),
        include_str!("../../../shaders/shared/nan.wgsl"),
        include_str!("../../../shaders/shared/stored.wgsl"),
        include_str!("../../../shaders/conv2d/params.wgsl"),
        include_str!("../../../shaders/conv2d/put.wgsl"),
        include_str!("../../../shaders/conv2d/winograd_lines.wgsl"),
        include_str!("../../../shaders/conv2d/winograd_tiles.wgsl"),
    ],
    uniform: Conv2dParams::LAYOUT,
};

/// The matrix products, as members of the family in tiles.
static PRODUCTS: [Shader; 2] = gemm::family!(NAME, WinogradProductsParams, "conv2d/winograd_products.wgsl");

/// F(out × out, 3 × 3): how many results come from a tile of pixels, and the member of the family in tiles that
/// multiplies.
#[derive(Debug)]
pub(super) struct WinogradTiles {
    name: &'static str,
    out: usize,
    tile: &'static str,
}

/// The members, those first that suit most shapes.
const FAMILY: [WinogradTiles; 4] = [
    WinogradTiles { name: "winograd-4x4-tiles-64x64", out: 4, tile: "tiles-64x64" },
    WinogradTiles { name: "winograd-4x4-tiles-128x64", out: 4, tile: "tiles-128x64" },
    WinogradTiles { name: "winograd-4x4-tiles-32x64", out: 4, tile: "tiles-32x64" },
    WinogradTiles { name: "winograd-2x2-tiles-64x64", out: 2, tile: "tiles-64x64" },
];

impl WinogradTiles {
    pub(super) fn named(name: &str) -> Option<&'static Self> {
        FAMILY.iter().find(|member| member.name == name)
    }

    /// The members that can compute a pass of `conv`.
    pub(super) fn variants(conv: &Conv2d, pass: Pass) -> impl Iterator<Item = Variant> {
        let suits = suits(conv, pass);
        let member = move |member: &'static Self| {
            let requires = TILES[gemm::find(member.tile)?].requires();
            Some(Variant { name: member.name, pass, requires })
        };
        FAMILY.iter().filter(move |_| suits).filter_map(member)
    }

    /// Floating-point operations of the products.
    pub(super) fn flops(&self, sides: &Sides, pass: Pass) -> u64 {
        flops(self.out, sides, pass)
    }

    /// Tiles of a picture of results.
    const fn tiles(&self, h: usize, w: usize) -> usize {
        h.div_ceil(self.out) * w.div_ceil(self.out)
    }

    fn definitions(&self, params: &Conv2dParams) -> Vec<(&'static str, u32)> {
        let aligned = self.out == VECTOR
            && params.result_w.is_multiple_of(VECTOR as u32)
            && params.result_skip.is_multiple_of(VECTOR as u32);
        vec![
            ("OUT", self.out as u32),
            ("ABREAST", 1),
            ("ALIGNED", u32::from(aligned)),
            ("ACCUMULATE", params.accumulate),
            ("STEP_W", 1),
        ]
    }
}

/// What is read and what is written of some samples.
struct Ends {
    source: Bound,
    result: Bound,
    bias: Option<Binding>,
}

impl Planner<'_> {
    /// A pass with a member of the family.
    pub(super) fn in_winograd_tiles(&mut self, winograd: &WinogradTiles, pass: Pass) -> Result<(), PlanError> {
        match pass {
            Pass::Forward => self.forward_winograd_tiles(winograd),
            Pass::BackwardInput => self.backward_input_winograd_tiles(winograd),
            Pass::BackwardWeight | Pass::Update => Ok(()),
        }
    }

    fn forward_winograd_tiles(&mut self, winograd: &WinogradTiles) -> Result<(), PlanError> {
        for rows in self.rows(places(winograd.out) * self.sides.c)? {
            let bias = self.bias(&rows);
            let geometry = Conv2dParams { b_skip: bias.skip, ..self.geometry(&rows) };
            let mut scratch = Scratch::default();
            let filters = self.filters_for_tiles(winograd, &mut scratch, &rows, &geometry)?;
            for samples in self.samples_in_tiles(winograd, &geometry)? {
                let ends = Ends {
                    source: self.x(SOURCE, Tensor::X, Access::Read, &samples),
                    result: self.y(RESULT, Tensor::Y, Access::Write, &samples),
                    bias: Some(bias.binding.clone()),
                };
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.filtered_in_tiles(winograd, Pass::Forward, &mut scratch.clone(), &filters, ends, &geometry)?;
            }
        }
        Ok(())
    }

    /// A correlation of `dy` with flipped filters. Where `w` is cut by rows, the first piece writes `dx` and the others
    /// add to it.
    fn backward_input_winograd_tiles(&mut self, winograd: &WinogradTiles) -> Result<(), PlanError> {
        let (conv, sides) = (self.conv, self.sides);
        let down = phases(sides.h, sides.r, 1, conv.padding.h, 1);
        let across = phases(sides.w, sides.s, 1, conv.padding.w, 1);
        let (Some(down), Some(across)) = (down.first(), across.first()) else { return Ok(()) };
        for rows in self.rows(places(winograd.out) * sides.c.next_multiple_of(VECTOR))? {
            let geometry = Conv2dParams {
                // Negative ones wrap, as the shader's indices do.
                padding_h: down.padding as u32,
                padding_w: across.padding as u32,
                ..self.phase_geometry(&rows, Padded::NONE, down, across)
            };
            let mut scratch = Scratch::default();
            let filters = self.filters_for_tiles(winograd, &mut scratch, &rows, &geometry)?;
            let access = if rows.start == 0 { Access::Write } else { Access::ReadWrite };
            for samples in self.samples_in_tiles(winograd, &geometry)? {
                let ends = Ends {
                    source: self.y(SOURCE, Tensor::Dy, Access::Read, &samples),
                    result: self.x(RESULT, Tensor::Dx, access, &samples),
                    bias: None,
                };
                let geometry = Conv2dParams { samples: samples.len() as u32, ..geometry };
                self.filtered_in_tiles(winograd, Pass::BackwardInput, &mut scratch.clone(), &filters, ends, &geometry)?;
            }
        }
        Ok(())
    }

    /// Ranges of samples whose pictures and results, transformed or not, fit bindings, and of whose tiles there are no
    /// more than needed.
    fn samples_in_tiles(
        &self,
        winograd: &WinogradTiles,
        geometry: &Conv2dParams,
    ) -> Result<Vec<Range<usize>>, PlanError> {
        let tiles = winograd.tiles(geometry.grid_h as usize, geometry.grid_w as usize).next_multiple_of(VECTOR);
        let channels = geometry.source_count.max(geometry.result_count) as usize;
        let transformed = places(winograd.out) * channels * tiles;
        let most = (MOST_TRANSFORMED / transformed).max(1);
        let strides = [self.sides.x(), self.sides.y(), transformed];
        let fitting = pieces(NAME, "a sample", self.sides.n, &strides, self.limits)?;
        Ok(fitting.into_iter().flat_map(|range| every(range, most)).collect())
    }

    fn filters_for_tiles(
        &mut self,
        winograd: &WinogradTiles,
        scratch: &mut Scratch,
        rows: &Range<usize>,
        geometry: &Conv2dParams,
    ) -> Result<Range<usize>, PlanError> {
        let count = geometry.source_count as usize * (geometry.result_count as usize).next_multiple_of(VECTOR);
        let filters = self.scratch(scratch, places(winograd.out) * count)?;
        let w = self.w(Tensor::W, Access::Read, rows);
        let params = Conv2dParams { w_skip: w.skip, ..*geometry };
        let bindings = vec![w.binding, part(SCRATCH + 1, Access::Write, &filters)];
        let groups = self.flat(count)?;
        self.push_transform(winograd, "transform_filters", &params, bindings, groups);
        Ok(filters)
    }

    /// Everything between the source of some samples and their results.
    fn filtered_in_tiles(
        &mut self,
        winograd: &WinogradTiles,
        pass: Pass,
        scratch: &mut Scratch,
        filters: &Range<usize>,
        ends: Ends,
        geometry: &Conv2dParams,
    ) -> Result<(), PlanError> {
        let tiles = winograd.tiles(geometry.grid_h as usize, geometry.grid_w as usize);
        let tiles = (geometry.samples as usize * tiles).next_multiple_of(VECTOR);
        let [sources, results] = [geometry.source_count as usize, geometry.result_count as usize];
        let transformed = self.scratch(scratch, places(winograd.out) * sources * tiles)?;
        let products = self.scratch(scratch, places(winograd.out) * results * tiles)?;

        let params = Conv2dParams { source_skip: ends.source.skip, result_skip: ends.result.skip, ..*geometry };
        let bindings = vec![ends.source.binding, part(SCRATCH + 1, Access::Write, &transformed)];
        let groups = self.tile_groups(tiles, sources)?;
        self.push_transform(winograd, "transform_source", &params, bindings, groups);

        self.push_products(winograd, [results, tiles, sources], [filters, &transformed, &products])?;

        let mut bindings = ends.bias.into_iter().chain([ends.result.binding, read(SCRATCH, &products)]).collect();
        let groups = self.tile_groups(tiles, results)?;
        let stored = self.stored(pass, &mut bindings);
        self.push_transform_storing(winograd, (pass.name(), stored), &params, bindings, groups);
        Ok(())
    }

    /// A matrix product for each place: rows × columns, each a sum over `depth`.
    fn push_products(
        &mut self,
        winograd: &WinogradTiles,
        [rows, columns, depth]: [usize; 3],
        [filters, transformed, products]: [&Range<usize>; 3],
    ) -> Result<(), PlanError> {
        let Some(member) = gemm::find(winograd.tile) else { return Ok(()) };
        let tile = &TILES[member];
        let [x, y, _] = workgroups(NAME, rows.div_ceil(tile.rows) * columns.div_ceil(tile.columns), self.limits)?;
        let params = WinogradProductsParams {
            rows: rows as u32,
            columns: columns as u32,
            depth: depth as u32,
            slice: depth as u32,
        };
        let operands = [(SCRATCH, filters), (SCRATCH + 1, transformed)];
        let operands = operands.map(|(slot, range)| part(slot, Access::ReadWrite, range));
        let result = part(SCRATCH + 2, Access::Write, products);
        self.plan.dispatches.push(Dispatch {
            kernel: gemm::kernel(&PRODUCTS, member, "products", false, Fusion::no_definitions()),
            bindings: operands.into_iter().chain([result]).collect(),
            uniform: bytemuck::bytes_of(&params).to_vec(),
            workgroups: [x, y, places(winograd.out) as u32],
        });
        Ok(())
    }

    /// An invocation for each tile, and a plane of workgroups for each channel.
    fn tile_groups(&self, tiles: usize, channels: usize) -> Result<[u32; 3], PlanError> {
        let [x, y, _] = workgroups(NAME, tiles.div_ceil(GROUP), self.limits)?;
        Ok([x, y, dimension(NAME, channels, self.limits)?])
    }

    fn push_transform(
        &mut self,
        winograd: &WinogradTiles,
        entry: &'static str,
        params: &Conv2dParams,
        bindings: Vec<Binding>,
        groups: [u32; 3],
    ) {
        self.push_transform_storing(winograd, (entry, Fusion::no_definitions()), params, bindings, groups);
    }

    fn push_transform_storing(
        &mut self,
        winograd: &WinogradTiles,
        (entry, stored): (&'static str, Stored),
        params: &Conv2dParams,
        bindings: Vec<Binding>,
        groups: [u32; 3],
    ) {
        let definitions = [&winograd.definitions(params)[..], &stored].concat();
        self.push_expanded(&SHADER, definitions, entry, params, bindings, groups);
    }
}
