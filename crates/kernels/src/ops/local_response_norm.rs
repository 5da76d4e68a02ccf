//! Local response normalisation across channels (Krizhevsky et al. 2012), as PyTorch has it:
//! y = x · base^−β with base = k + α/size · Σ x² over `size` channels around each.
//!
//! # Shapes
//! `x`, `y`, `dx`, `dy`: N×C×H×W. The window of channel c reaches from c − ⌊size/2⌋ to c + ⌊(size − 1)/2⌋, so one of even
//! size has one more channel before than after; what is missing counts as zero.
//!
//! The backward pass computes base once more, into scratch memory: kept, it would be as large as x in every activation set.

use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::attributes;
use super::items::Items;
use super::slots::slot;
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, Entry, Fusion, HostTensors, Kernel, Limits, Operation, Pass, Plan, PlanError,
    Problem, Random, Requirements, Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "local_response_norm";

uniform! {
    /// What a dispatch is told.
    struct LocalResponseNormParams {
        /// Elements of the dispatch.
        elements: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/local_response_norm.wgsl"),
    ],
    uniform: LocalResponseNormParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y = x · (k + α/size · Σ x²)^−β over neighbouring channels",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(LocalResponseNorm::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// Local response normalisation with its attributes; the defaults are PyTorch's.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalResponseNorm {
    size: usize,
    #[serde(default = "default_alpha")]
    alpha: f64,
    #[serde(default = "default_beta")]
    beta: f64,
    #[serde(default = "default_k")]
    k: f64,
    #[serde(skip)]
    fusion: Fusion,
}

const fn default_alpha() -> f64 {
    1e-4
}

const fn default_beta() -> f64 {
    0.75
}

const fn default_k() -> f64 {
    1.0
}

impl LocalResponseNorm {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        let norm: Self = attributes::parse(NAME, attributes)?;
        let refuse = |message: String| Err(AttributeError::new(NAME, message));
        if !(1..=1 << 20).contains(&norm.size) {
            return refuse(format!("`size` is {}; it must be between 1 and {}", norm.size, 1 << 20));
        }
        let Self { alpha, beta, k, .. } = norm;
        for (name, value) in [("alpha", alpha), ("beta", beta), ("k", k)] {
            if !(value as f32).is_finite() {
                return refuse(format!("`{name}` is {value}, which single precision cannot hold"));
            }
        }
        Ok(norm)
    }

    /// Channels of a window before and after its own.
    const fn reach(&self) -> (usize, usize) {
        (self.size / 2, (self.size - 1) / 2)
    }

    fn constants(&self, input: Shape) -> Vec<(&'static str, f64)> {
        let (before, after) = self.reach();
        vec![
            ("C", input.c as f64),
            ("PLANE", (input.h * input.w) as f64),
            ("BEFORE", before as f64),
            ("AFTER", after as f64),
            ("ALPHA", self.alpha / self.size as f64),
            ("BETA", self.beta),
            ("K", self.k),
        ]
    }

    /// The channels that `before` and `after` reach from `channel`.
    fn window(channel: usize, before: usize, after: usize, channels: usize) -> Range<usize> {
        channel.saturating_sub(before)..(channel + after + 1).min(channels)
    }
}

impl Operation for LocalResponseNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::write(Tensor::Y)],
            Pass::BackwardInput => vec![Use::read(Tensor::X), Use::read(Tensor::Dy), Use::write(Tensor::Dx)],
            Pass::BackwardWeight | Pass::Update => Vec::new(),
        }
    }

    fn fusion(&self) -> Fusion {
        self.fusion
    }

    fn fused(&self, fusion: Fusion) -> Option<Arc<dyn Operation>> {
        (!fusion.rectifies).then(|| Arc::new(Self { fusion, ..*self }) as _)
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        vec![Variant { name: "window", pass, requires: Requirements::PORTABLE }]
    }

    fn plan(&self, pass: Pass, _: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        self.elements(Tensor::X, problem)?;
        let Problem { n, input } = problem;
        let sample = input.elements()?;
        let constants = self.constants(input);
        let uniform = |range: &Range<usize>| LocalResponseNormParams { elements: (range.len() * sample) as u32 };
        let dispatches = |entry: &'static str, tensors: Vec<Use>| {
            let fusion = if entry == pass.name() { self.fusion } else { Fusion::NONE };
            let definitions = fusion.definitions(pass, slot(Tensor::X)).to_vec();
            let kernel = Kernel { shader: &SHADER, entry, definitions, constants: constants.clone() };
            let cut: Vec<_> = tensors.into_iter().map(|used| (used, sample)).collect();
            let items = Items { kernel, count: n, cut: &cut, whole: &[] };
            items.dispatches(limits, |samples| (samples * sample).div_ceil(256), uniform)
        };
        let tensors = self.tensors(pass);
        if pass != Pass::BackwardInput {
            return Ok(Plan { dispatches: dispatches(pass.name(), tensors)?, workspace: 0 });
        }
        let bases = dispatches("bases", vec![Use::read(Tensor::X), Use::write(Tensor::Workspace)])?;
        let gradients = dispatches(pass.name(), [tensors, vec![Use::read(Tensor::Workspace)]].concat())?;
        Ok(Plan { dispatches: [bases, gradients].concat(), workspace: n * sample })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::X, problem)? as u64;
        let size = self.size.min(problem.input.c) as u64;
        Ok(match pass {
            Pass::Forward => Work { flops: elements * (2 * size + 4), bytes: 4 * 2 * elements },
            Pass::BackwardInput => Work { flops: elements * (7 * size + 8), bytes: 4 * 6 * elements },
            Pass::BackwardWeight | Pass::Update => Work::default(),
        })
    }

    fn additions(&self, _: Tensor, problem: Problem) -> usize {
        self.size.min(problem.input.c) + 1
    }

    fn reference(&self, pass: Pass, Problem { input, .. }: Problem, host: &mut HostTensors) {
        let (before, after) = self.reach();
        let (plane, sample) = (input.h * input.w, input.c * input.h * input.w);
        let scale = self.alpha / self.size as f64;
        // The elements at the place of element `i` in the channels that `before` and `after` reach from its own.
        let neighbours = |i: usize, before, after| {
            let (own, rest) = (i / plane % input.c, i / sample * sample + i % plane);
            Self::window(own, before, after, input.c).map(move |c| rest + c * plane)
        };
        let x = host.read(Tensor::X);
        let base = |i| self.k + scale * neighbours(i, before, after).map(|j| x[j] * x[j]).sum::<f64>();
        let bases: Vec<f64> = (0..x.len()).map(base).collect();
        match pass {
            Pass::Forward => {
                let y = x.iter().zip(&bases).map(|(x, base)| x * base.powf(-self.beta)).collect();
                host.put(Tensor::Y, y);
            }
            Pass::BackwardInput => {
                let dy = host.read(Tensor::Dy);
                let gradient = |i: usize| {
                    // The windows that hold `i` are those of the channels as far before it as a window reaches after.
                    let terms = neighbours(i, after, before).map(|j| dy[j] * x[j] * bases[j].powf(-self.beta - 1.0));
                    dy[i] * bases[i].powf(-self.beta) - 2.0 * scale * self.beta * x[i] * terms.sum::<f64>()
                };
                let dx = (0..x.len()).map(gradient).collect();
                host.put(Tensor::Dx, dx);
            }
            Pass::BackwardWeight | Pass::Update => {}
        }
        self.fusion.reference(pass, host);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let norm = LocalResponseNorm::from_attributes(attributes)?;
    let (n, input) = attributes::batch(NAME, shapes, "x")?;
    Ok(case(norm, Problem { n, input }))
}

fn generate(random: &mut Random) -> Case {
    let beta = [0.75, 0.5, 1.0, 0.6][random.integer(0, 3)];
    let (alpha, k) = (random.between(1e-4, 1.0), random.between(0.5, 2.0));
    let fusion = Fusion::generate(random).of(Pass::BackwardInput);
    let norm = LocalResponseNorm { size: random.integer(1, 8), alpha, beta, k, fusion };
    // Now and then many samples, for the plans to split.
    let (channels, side, samples) = if random.chance(0.1) { (9, 3, 200) } else { (13, 9, 4) };
    let input = Shape::new(random.integer(1, channels), random.integer(1, side), random.integer(1, side));
    case(norm, Problem { n: random.integer(1, samples), input })
}

fn case(norm: LocalResponseNorm, problem: Problem) -> Case {
    Case { operation: Arc::new(norm), problem, scalars: Scalars::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn even_windows_reach_further_back() {
        let norm = LocalResponseNorm::from_attributes(&json!({"size": 2, "alpha": 2.0, "beta": 1.0})).unwrap();
        let problem = Problem { n: 1, input: Shape::vector(3) };
        let mut host = HostTensors::new(Scalars::new());
        host.put(Tensor::X, vec![1.0, 2.0, 3.0]);
        host.put(Tensor::Y, vec![0.0; 3]);
        norm.reference(Pass::Forward, problem, &mut host);
        // The bases are 1 + 1·(0 + 1), 1 + 1·(1 + 4) and 1 + 1·(4 + 9).
        assert_eq!(host.read(Tensor::Y), [1.0 / 2.0, 2.0 / 6.0, 3.0 / 14.0]);
    }

    #[test]
    fn errors_are_clear() {
        let refused = |attributes| LocalResponseNorm::from_attributes(&attributes).unwrap_err().to_string();
        assert!(refused(json!({})).contains("size"));
        assert!(refused(json!({"size": 0})).contains("between"));
        assert!(refused(json!({"size": 5, "alpha": 1e300})).contains("alpha"));
    }
}
