//! Dropout: in training y = x · mask / (1 − p), where each element of mask is 0 with probability p, else 1.
//! Otherwise y = x.
//!
//! # Shapes
//! `x`, `y`, `dx`, `dy`: N×C×H×W. Nothing is saved: the backward pass draws the same mask again. Random numbers are
//! counted, not kept: a sample's number in the run, the layer and the element decide, so that the mask is the same
//! on every adapter, however the batch is cut into microbatches and the network into stages.

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

const NAME: &str = "dropout";

uniform! {
    /// What a dispatch is told.
    struct DropoutParams {
        /// The batch's element that the bindings start with.
        first: u32,
        /// Elements of the dispatch.
        elements: u32,
        /// Random words below it drop their element.
        threshold: u32,
        /// 1 / (1 − p).
        scale: f32,
        /// The layer's number.
        layer: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/stored.wgsl"),
        include_str!("../../shaders/shared/scalars.wgsl"),
        include_str!("../../shaders/shared/philox.wgsl"),
        include_str!("../../shaders/dropout.wgsl"),
    ],
    uniform: DropoutParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y = x · mask / (1 − p)",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Dropout::from_attributes(attributes)?)),
    from_case,
    generate,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(default = "half")]
    p: f64,
}

const fn half() -> f64 {
    0.5
}

/// Dropout with its probability.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    p: f64,
    layer: u32,
    fusion: Fusion,
}

impl Dropout {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        let Attributes { p } = attributes::parse(NAME, attributes)?;
        if !(0.0..1.0).contains(&p) {
            return Err(AttributeError::new(NAME, format!("`p` is {p}; it must be at least 0 and less than 1")));
        }
        Ok(Self { p, layer: 0, fusion: Fusion::NONE })
    }

    /// Of 2³² random words, those below it drop their element.
    fn threshold(&self) -> u32 {
        (self.p * (1u64 << 32) as f64).round().min(f64::from(u32::MAX)) as u32
    }

    fn scale(&self) -> f64 {
        1.0 / (1.0 - self.p)
    }

    /// What the element at `place` of the microbatch's sample `index` is multiplied with.
    fn factor(&self, scalars: &Scalars, index: usize, place: usize) -> f64 {
        if !scalars.training {
            return 1.0;
        }
        let sample = scalars.first_sample.wrapping_add(index as u64);
        let counter = [sample as u32, (sample >> 32) as u32, self.layer, (place / 4) as u32];
        let words = philox(counter, [scalars.seed as u32, (scalars.seed >> 32) as u32]);
        if words[place % 4] >= self.threshold() { self.scale() } else { 0.0 }
    }
}

/// Philox4x32-10 (Salmon et al. 2011); the twin of `shaders/shared/philox.wgsl`.
fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let [a, b, c, d] = counter;
        let first = u64::from(a) * 0xD251_1F53;
        let second = u64::from(c) * 0xCD9E_8D57;
        let (high_0, low_0) = ((first >> 32) as u32, first as u32);
        let (high_2, low_2) = ((second >> 32) as u32, second as u32);
        counter = [high_2 ^ b ^ key[0], low_2, high_0 ^ d ^ key[1], low_0];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

impl Operation for Dropout {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        let mut uses = match pass {
            Pass::Forward => vec![Use::read(Tensor::X), Use::read(Tensor::Scalars), Use::write(Tensor::Y)],
            Pass::BackwardInput => vec![Use::read(Tensor::Dy), Use::read(Tensor::Scalars), Use::write(Tensor::Dx)],
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

    fn set_layer(&mut self, layer: u32) {
        self.layer = layer;
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        vec![Variant { name: "elementwise", pass, requires: Requirements::PORTABLE }]
    }

    fn plan(&self, pass: Pass, _: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        let count = self.elements(Tensor::X, problem)?;
        let cut = self.tensors(pass).into_iter().filter(|used| used.tensor != Tensor::Scalars);
        let cut: Vec<_> = cut.map(|used| (used, 1)).collect();
        let definitions = self.fusion.definitions(pass, slot(Tensor::X)).to_vec();
        let constants = vec![("SAMPLE", problem.input.elements()? as f64)];
        let kernel = Kernel { shader: &SHADER, entry: pass.name(), definitions, constants };
        let whole = [(Use::read(Tensor::Scalars), Scalars::ELEMENTS)];
        let uniform = |range: &Range<usize>| DropoutParams {
            first: range.start as u32,
            elements: range.len() as u32,
            threshold: self.threshold(),
            scale: self.scale() as f32,
            layer: self.layer,
        };
        let items = Items { kernel, count, cut: &cut, whole: &whole };
        Ok(Plan { dispatches: items.dispatches(limits, |elements| elements.div_ceil(4 * 256), uniform)?, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::X, problem)? as u64;
        // The scalars are few.
        let tensors = self.tensors(pass).len().saturating_sub(1) as u64;
        Ok(if tensors == 0 { Work::default() } else { Work { flops: elements, bytes: 4 * tensors * elements } })
    }

    fn reference(&self, pass: Pass, Problem { input, .. }: Problem, host: &mut HostTensors) {
        let (from, to) = match pass {
            Pass::Forward => (Tensor::X, Tensor::Y),
            Pass::BackwardInput => (Tensor::Dy, Tensor::Dx),
            Pass::BackwardWeight | Pass::Update => return,
        };
        let sample = input.c * input.h * input.w;
        let mut result = host.take(to);
        for (i, (result, value)) in result.iter_mut().zip(host.read(from)).enumerate() {
            *result = value * self.factor(&host.scalars, i / sample, i % sample);
        }
        host.put(to, result);
        self.fusion.reference(pass, host);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let dropout = Dropout::from_attributes(attributes)?;
    let (n, input) = attributes::batch(NAME, shapes, "x")?;
    Ok(case(dropout, Problem { n, input }, Scalars::new()))
}

fn generate(random: &mut Random) -> Case {
    let input = Shape::new(random.integer(1, 9), random.integer(1, 17), random.integer(1, 17));
    let p = [0.0, 0.1, 0.5, 0.9][random.integer(0, 3)];
    let (layer, fusion) = (random.integer(0, 99) as u32, Fusion::generate(random).of(Pass::BackwardInput));
    let dropout = Dropout { p, layer, fusion };
    // Sample numbers around 2³² too: the carry counts.
    let first_sample = [0, 1000, (1 << 32) - 2, u64::MAX >> 8][random.integer(0, 3)];
    let scalars = Scalars { first_sample, seed: random.next_u64(), training: random.chance(0.8), ..Scalars::new() };
    case(dropout, Problem { n: random.integer(1, 5), input }, scalars)
}

fn case(dropout: Dropout, problem: Problem, scalars: Scalars) -> Case {
    Case { operation: Arc::new(dropout), problem, scalars }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        let digits_of_pi = [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344];
        let wanted = [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1];
        assert_eq!(philox(digits_of_pi, [0xA409_3822, 0x299F_31D0]), wanted);
    }

    fn forward(dropout: Dropout, n: usize, first_sample: u64, training: bool) -> Vec<f64> {
        let problem = Problem { n, input: Shape::new(3, 5, 7) };
        let mut host = HostTensors::new(Scalars { first_sample, seed: 42, training, ..Scalars::new() });
        host.put(Tensor::X, vec![1.0; n * 105]);
        host.put(Tensor::Y, vec![9.0; n * 105]);
        dropout.reference(Pass::Forward, problem, &mut host);
        host.read(Tensor::Y).to_vec()
    }

    #[test]
    fn masks_do_not_depend_on_microbatches() {
        let mut dropout = Dropout::from_attributes(&json!({"p": 0.25})).unwrap();
        let whole = forward(dropout, 8, 100, true);
        let parts = [forward(dropout, 3, 100, true), forward(dropout, 5, 103, true)].concat();
        assert_eq!(whole, parts);
        dropout.set_layer(1);
        assert_ne!(whole, forward(dropout, 8, 100, true), "another layer draws other numbers");
    }

    #[test]
    fn keeps_the_right_share_and_the_mean() {
        let dropout = Dropout::from_attributes(&json!({"p": 0.25})).unwrap();
        let y = forward(dropout, 200, 0, true);
        let kept = y.iter().filter(|&&y| y > 0.0).count() as f64 / y.len() as f64;
        assert!((kept - 0.75).abs() < 0.01, "{kept}");
        assert!(y.iter().all(|&y| y == 0.0 || (y - 4.0 / 3.0).abs() < 1e-12));
        assert!(forward(dropout, 2, 0, false).iter().all(|&y| y == 1.0));
    }

    #[test]
    fn probabilities_outside_their_range_are_refused() {
        for p in [-0.1, 1.0, 1e300] {
            assert!(Dropout::from_attributes(&json!({ "p": p })).is_err());
        }
    }
}
