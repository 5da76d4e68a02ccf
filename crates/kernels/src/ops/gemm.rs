//! Matrix products in tiles: the members of the family, and how a product is laid over workgroups. The text is
//! `shaders/shared/gemm.wgsl`.

use super::bound::{allowed, dimension};
use crate::{Limits, Pass, PlanError, Requirements, Variant, workgroups};

/// Workgroups that keep a GPU busy.
const BUSY: usize = 512;
/// Steps through the depth that a slice has at least: fewer would not be worth adding up another slice's sums.
const LEAST_STEPS: usize = 4;
/// Elements of scratch memory that slices may take: 64 MiB.
const MOST_PARTIALS: usize = 1 << 24;

/// One member of the family: how much a workgroup computes, and how much of it each invocation.
#[derive(Debug)]
pub(crate) struct Tile {
    pub(crate) name: &'static str,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
    block_rows: usize,
    block_columns: usize,
    /// Whether operands are rounded to `f16` in workgroup memory.
    half: bool,
}

/// The members, the best first where nothing is known: large tiles read less, small ones leave no part of the device
/// idle where there is little to do.
pub(crate) const TILES: [Tile; 7] = [
    tile("tiles-64x64", [64, 64, 16], [8, 4]),
    tile("tiles-128x64", [128, 64, 16], [8, 8]),
    tile("tiles-64x128", [64, 128, 16], [8, 8]),
    tile("tiles-128x128", [128, 128, 8], [8, 8]),
    tile("tiles-32x64", [32, 64, 16], [4, 4]),
    tile("tiles-32x32", [32, 32, 16], [4, 4]),
    Tile { half: true, ..tile("tiles-64x64-f16", [64, 64, 16], [8, 4]) },
];

const fn tile(
    name: &'static str,
    [rows, columns, depth]: [usize; 3],
    [block_rows, block_columns]: [usize; 2],
) -> Tile {
    Tile { name, rows, columns, depth, block_rows, block_columns, half: false }
}

type Definitions = [(&'static str, u32); 6];

/// What the text of each member is made with.
pub(crate) static DEFINITIONS: [Definitions; TILES.len()] = {
    let mut all = [TILES[0].definitions(); TILES.len()];
    let mut i = 1;
    while i < TILES.len() {
        all[i] = TILES[i].definitions();
        i += 1;
    }
    all
};

impl Tile {
    const fn definitions(&self) -> Definitions {
        [
            ("TILE_ROWS", self.rows as u32),
            ("TILE_COLUMNS", self.columns as u32),
            ("TILE_DEPTH", self.depth as u32),
            ("BLOCK_ROWS", self.block_rows as u32),
            ("BLOCK_COLUMNS", self.block_columns as u32),
            ("HALF", self.half as u32),
        ]
    }

    /// Both operands of one step, each quad's row with one vector to spare.
    const fn workgroup_bytes(&self) -> usize {
        let vector = if self.half { 8 } else { 16 };
        self.depth * (self.rows / 4 + 1 + self.columns / 4 + 1) * vector
    }

    const fn requires(&self) -> Requirements {
        Requirements {
            invocations: (self.rows / self.block_rows * (self.columns / self.block_columns)) as u32,
            workgroup_bytes: self.workgroup_bytes() as u32,
            f16: self.half,
            gpu: true,
            ..Requirements::PORTABLE
        }
    }
}

/// The members as variants of a pass.
pub(crate) fn variants(pass: Pass) -> impl Iterator<Item = Variant> {
    TILES.iter().map(move |tile| Variant { name: tile.name, pass, requires: tile.requires() })
}

/// The place in [`TILES`] of the member called `name`.
pub(crate) fn find(name: &str) -> Option<usize> {
    TILES.iter().position(|tile| tile.name == name)
}

/// The `override` constant that adds results to what is there.
pub(crate) fn accumulates(accumulate: bool) -> Vec<(&'static str, f64)> {
    if accumulate { vec![("accumulate", 1.0)] } else { Vec::new() }
}

/// How a product is laid over workgroups: tiles in x and y, slices of the depth in z.
pub(crate) struct Grid {
    /// Elements of the depth in a slice.
    pub(crate) slice: usize,
    pub(crate) slices: usize,
    pub(crate) workgroups: [u32; 3],
}

impl Tile {
    /// The grid of a product of rows × columns, each a sum over `depth`. Where there are fewer tiles than the device
    /// has room for, the depth is cut into slices whose sums are added up afterwards.
    pub(crate) fn grid(
        &self,
        operation: &'static str,
        [rows, columns, depth]: [usize; 3],
        limits: &Limits,
    ) -> Result<Grid, PlanError> {
        let tiles = rows.div_ceil(self.rows) * columns.div_ceil(self.columns);
        let most = (allowed(limits).min(MOST_PARTIALS) / (rows * columns))
            .min(depth / (LEAST_STEPS * self.depth))
            .min(limits.workgroups_per_dimension as usize);
        let slices = BUSY.div_ceil(tiles).clamp(1, most.max(1));
        let slice = depth.div_ceil(slices).next_multiple_of(self.depth).max(self.depth);
        let slices = depth.div_ceil(slice).max(1);
        let [x, y, _] = workgroups(operation, tiles, limits)?;
        Ok(Grid { slice, slices, workgroups: [x, y, dimension(operation, slices, limits)?] })
    }
}
