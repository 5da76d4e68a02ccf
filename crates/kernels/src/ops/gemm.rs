//! Matrix products in tiles: the members of the family, and how a product is laid over workgroups. The text is
//! `shaders/shared/gemm.wgsl`.

use super::bound::{allowed, dimension};
use crate::fusion::Stored;
use crate::{Kernel, Limits, Pass, PlanError, Requirements, Shader, Variant, workgroups};

/// Workgroups that keep a GPU busy.
const BUSY: usize = 512;
/// Steps through the depth that a slice has at least: fewer would not be worth adding up another slice's sums.
const LEAST_STEPS: usize = 4;
/// Elements of scratch memory that slices may take: 64 MiB.
const MOST_PARTIALS: usize = 1 << 24;

/// Invocations of the subgroups that multiply matrices.
const SUBGROUP: usize = 32;
/// Rows of matrices that a subgroup passes to its invocations at a time.
const STAGED_ROWS: usize = 16;

/// Lanes that can hand values round wherever there are subgroups.
const QUAD: usize = 4;

/// What multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Invocations, in `f32`.
    Invocations,
    /// Invocations, in `f32`, of operands that are kept as `f16`: what cooperative matrices compute, for adapters that
    /// have none.
    Halves,
    /// Invocations, in `f32`, of which so many neighbours hand left values round through the registers of a subgroup.
    Sharing(usize),
    /// Subgroups, with cooperative matrices of this side, of `f16` or else of `f32`.
    Matrices { side: usize, half: bool },
}

/// One member of the family: how much a workgroup computes, and how much of it each invocation, or each subgroup.
#[derive(Debug)]
pub(crate) struct Tile {
    pub(crate) name: &'static str,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) depth: usize,
    block_rows: usize,
    block_columns: usize,
    unit: Unit,
}

/// The members, the best first where nothing is known: large tiles read less, small ones leave no part of the device
/// idle where there is little to do.
pub(crate) const TILES: [Tile; 16] = [
    matrices("cooperative-64x64", [64, 64, 32], [32, 32], 16, true),
    matrices("cooperative-64x128", [64, 128, 32], [32, 64], 16, true),
    matrices("cooperative-128x128", [128, 128, 32], [32, 64], 16, true),
    matrices("cooperative-8x8-64x64", [64, 64, 32], [32, 32], 8, true),
    matrices("cooperative-8x8-64x64-f32", [64, 64, 16], [32, 32], 8, false),
    matrices("cooperative-8x8-32x32-f32", [32, 32, 16], [16, 16], 8, false),
    tile("tiles-64x64", [64, 64, 16], [8, 4]),
    tile("tiles-128x64", [128, 64, 16], [8, 8]),
    Tile { unit: Unit::Sharing(8), ..tile("subgroup-64x128", [64, 128, 16], [16, 4]) },
    tile("tiles-64x128", [64, 128, 16], [8, 8]),
    tile("tiles-128x128", [128, 128, 8], [8, 8]),
    tile("tiles-32x64", [32, 64, 16], [4, 4]),
    tile("tiles-32x32", [32, 32, 16], [4, 4]),
    Tile { unit: Unit::Sharing(8), ..tile("subgroup-64x256", [64, 256, 16], [16, 4]) },
    Tile { unit: Unit::Sharing(QUAD), ..tile("subgroup-64x64", [64, 64, 16], [8, 4]) },
    Tile { unit: Unit::Halves, ..tile("tiles-64x64-f16", [64, 64, 16], [8, 4]) },
];

const fn tile(name: &'static str, [rows, columns, depth]: [usize; 3], [block_rows, block_columns]: [usize; 2]) -> Tile {
    Tile { name, rows, columns, depth, block_rows, block_columns, unit: Unit::Invocations }
}

const fn matrices(name: &'static str, sides: [usize; 3], block: [usize; 2], side: usize, half: bool) -> Tile {
    Tile { unit: Unit::Matrices { side, half }, ..tile(name, sides, block) }
}

impl Tile {
    /// What the text of the member is expanded with.
    pub(crate) fn definitions(&self) -> Vec<(&'static str, u32)> {
        vec![
            ("TILE_ROWS", self.rows as u32),
            ("TILE_COLUMNS", self.columns as u32),
            ("TILE_DEPTH", self.depth as u32),
            ("BLOCK_ROWS", self.block_rows as u32),
            ("BLOCK_COLUMNS", self.block_columns as u32),
            ("HALF", u32::from(self.is_half())),
            ("COOPERATIVE", u32::from(self.is_cooperative())),
            ("SHARING", self.sharing() as u32),
            ("MATRIX", self.matrix() as u32),
        ]
    }

    /// Whether operands are rounded.
    const fn is_half(&self) -> bool {
        matches!(self.unit, Unit::Halves | Unit::Matrices { half: true, .. })
    }

    /// Neighbours that hand left values round; 0 where each loads all.
    const fn sharing(&self) -> usize {
        if let Unit::Sharing(lanes) = self.unit { lanes } else { 0 }
    }

    /// Side of the matrices; 0 where there are none.
    const fn matrix(&self) -> usize {
        if let Unit::Matrices { side, .. } = self.unit { side } else { 0 }
    }

    /// Whether the text of its products is `gemm_cooperative.wgsl`, and not `gemm_blocks.wgsl`.
    pub(crate) const fn is_cooperative(&self) -> bool {
        self.matrix() > 0
    }

    const fn invocations(&self) -> usize {
        let blocks = self.rows / self.block_rows * (self.columns / self.block_columns);
        if self.is_cooperative() { blocks * SUBGROUP } else { blocks }
    }

    /// Both operands of one step, with what is spare between their lines, and what subgroups pass their matrices through.
    fn workgroup_bytes(&self) -> usize {
        let quads = self.rows / 4 + self.columns / 4;
        // Depth by depth or line by line, each 16 bytes longer than it need be.
        let room = |lines: usize, spare: usize| (self.depth * (lines + spare)).max(lines * (self.depth + spare));
        match self.unit {
            Unit::Invocations | Unit::Sharing(_) => self.depth * (quads + 2) * 16,
            Unit::Halves => self.depth * (quads + 2) * 8,
            Unit::Matrices { side, half } => {
                let bytes = if half { 2 } else { 4 };
                let operands = room(self.rows, 16 / bytes) + room(self.columns, 16 / bytes);
                operands * bytes + self.invocations() / SUBGROUP * STAGED_ROWS * side * 4
            }
        }
    }

    /// What a device must offer to run it.
    pub(crate) fn requires(&self) -> Requirements {
        let (subgroup_min, subgroup_max) = match self.unit {
            Unit::Invocations | Unit::Halves => (0, u32::MAX),
            Unit::Sharing(QUAD) => (QUAD as u32, u32::MAX),
            // All lanes of a subgroup must have the same rows.
            Unit::Sharing(lanes) => (lanes as u32, (self.columns / self.block_columns) as u32),
            Unit::Matrices { .. } => (SUBGROUP as u32, SUBGROUP as u32),
        };
        Requirements {
            invocations: self.invocations() as u32,
            workgroup_bytes: self.workgroup_bytes() as u32,
            subgroup_min,
            subgroup_max,
            f16: self.is_half(),
            cooperative_matrix: self.matrix() as u32,
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

/// The two texts of a family, with the operation's own: products in blocks of registers, and cooperative matrices.
macro_rules! family {
    ($name:expr, $uniform:ty, $file:literal) => {{
        // Paths from the crate: the macro is used in more than one folder.
        macro_rules! text {
            ($path:expr) => {
                include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $path))
            };
        }
        macro_rules! member {
            ($products:literal) => {
                $crate::Shader {
                    name: $name,
                    parts: &[
                        text!("shared/enables.wgsl"),
                        text!("shared/index.wgsl"),
                        text!("shared/nan.wgsl"),
                        text!("shared/stored.wgsl"),
                        text!("shared/gemm.wgsl"),
                        text!($products),
                        text!($file),
                    ],
                    uniform: <$uniform>::LAYOUT,
                }
            };
        }
        [member!("shared/gemm_blocks.wgsl"), member!("shared/gemm_cooperative.wgsl")]
    }};
}

pub(crate) use family;

/// One of the two texts of a family, expanded for the member at `place` of [`TILES`].
pub(crate) fn kernel(
    texts: &'static [Shader; 2],
    place: usize,
    entry: &'static str,
    accumulate: bool,
    stored: Stored,
) -> Kernel {
    let tile = &TILES[place];
    let shader = &texts[usize::from(tile.is_cooperative())];
    let definitions = [&tile.definitions()[..], &stored].concat();
    Kernel { shader, entry, definitions, constants: accumulates(accumulate) }
}

/// The `override` constant that adds results to what is there.
fn accumulates(accumulate: bool) -> Vec<(&'static str, f64)> {
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
