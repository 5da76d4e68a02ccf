//! Mean of each window: y = Σ x / divisor over the window, per channel.
//!
//! # Shapes
//! `x`, `dx`: N×C×H×W; `y`, `dy`: N×C×P×Q. With `global` the window is the whole plane and P = Q = 1. The divisor is
//! PyTorch's: the window's area, cut where the padded input ends; without `count_include_pad`, cut where the input
//! ends.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::attributes::{self, Pair};
use super::items::Items;
use super::pooling::Window;
use super::slots::slot;
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, Entry, Fusion, HostTensors, Kernel, Limits, Operation, Pass, Plan, PlanError,
    Problem, Random, Requirements, Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "avg_pool2d";

uniform! {
    /// What a dispatch is told.
    struct AvgPool2dParams {
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
        include_str!("../../shaders/avg_pool2d.wgsl"),
    ],
    uniform: AvgPool2dParams::LAYOUT,
};

/// For windows that neither overlap nor leave anything out.
static TILES: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/stored.wgsl"),
        include_str!("../../shaders/avg_pool2d/tiles.wgsl"),
    ],
    uniform: AvgPool2dParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y = mean over each window",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(AvgPool2d::from_attributes(attributes)?)),
    from_case,
    generate,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    kernel: Option<Pair>,
    stride: Option<Pair>,
    padding: Option<Pair>,
    ceil_mode: Option<bool>,
    count_include_pad: Option<bool>,
    #[serde(default)]
    global: bool,
}

/// Average pooling with its window.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d {
    /// None where the window is the whole plane.
    window: Option<Window>,
    count_include_pad: bool,
    fusion: Fusion,
}

impl AvgPool2d {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        let given: Attributes = attributes::parse(NAME, attributes)?;
        let count_include_pad = given.count_include_pad.unwrap_or(true);
        if given.global {
            let others = given.kernel.is_some() || given.stride.is_some() || given.padding.is_some();
            if others || given.ceil_mode == Some(true) {
                let message =
                    "with `global` the window is the whole plane: leave out kernel, stride, padding and ceil_mode";
                return Err(AttributeError::new(NAME, message));
            }
            return Ok(Self { window: None, count_include_pad, fusion: Fusion::NONE });
        }
        let kernel =
            given.kernel.ok_or_else(|| AttributeError::new(NAME, "missing field `kernel` (or `global: true`)"))?;
        let window = Window {
            kernel,
            stride: given.stride.unwrap_or(kernel),
            padding: given.padding.unwrap_or(Pair::both(0)),
            dilation: Pair::both(1),
            ceil_mode: given.ceil_mode.unwrap_or(false),
        };
        Ok(Self { window: Some(window.checked(NAME)?), count_include_pad, fusion: Fusion::NONE })
    }

    /// The window over an input.
    fn window(&self, input: Shape) -> Window {
        self.window.unwrap_or_else(|| {
            let plane = Pair { h: input.h, w: input.w };
            Window::apart(plane, false)
        })
    }

    /// The kernel for windows that neither overlap nor leave anything out.
    fn tiles(&self, pass: Pass, input: Shape, output: Shape) -> Result<Kernel, PlanError> {
        let sides = self.window(input).tiling(NAME, input, output, input.w)?;
        let definitions = [&sides[..], &self.fusion.definitions(pass, slot(Tensor::X))].concat();
        Ok(Kernel { shader: &TILES, entry: pass.name(), definitions, constants: Vec::new() })
    }

    /// The kernel for any windows.
    fn gather(&self, pass: Pass, input: Shape, output: Shape) -> Kernel {
        let mut constants = self.window(input).constants(input, output);
        constants.push(("COUNT_PADDING", f64::from(u8::from(self.count_include_pad))));
        let definitions = self.fusion.definitions(pass, slot(Tensor::X)).to_vec();
        Kernel { shader: &SHADER, entry: pass.name(), definitions, constants }
    }

    /// Rows or columns of the window that starts at `start` of the padded side, and how many count.
    fn span(&self, start: usize, kernel: usize, side: usize, padding: usize) -> (Range<usize>, usize) {
        let inside = start.max(padding) - padding..(start + kernel).min(side + padding) - padding;
        let counted =
            if self.count_include_pad { (start + kernel).min(side + 2 * padding) - start } else { inside.len() };
        (inside, counted)
    }

    /// Calls `visit` with output, input and divisor for each element of each window of a plane.
    fn each(&self, input: Shape, output: Shape, mut visit: impl FnMut(usize, usize, f64)) {
        let Window { kernel, stride, padding, .. } = self.window(input);
        for p in 0..output.h {
            let (rows, height) = self.span(p * stride.h, kernel.h, input.h, padding.h);
            for q in 0..output.w {
                let (columns, width) = self.span(q * stride.w, kernel.w, input.w, padding.w);
                for h in rows.clone() {
                    for w in columns.clone() {
                        visit(p * output.w + q, h * input.w + w, (height * width) as f64);
                    }
                }
            }
        }
    }
}

impl Operation for AvgPool2d {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        self.window(input).output(NAME, input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        let mut uses = match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::write(Tensor::Y)],
            Pass::BackwardInput => vec![Use::read(Tensor::Dy), Use::write(Tensor::Dx)],
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
        let apart = self.window.is_none_or(|window| window.is_apart());
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
        let (kernel, a_workgroup) = match (variant.name, pass) {
            ("tiles", Pass::Forward) => (self.tiles(pass, input, output)?, 64),
            ("tiles", _) => (self.tiles(pass, input, output)?, 64 * 4),
            _ => (self.gather(pass, input, output), 256),
        };
        let items = Items { kernel, count: n * input.c, cut: &cut, whole: &[] };
        let uniform = |range: &Range<usize>| AvgPool2dParams { elements: (range.len() * written) as u32 };
        let dispatches = items.dispatches(limits, |planes| (planes * written).div_ceil(a_workgroup), uniform)?;
        Ok(Plan { dispatches, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let x = self.elements(Tensor::X, problem)? as u64;
        let y = self.elements(Tensor::Y, problem)? as u64;
        let kernel = self.window(problem.input).kernel;
        let window = (kernel.h * kernel.w) as u64;
        let masked = if self.fusion.masks { x } else { 0 };
        Ok(match pass {
            Pass::Forward => Work { flops: y * (window + 1), bytes: 4 * (x + y) },
            Pass::BackwardInput => Work { flops: 2 * y * window, bytes: 4 * (x + y + masked) },
            Pass::BackwardWeight | Pass::Update => Work::default(),
        })
    }

    fn additions(&self, tensor: Tensor, problem: Problem) -> usize {
        let window = self.window(problem.input);
        if tensor == Tensor::Dx { window.overlap() } else { window.kernel.h * window.kernel.w }
    }

    fn reference(&self, pass: Pass, Problem { input, .. }: Problem, host: &mut HostTensors) {
        let Ok(output) = self.output(input) else { return };
        let (inner, outer) = (input.h * input.w, output.h * output.w);
        match pass {
            Pass::Forward => {
                let mut y = host.take(Tensor::Y);
                y.fill(0.0);
                for (x, y) in host.read(Tensor::X).chunks(inner).zip(y.chunks_mut(outer)) {
                    self.each(input, output, |window, element, divisor| y[window] += x[element] / divisor);
                }
                host.put(Tensor::Y, y);
            }
            Pass::BackwardInput => {
                let mut dx = host.take(Tensor::Dx);
                dx.fill(0.0);
                for (dx, dy) in dx.chunks_mut(inner).zip(host.read(Tensor::Dy).chunks(outer)) {
                    self.each(input, output, |window, element, divisor| dx[element] += dy[window] / divisor);
                }
                host.put(Tensor::Dx, dx);
            }
            Pass::BackwardWeight | Pass::Update => {}
        }
        self.fusion.reference(pass, host);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let pool = AvgPool2d::from_attributes(attributes)?;
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
        let (stride, ceil_mode) = (pair(random, 1, 6), random.chance(0.5));
        let window = Window { kernel, stride, padding, dilation: Pair::both(1), ceil_mode };
        let window = (!random.chance(0.2)).then_some(window);
        let fusion = Fusion::generate(random).of(Pass::BackwardInput);
        let pool = AvgPool2d { window, count_include_pad: random.chance(0.5), fusion };
        // Now and then many planes, for the plans to split.
        let (planes, side, samples) = if random.chance(0.1) { (40, 9, 8) } else { (5, 17, 4) };
        let input = Shape::new(random.integer(1, planes), random.integer(1, side), random.integer(1, side));
        let n = random.integer(1, samples);
        if pool.output(input).is_ok() {
            return case(pool, Problem { n, input });
        }
    }
}

/// Windows that neither overlap nor leave anything out, in rows of whole vectors: some variants want them.
fn generate_apart(random: &mut Random) -> Case {
    let kernel = Pair { h: random.integer(1, 5), w: random.integer(1, 8) };
    let a_row = [4, 2, 4, 1][kernel.w % 4] * random.integer(1, 2);
    let input = Shape::new(random.integer(1, 9), kernel.h * random.integer(1, 4), kernel.w * a_row);
    let window = (!random.chance(0.3)).then(|| Window::apart(kernel, random.chance(0.5)));
    let fusion = Fusion::generate(random).of(Pass::BackwardInput);
    let pool = AvgPool2d { window, count_include_pad: random.chance(0.5), fusion };
    case(pool, Problem { n: random.integer(1, 4), input })
}

fn case(pool: AvgPool2d, problem: Problem) -> Case {
    Case { operation: Arc::new(pool), problem, scalars: Scalars::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn run(attributes: &Value, input: Shape, x: &[f64], dy: &[f64]) -> [Vec<f64>; 2] {
        let pool = AvgPool2d::from_attributes(attributes).unwrap();
        let problem = Problem { n: 1, input };
        let mut host = HostTensors::new(Scalars::new());
        host.put(Tensor::X, x.to_vec());
        host.put(Tensor::Dy, dy.to_vec());
        host.put(Tensor::Dx, vec![7.0; x.len()]);
        host.put(Tensor::Y, vec![7.0; dy.len()]);
        assert_eq!(pool.elements(Tensor::Y, problem), Ok(dy.len()));
        pool.reference(Pass::Forward, problem, &mut host);
        pool.reference(Pass::BackwardInput, problem, &mut host);
        [Tensor::Y, Tensor::Dx].map(|tensor| host.read(tensor).to_vec())
    }

    #[test]
    fn divisors_with_and_without_padding() {
        let (x, dy) = ([4.0, 8.0, 12.0, 16.0], [4.0, 4.0, 4.0, 4.0]);
        let mut attributes = json!({"kernel": 2, "padding": 1});
        let [y, dx] = run(&attributes, Shape::new(1, 2, 2), &x, &dy);
        assert_eq!((y, dx), (vec![1.0, 2.0, 3.0, 4.0], vec![1.0; 4]));
        attributes["count_include_pad"] = json!(false);
        let [y, dx] = run(&attributes, Shape::new(1, 2, 2), &x, &dy);
        assert_eq!((y, dx), (x.to_vec(), vec![4.0; 4]));
    }

    #[test]
    fn windows_that_ceil_mode_cuts_divide_by_what_is_left() {
        // Rows 0, 1 | row 2: the second window is cut to one row. Columns: one window of three.
        let attributes = json!({"kernel": [2, 3], "ceil_mode": true});
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.0, 6.0, 9.0];
        let [y, dx] = run(&attributes, Shape::new(1, 3, 3), &x, &[6.0, 3.0]);
        assert_eq!((y, dx), (vec![3.5, 7.0], vec![1.0; 9]));
    }

    #[test]
    fn global_takes_the_plane() {
        let [y, dx] = run(&json!({"global": true}), Shape::new(2, 1, 3), &[1.0, 2.0, 3.0, 3.0, 6.0, 9.0], &[3.0, 6.0]);
        assert_eq!((y, dx), (vec![2.0, 6.0], vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0]));
    }

    #[test]
    fn errors_are_clear() {
        let refused = |attributes| AvgPool2d::from_attributes(&attributes).unwrap_err().to_string();
        assert!(refused(json!({})).contains("kernel"));
        assert!(refused(json!({"global": true, "kernel": 2})).contains("whole plane"));
        assert!(refused(json!({"kernel": 3, "padding": 2})).contains("half"));
        assert!(refused(json!({"kernel": 3, "dilation": 2})).contains("dilation"));
    }
}
