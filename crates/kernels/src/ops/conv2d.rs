//! Convolution: y\[n,k,p,q\] = b\[k\] + Σ over c, r, s of w\[k,c,r,s\] · x\[n, c, p·stride − padding + r·dilation,
//! q·stride − padding + s·dilation\], with zeros beyond the picture.
//!
//! # Shapes
//! `x`, `dx`: N×C×H×W. `w`, `dw`: K×C×R×S. `b`, `db`: K. `y`, `dy`: N×K×P×Q, with
//! P = (H + 2·padding − dilation·(R − 1) − 1) / stride + 1, rounded down, and Q alike. The gradients of the
//! parameters are added to `dw` and `db`.

mod cases;
mod direct;
mod direct_weight;
mod naive;
mod pad;
mod phase;
mod plan;
mod pointwise;
mod pointwise_weight;
mod push;
mod reference;
mod sides;
mod sum_bias;
mod tiles;
mod weight;
mod windows;
mod winograd;
mod winograd_tiles;

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use self::sides::Sides;
use self::winograd::Winograd;
use self::winograd_tiles::WinogradTiles;
use super::attributes::{self, Pair};
use super::gemm;
use crate::uniform::uniform;
use crate::{
    AttributeError, Entry, Fusion, HostTensors, Init, Limits, Operation, Parameter, Pass, Plan, PlanError, Problem,
    Requirements, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "conv2d";

uniform! {
    /// What a dispatch is told; see the shader.
    struct Conv2dParams {
        samples: u32,
        source_channels: u32,
        source_h: u32,
        source_w: u32,
        result_channels: u32,
        result_h: u32,
        result_w: u32,
        source_first: u32,
        source_count: u32,
        result_first: u32,
        result_count: u32,
        grid_h: u32,
        grid_w: u32,
        first_h: u32,
        first_w: u32,
        step_h: u32,
        step_w: u32,
        filter_h: u32,
        filter_w: u32,
        stride_h: u32,
        stride_w: u32,
        dilation_h: u32,
        dilation_w: u32,
        padding_h: u32,
        padding_w: u32,
        padded_h: u32,
        padded_w: u32,
        origin_h: u32,
        origin_w: u32,
        tap_first_h: u32,
        tap_first_w: u32,
        tap_step_h: u32,
        tap_step_w: u32,
        w_row: u32,
        w_source: u32,
        w_result: u32,
        source_skip: u32,
        result_skip: u32,
        w_skip: u32,
        b_skip: u32,
        has_bias: u32,
        accumulate: u32,
        slice: u32,
        slices: u32,
    }
}

uniform! {
    /// What a dispatch of a product in tiles is told; see the shader.
    struct Conv2dTilesParams {
        rows: u32,
        columns: u32,
        depth: u32,
        slice: u32,
        slices: u32,
        left_skip: u32,
        left_row: u32,
        left_outer: u32,
        left_down: u32,
        left_right: u32,
        source_skip: u32,
        source_sample: u32,
        source_plane: u32,
        source_h: u32,
        source_w: u32,
        grid_h: u32,
        grid_w: u32,
        stride_h: u32,
        stride_w: u32,
        origin_h: u32,
        origin_w: u32,
        filter_h: u32,
        filter_w: u32,
        dilation_h: u32,
        dilation_w: u32,
        result_skip: u32,
        result_row: u32,
        result_sample: u32,
        result_down: u32,
        result_right: u32,
        b_skip: u32,
        has_bias: u32,
    }
}

/// The module, with one of the two ways to get at weights.
macro_rules! shader {
    ($weights:literal) => {
        Shader {
            name: NAME,
            parts: &[
                include_str!("../../shaders/shared/index.wgsl"),
                include_str!("../../shaders/shared/block.wgsl"),
                include_str!("../../shaders/shared/block_sum.wgsl"),
                include_str!("../../shaders/shared/quad_weights.wgsl"),
                include_str!(concat!("../../shaders/shared/", $weights)),
                include_str!("../../shaders/shared/nan.wgsl"),
                include_str!("../../shaders/shared/stored.wgsl"),
                include_str!("../../shaders/conv2d/params.wgsl"),
                include_str!("../../shaders/conv2d.wgsl"),
                include_str!("../../shaders/conv2d/naive.wgsl"),
            ],
            uniform: Conv2dParams::LAYOUT,
        }
    };
}

static SHADER: Shader = shader!("quad_weights_loaded.wgsl");
/// For adapters with subgroups.
static BROADCAST: Shader = shader!("quad_weights_broadcast.wgsl");

/// The members of the family in tiles.
static TILES: [Shader; 2] = gemm::family!(NAME, Conv2dTilesParams, "conv2d/tiles.wgsl");

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y[n,k,p,q] = b[k] + Σ_crs w[k,c,r,s] · x[n, c, p·stride − padding + r·dilation, …]",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Conv2d::from_attributes(attributes)?)),
    from_case: cases::recorded,
    generate: cases::random,
};

/// The convolution with its attributes.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    out_channels: usize,
    kernel: Pair,
    #[serde(default = "one")]
    stride: Pair,
    #[serde(default = "zero")]
    padding: Pair,
    #[serde(default = "one")]
    dilation: Pair,
    #[serde(default = "yes")]
    bias: bool,
    #[serde(skip)]
    fusion: Fusion,
}

const fn one() -> Pair {
    Pair::both(1)
}

const fn zero() -> Pair {
    Pair::both(0)
}

const fn yes() -> bool {
    true
}

impl Conv2d {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        attributes::parse::<Self>(NAME, attributes)?.checked()
    }

    /// Refuses zeros where they make no sense, and what a shader cannot count.
    fn checked(self) -> Result<Self, AttributeError> {
        let sides = [
            ("out_channels", self.out_channels, 1),
            ("kernel", self.kernel.h, 1),
            ("kernel", self.kernel.w, 1),
            ("stride", self.stride.h, 1),
            ("stride", self.stride.w, 1),
            ("padding", self.padding.h, 0),
            ("padding", self.padding.w, 0),
            ("dilation", self.dilation.h, 1),
            ("dilation", self.dilation.w, 1),
        ];
        match sides.into_iter().find(|&(_, value, least)| !(least..=Shape::MAX_ELEMENTS).contains(&value)) {
            Some((name, value, least)) => {
                let range = format!("from {least} to {}", Shape::MAX_ELEMENTS);
                Err(AttributeError::new(NAME, format!("`{name}` is {value}; wanted a number {range}")))
            }
            None => Ok(self),
        }
    }

    fn sides(&self, Problem { n, input }: Problem) -> Result<Sides, ShapeError> {
        let y = self.output(input)?;
        let sides = Sides {
            n,
            c: input.c,
            h: input.h,
            w: input.w,
            k: self.out_channels,
            r: self.kernel.h,
            s: self.kernel.w,
            p: y.h,
            q: y.w,
        };
        crate::shape::elements(&[n, input.c, input.h, input.w])?;
        crate::shape::elements(&[n, y.c, y.h, y.w])?;
        crate::shape::elements(&[sides.k, sides.c, sides.r, sides.s])?;
        Ok(sides)
    }

    /// Output positions along one axis.
    fn positions(
        &self,
        axis: &'static str,
        input: usize,
        [kernel, stride, padding, dilation]: [usize; 4],
    ) -> Result<usize, ShapeError> {
        let fits = |value: &usize| *value <= Shape::MAX_ELEMENTS;
        let too_large = || ShapeError::TooLarge { sides: vec![input, padding, kernel, dilation] };
        let padded =
            padding.checked_mul(2).and_then(|both| both.checked_add(input)).filter(fits).ok_or_else(too_large)?;
        let window = dilation.checked_mul(kernel - 1).and_then(|reach| reach.checked_add(1)).ok_or_else(too_large)?;
        match padded.checked_sub(window) {
            Some(room) => Ok(room / stride + 1),
            None => Err(ShapeError::Window { operation: NAME, axis, window, input, padding }),
        }
    }
}

impl Operation for Conv2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements()?;
        let Self { kernel, stride, padding, dilation, .. } = self;
        let p = self.positions("height", input.h, [kernel.h, stride.h, padding.h, dilation.h])?;
        let q = self.positions("width", input.w, [kernel.w, stride.w, padding.w, dilation.w])?;
        let y = Shape::new(self.out_channels, p, q);
        y.elements().map(|_| y)
    }

    fn parameters(&self, input: Shape) -> Result<Vec<Parameter>, ShapeError> {
        let dims = vec![self.out_channels, input.c, self.kernel.h, self.kernel.w];
        crate::shape::elements(&dims)?;
        let init = Init::KaimingUniform { fan_in: input.c * self.kernel.h * self.kernel.w };
        let mut parameters = vec![Parameter { name: "weight", tensor: Tensor::W, dims, init }];
        if self.bias {
            let dims = vec![self.out_channels];
            parameters.push(Parameter { name: "bias", tensor: Tensor::B, dims, init: Init::Zeros });
        }
        Ok(parameters)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        let mut uses = match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::read(Tensor::W), Use::write(Tensor::Y)],
            Pass::BackwardInput => vec![Use::read(Tensor::W), Use::read(Tensor::Dy), Use::write(Tensor::Dx)],
            Pass::BackwardWeight => vec![Use::read(Tensor::X), Use::read(Tensor::Dy), Use::update(Tensor::Dw)],
            Pass::Update => Vec::new(),
        };
        match pass {
            Pass::Forward if self.bias => uses.push(Use::read(Tensor::B)),
            Pass::BackwardWeight if self.bias => uses.push(Use::update(Tensor::Db)),
            _ => {}
        }
        uses.extend(self.fusion.uses(pass));
        uses
    }

    fn fusion(&self) -> Fusion {
        self.fusion
    }

    fn fused(&self, fusion: Fusion) -> Option<Arc<dyn Operation>> {
        Some(Arc::new(Self { fusion, ..*self }))
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        let everywhere = ["registers", "naive"].map(|name| Variant { name, pass, requires: Requirements::PORTABLE });
        let requires = Requirements { subgroup_min: 8, software: true, ..Requirements::PORTABLE };
        let correlates = matches!(pass, Pass::Forward | Pass::BackwardInput);
        let broadcast = correlates.then_some(Variant { name: "broadcast", pass, requires });
        let pointwise = pointwise::Pointwise::variants(self, pass);
        let winograd = Winograd::variants(self, pass);
        let software = pointwise.chain(direct::Direct::variants(self, pass)).chain(winograd).chain(broadcast);
        let gpu = gemm::variants(pass).chain(WinogradTiles::variants(self, pass));
        software.chain(gpu).chain(everywhere).collect()
    }

    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        plan::plan(self, pass, variant, self.sides(problem)?, limits)
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let sides = self.sides(problem)?;
        let multiply_adds = sides.n as u64 * sides.y() as u64 * sides.filter() as u64;
        let mut elements = 0;
        for Use { tensor, access } in self.tensors(pass) {
            let times = u64::from(access.reads()) + u64::from(access.writes());
            elements += times * self.elements(tensor, problem)? as u64;
        }
        Ok(Work { flops: 2 * multiply_adds, bytes: 4 * elements })
    }

    fn work_of(&self, pass: Pass, variant: &Variant, problem: Problem) -> Result<Work, ShapeError> {
        let work = self.work(pass, problem)?;
        let sides = self.sides(problem)?;
        let flops = match (WinogradTiles::named(variant.name), Winograd::named(variant.name)) {
            (Some(winograd), _) => winograd.flops(&sides, pass),
            (_, Some(_)) => Winograd::flops(&sides, pass),
            _ => work.flops,
        };
        Ok(Work { flops, ..work })
    }

    fn additions(&self, tensor: Tensor, problem: Problem) -> usize {
        let Ok(sides) = self.sides(problem) else { return 1 };
        match tensor {
            Tensor::Y => sides.filter() + usize::from(self.bias),
            Tensor::Dx => sides.k * sides.taps(),
            Tensor::Dw | Tensor::Db => sides.n * sides.p * sides.q,
            _ => 1,
        }
    }

    fn reference(&self, pass: Pass, problem: Problem, host: &mut HostTensors) {
        if let Ok(sides) = self.sides(problem) {
            reference::run(self, pass, sides, host);
            self.fusion.reference(pass, host);
        }
    }
}
