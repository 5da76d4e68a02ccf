//! Maximum of each window: y = max x over the window, per channel.
//!
//! # Shapes
//! `x`, `dx`: N×C×H×W; `y`, `dy`, `saved`: N×C×P×Q. `saved` is the place of the maximum within its plane, h·W + w.
//! Padding counts as −∞, and of equal maxima the first in scan order wins. With `ceil_mode` a last window may reach
//! beyond the padded input where it starts within the input or the padding before it: PyTorch's rule.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::attributes::{self, Pair};
use super::items::Items;
use super::pooling::Window;
use super::slots::slot;
use crate::fusion::Stored;
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, ElementType, Entry, Fusion, HostTensors, Kernel, Limits, Operation, Pass, Plan,
    PlanError, Problem, Random, Requirements, Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "max_pool2d";

/// `saved` where a window lies in the padding altogether, which dilation makes possible.
const NOWHERE: u32 = u32::MAX;

uniform! {
    /// What a dispatch is told.
    struct MaxPool2dParams {
        /// Elements that the dispatch writes.
        elements: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/stored.wgsl"),
        include_str!("../../shaders/max_pool2d.wgsl"),
    ],
    uniform: MaxPool2dParams::LAYOUT,
};

/// For windows that neither overlap nor leave anything out.
static TILES: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/stored.wgsl"),
        include_str!("../../shaders/max_pool2d/tiles.wgsl"),
    ],
    uniform: MaxPool2dParams::LAYOUT,
};
/// Elements of a window beyond which an invocation of that kernel would hold too much.
const LARGEST_TILE: usize = 16;

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y = max over each window",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(MaxPool2d::from_attributes(attributes)?)),
    from_case,
    generate,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    kernel: Pair,
    stride: Option<Pair>,
    #[serde(default = "zero")]
    padding: Pair,
    #[serde(default = "one")]
    dilation: Pair,
    #[serde(default)]
    ceil_mode: bool,
}

const fn zero() -> Pair {
    Pair::both(0)
}

const fn one() -> Pair {
    Pair::both(1)
}

/// Maximum pooling with its window.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool2d {
    window: Window,
    fusion: Fusion,
}

impl MaxPool2d {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        let Attributes { kernel, stride, padding, dilation, ceil_mode } = attributes::parse(NAME, attributes)?;
        let window = Window { kernel, stride: stride.unwrap_or(kernel), padding, dilation, ceil_mode };
        Ok(Self { window: window.checked(NAME)?, fusion: Fusion::NONE })
    }

    /// The kernel for windows that neither overlap nor leave anything out.
    fn tiles(&self, pass: Pass, input: Shape, output: Shape) -> Result<Kernel, PlanError> {
        let sides = self.window.tiling(NAME, input, output, output.w)?;
        let definitions = [&sides[..], &self.stored(pass)].concat();
        Ok(Kernel { shader: &TILES, entry: pass.name(), definitions, constants: Vec::new() })
    }

    /// What the shared text of how results are stored is expanded with.
    fn stored(&self, pass: Pass) -> Stored {
        self.fusion.definitions(pass, slot(Tensor::X))
    }

    /// The place of the maximum of the window at p, q; `plane` is H×W.
    fn maximum(&self, plane: &[f64], Shape { h, w, .. }: Shape, p: usize, q: usize) -> Option<usize> {
        let Window { kernel, stride, padding, dilation, .. } = self.window;
        let rows =
            (0..kernel.h).map(|r| (p * stride.h + r * dilation.h).wrapping_sub(padding.h)).filter(|&row| row < h);
        let mut best: Option<usize> = None;
        for row in rows {
            for s in 0..kernel.w {
                let column = (q * stride.w + s * dilation.w).wrapping_sub(padding.w);
                if column >= w {
                    continue;
                }
                let here = row * w + column;
                if best.is_none_or(|best| plane[here] > plane[best] || plane[here].is_nan()) {
                    best = Some(here);
                }
            }
        }
        best
    }
}

impl Operation for MaxPool2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        self.window.output(NAME, input)
    }

    fn saved(&self, input: Shape) -> Result<usize, ShapeError> {
        self.output(input)?.elements()
    }

    fn element_type(&self, tensor: Tensor) -> ElementType {
        match tensor {
            Tensor::Saved | Tensor::Labels => ElementType::U32,
            _ => ElementType::F32,
        }
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        let mut uses = match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::write(Tensor::Y), Use::write(Tensor::Saved)],
            Pass::BackwardInput => vec![Use::read(Tensor::Saved), Use::read(Tensor::Dy), Use::write(Tensor::Dx)],
            Pass::BackwardWeight | Pass::Update => Vec::new(),
        };
        uses.extend(self.fusion.uses(pass));
        uses
    }

    fn fusion(&self) -> Fusion {
        self.fusion
    }

    fn fused(&self, fusion: Fusion) -> Option<Arc<dyn Operation>> {
        (!fusion.rectifies).then(|| Arc::new(Self { fusion, ..*self }) as _)
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        let Pair { h, w } = self.window.kernel;
        let apart = self.window.is_apart() && h * w <= LARGEST_TILE;
        let names = if apart { &["tiles", "gather"][..] } else { &["gather"] };
        names.iter().map(|name| Variant { name, pass, requires: Requirements::PORTABLE }).collect()
    }

    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        let Problem { n, input } = problem;
        let output = self.output(input)?;
        for used in self.tensors(pass) {
            self.elements(used.tensor, problem)?;
        }
        let (inner, outer) = (input.h * input.w, output.h * output.w);
        let written = if pass == Pass::Forward { outer } else { inner };
        let plane = |used: Use| (used, if matches!(used.tensor, Tensor::X | Tensor::Dx) { inner } else { outer });
        let cut: Vec<_> = self.tensors(pass).into_iter().map(plane).collect();
        let mut constants = self.window.constants(input, output);
        constants.push(("DILATION_H", self.window.dilation.h as f64));
        constants.push(("DILATION_W", self.window.dilation.w as f64));
        let uniform = |range: &Range<usize>| MaxPool2dParams { elements: (range.len() * written) as u32 };
        let (kernel, a_workgroup) = match variant.name {
            "tiles" => (self.tiles(pass, input, output)?, 64 * 4 * written / outer),
            _ => {
                let definitions = self.stored(pass).to_vec();
                (Kernel { shader: &SHADER, entry: pass.name(), definitions, constants }, 256)
            }
        };
        let items = Items { kernel, count: n * input.c, cut: &cut, whole: &[] };
        let dispatches = items.dispatches(limits, |planes| (planes * written).div_ceil(a_workgroup), uniform)?;
        Ok(Plan { dispatches, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let x = self.elements(Tensor::X, problem)? as u64;
        let y = self.elements(Tensor::Y, problem)? as u64;
        let window = (self.window.kernel.h * self.window.kernel.w) as u64;
        let masked = if self.fusion.masks { x } else { 0 };
        Ok(match pass {
            Pass::Forward => Work { flops: y * window, bytes: 4 * (x + 2 * y) },
            Pass::BackwardInput => Work { flops: y, bytes: 4 * (x + 2 * y + masked) },
            Pass::BackwardWeight | Pass::Update => Work::default(),
        })
    }

    fn additions(&self, tensor: Tensor, _: Problem) -> usize {
        if tensor == Tensor::Dx { self.window.overlap() } else { 1 }
    }

    fn reference(&self, pass: Pass, Problem { input, .. }: Problem, host: &mut HostTensors) {
        let Ok(output) = self.output(input) else { return };
        let (inner, outer) = (input.h * input.w, output.h * output.w);
        match pass {
            Pass::Forward => {
                let (mut y, mut saved) = (host.take(Tensor::Y), host.take(Tensor::Saved));
                let planes = host.read(Tensor::X).chunks(inner);
                for ((plane, y), saved) in planes.zip(y.chunks_mut(outer)).zip(saved.chunks_mut(outer)) {
                    for (i, (y, saved)) in y.iter_mut().zip(saved).enumerate() {
                        let place = self.maximum(plane, input, i / output.w, i % output.w);
                        *y = place.map_or(f64::NEG_INFINITY, |place| plane[place]);
                        *saved = place.map_or(f64::from(NOWHERE), |place| place as f64);
                    }
                }
                host.put(Tensor::Y, y);
                host.put(Tensor::Saved, saved);
            }
            Pass::BackwardInput => {
                let mut dx = host.take(Tensor::Dx);
                dx.fill(0.0);
                let windows = host.read(Tensor::Saved).chunks(outer).zip(host.read(Tensor::Dy).chunks(outer));
                for (dx, (saved, dy)) in dx.chunks_mut(inner).zip(windows) {
                    for (place, dy) in saved.iter().zip(dy) {
                        if let Some(dx) = dx.get_mut(*place as usize) {
                            *dx += dy;
                        }
                    }
                }
                host.put(Tensor::Dx, dx);
            }
            Pass::BackwardWeight | Pass::Update => {}
        }
        self.fusion.reference(pass, host);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let pool = MaxPool2d::from_attributes(attributes)?;
    let (n, input) = attributes::batch(NAME, shapes, "x")?;
    pool.output(input).map_err(|error| AttributeError::new(NAME, error))?;
    Ok(case(pool, Problem { n, input }))
}

fn generate(random: &mut Random) -> Case {
    if random.chance(0.25) {
        return generate_apart(random);
    }
    loop {
        let pair = |random: &mut Random, low, high| Pair { h: random.integer(low, high), w: random.integer(low, high) };
        let kernel = pair(random, 1, 5);
        let padding = Pair { h: random.integer(0, kernel.h / 2), w: random.integer(0, kernel.w / 2) };
        let dilation = if random.chance(0.3) { pair(random, 1, 3) } else { Pair::both(1) };
        let window = Window { kernel, stride: pair(random, 1, 6), padding, dilation, ceil_mode: random.chance(0.5) };
        // Now and then many planes, for the plans to split.
        let (planes, side, samples) = if random.chance(0.1) { (40, 9, 8) } else { (5, 17, 4) };
        let input = Shape::new(random.integer(1, planes), random.integer(1, side), random.integer(1, side));
        let n = random.integer(1, samples);
        let within = |side: usize, window: usize, padding: usize| window.saturating_sub(1) < side + padding;
        let reach = |kernel: usize, dilation: usize| dilation * (kernel - 1) + 1;
        // A window that lies in the padding altogether yields −∞, which no deviation can be taken from.
        let meets = within(input.h, reach(kernel.h, dilation.h), padding.h)
            && within(input.w, reach(kernel.w, dilation.w), padding.w);
        let pool = MaxPool2d { window, fusion: Fusion::generate(random).of(Pass::BackwardInput) };
        if pool.output(input).is_ok() && (meets || dilation == Pair::both(1)) {
            return case(pool, Problem { n, input });
        }
    }
}

/// Windows that neither overlap nor leave anything out, four or more in a row: some variants want them.
fn generate_apart(random: &mut Random) -> Case {
    let kernel = Pair { h: random.integer(1, 4), w: random.integer(1, 4) };
    let window = Window::apart(kernel, random.chance(0.5));
    let input = Shape::new(random.integer(1, 9), kernel.h * random.integer(1, 5), kernel.w * 4 * random.integer(1, 3));
    case(
        MaxPool2d { window, fusion: Fusion::generate(random).of(Pass::BackwardInput) },
        Problem { n: random.integer(1, 4), input },
    )
}

fn case(pool: MaxPool2d, problem: Problem) -> Case {
    Case { operation: Arc::new(pool), problem, scalars: Scalars::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(attributes: &Value, input: Shape, x: &[f64], dy: &[f64]) -> [Vec<f64>; 3] {
        let pool = MaxPool2d::from_attributes(attributes).unwrap();
        let problem = Problem { n: 1, input };
        let mut host = HostTensors::new(Scalars::new());
        host.put(Tensor::X, x.to_vec());
        host.put(Tensor::Dy, dy.to_vec());
        host.put(Tensor::Dx, vec![7.0; x.len()]);
        host.put(Tensor::Y, vec![7.0; dy.len()]);
        host.put(Tensor::Saved, vec![7.0; dy.len()]);
        assert_eq!(pool.elements(Tensor::Y, problem), Ok(dy.len()));
        pool.reference(Pass::Forward, problem, &mut host);
        pool.reference(Pass::BackwardInput, problem, &mut host);
        [Tensor::Y, Tensor::Saved, Tensor::Dx].map(|tensor| host.read(tensor).to_vec())
    }

    #[test]
    fn by_hand() {
        let x = [1.0, 5.0, 2.0, 3.0, 4.0, 6.0, 9.0, 8.0, 7.0];
        let attributes = json!({"kernel": 2, "stride": 1});
        let [y, saved, dx] = run(&attributes, Shape::new(1, 3, 3), &x, &[1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(y, [5.0, 6.0, 9.0, 8.0]);
        assert_eq!(saved, [1.0, 5.0, 6.0, 7.0]);
        assert_eq!(dx, [0.0, 1.0, 0.0, 0.0, 0.0, 10.0, 100.0, 1000.0, 0.0]);
    }

    #[test]
    fn padding_never_wins_and_the_first_of_equals_does() {
        let attributes = json!({"kernel": [2, 3], "padding": [1, 1], "stride": 2, "ceil_mode": true});
        let [y, saved, dx] = run(&attributes, Shape::new(1, 2, 2), &[-3.0; 4], &[1.0, 2.0, 4.0, 8.0]);
        assert_eq!((y, saved), (vec![-3.0; 4], vec![0.0, 1.0, 2.0, 3.0]));
        assert_eq!(dx, [1.0, 2.0, 4.0, 8.0]);
    }

    #[test]
    fn errors_are_clear() {
        let refused = |attributes| MaxPool2d::from_attributes(&attributes).unwrap_err().to_string();
        assert!(refused(json!({})).contains("kernel"));
        assert!(refused(json!({"kernel": 0})).contains("zero"));
        assert!(refused(json!({"kernel": 2, "stride": [1, 0]})).contains("`stride` is zero"));
        assert!(refused(json!({"kernel": 2, "padding": 2})).contains("half"));
        assert!(refused(json!({"kernel": 2, "dilation": u64::MAX})).contains("at most"));
        assert!(refused(json!({"kernel": -2})).contains("max_pool2d"));
        assert!(refused(json!({"kernel": 2, "size": 2})).contains("size"));
        let shapes = CaseShapes::from([("x".into(), vec![1, 1, 2, 2])]);
        assert!(from_case(&json!({"kernel": 3}), &shapes).unwrap_err().to_string().contains("does not fit"));
    }
}
