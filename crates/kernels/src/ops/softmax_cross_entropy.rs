//! Softmax with cross entropy, value and gradient at once: p = softmax x; loss = −log p\[label\];
//! dx = (p − onehot label) · gradient_scale.
//!
//! # Shapes
//! `x`, `dx`: N×classes; `labels`: N; `metrics`: the N losses, then N times 1 or 0 for whether the label has the
//! largest x, the first of equals. The last layer has no backward pass of its own: its forward pass gives `dx`.
//! `scalars.gradient_scale` is 1 / samples of the whole batch, for the gradient of the mean loss.

use std::ops::Range;

use serde_json::Value;

use super::attributes;
use super::items::Items;
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, Entry, HostTensors, Kernel, Limits, Operation, Pass, Plan, PlanError, Problem,
    Random, Requirements, Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "softmax_cross_entropy";

uniform! {
    /// What a dispatch is told.
    struct SoftmaxCrossEntropyParams {
        /// The batch's row that the bindings of `x` and `dx` start with.
        first: u32,
        /// Rows of the dispatch.
        rows: u32,
        /// Elements of a row.
        classes: u32,
        /// Rows of the whole batch.
        samples: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/nan.wgsl"),
        include_str!("../../shaders/shared/scalars.wgsl"),
        include_str!("../../shaders/softmax_cross_entropy.wgsl"),
    ],
    uniform: SoftmaxCrossEntropyParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "loss = −log softmax(x)[label]; dx = softmax(x) − onehot(label)",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(SoftmaxCrossEntropy::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// A workgroup for each row: for many classes.
const BY_WORKGROUP: &str = "row-per-workgroup";
/// An invocation for each row: for few classes, and for adapters whose workgroup memory is slow.
const BY_LANE: &str = "row-per-lane";

/// The loss. It has no attributes.
#[derive(Debug, Clone, Copy)]
pub struct SoftmaxCrossEntropy;

impl SoftmaxCrossEntropy {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        attributes::none(NAME, attributes).map(|()| Self)
    }
}

impl Operation for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Forward => vec![
                Use::read(Tensor::X),
                Use::read(Tensor::Labels),
                Use::read(Tensor::Scalars),
                Use::write(Tensor::Dx),
                Use::write(Tensor::Metrics),
            ],
            Pass::BackwardInput | Pass::BackwardWeight | Pass::Update => Vec::new(),
        }
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        [BY_WORKGROUP, BY_LANE].map(|name| Variant { name, pass, requires: Requirements::PORTABLE }).to_vec()
    }

    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        if pass != Pass::Forward {
            return Ok(Plan::default());
        }
        self.elements(Tensor::X, problem)?;
        let Problem { n, input } = problem;
        let classes = input.elements()?;
        let cut = [(Use::read(Tensor::X), classes), (Use::write(Tensor::Dx), classes)];
        let whole = [
            (Use::read(Tensor::Labels), n),
            (Use::write(Tensor::Metrics), self.elements(Tensor::Metrics, problem)?),
            (Use::read(Tensor::Scalars), Scalars::ELEMENTS),
        ];
        let uniform = |range: &Range<usize>| SoftmaxCrossEntropyParams {
            first: range.start as u32,
            rows: range.len() as u32,
            classes: classes as u32,
            samples: n as u32,
        };
        let (entry, rows_of_group) = if variant.name == BY_LANE { ("forward_by_lane", 256) } else { ("forward", 1) };
        let kernel = Kernel { shader: &SHADER, entry, definitions: Vec::new(), constants: Vec::new() };
        let items = Items { kernel, count: n, cut: &cut, whole: &whole };
        Ok(Plan { dispatches: items.dispatches(limits, |rows| rows.div_ceil(rows_of_group), uniform)?, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let x = self.elements(Tensor::X, problem)? as u64;
        // Compare; subtract, exponentiate, add; subtract, exponentiate, divide, scale.
        let work = Work { flops: 8 * x, bytes: 4 * (2 * x + 3 * problem.n as u64) };
        Ok(if pass == Pass::Forward { work } else { Work::default() })
    }

    fn additions(&self, _: Tensor, problem: Problem) -> usize {
        problem.input.c * problem.input.h * problem.input.w
    }

    fn reference(&self, pass: Pass, Problem { n, input }: Problem, host: &mut HostTensors) {
        if pass != Pass::Forward {
            return;
        }
        let classes = input.c * input.h * input.w;
        let scale = f64::from(host.scalars.gradient_scale);
        let (mut dx, mut metrics) = (host.take(Tensor::Dx), host.take(Tensor::Metrics));
        let rows = host.read(Tensor::X).chunks(classes).zip(host.read(Tensor::Labels));
        for (row, ((x, label), dx)) in rows.zip(dx.chunks_mut(classes)).enumerate() {
            let label = *label as usize;
            let mut place = 0;
            for (j, value) in x.iter().enumerate() {
                if *value > x[place] || (value.is_nan() && !x[place].is_nan()) {
                    place = j;
                }
            }
            let exponential = |j: usize| (x[j] - x[place]).exp();
            let rest: f64 = (0..classes).filter(|&j| j != label).map(exponential).sum();
            let below = x.get(label).map_or(0.0, |own| x[place] - own);
            let own = if label < classes { exponential(label) } else { 0.0 };
            for (j, dx) in dx.iter_mut().enumerate() {
                *dx = if j == label { -rest } else { exponential(j) } / (rest + own) * scale;
            }
            metrics[row] = if rest <= own { (rest / own).ln_1p() } else { (rest + own).ln() + below };
            metrics[n + row] = f64::from(u8::from(place == label));
        }
        host.put(Tensor::Dx, dx);
        host.put(Tensor::Metrics, metrics);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let softmax = SoftmaxCrossEntropy::from_attributes(attributes)?;
    let (n, input) = attributes::batch(NAME, shapes, "x")?;
    let labels = attributes::dims(NAME, shapes, "labels")?;
    if *labels != [n] {
        return Err(AttributeError::new(NAME, format!("`labels` is {labels:?}; `x` has {n} samples")));
    }
    Ok(case(softmax, Problem { n, input }))
}

fn generate(random: &mut Random) -> Case {
    let classes = if random.chance(0.2) { random.integer(257, 3000) } else { random.integer(1, 70) };
    // Now and then many samples, for the plans to split.
    let samples = if classes < 40 && random.chance(0.2) { 400 } else { 9 };
    case(SoftmaxCrossEntropy, Problem { n: random.integer(1, samples), input: Shape::vector(classes) })
}

fn case(softmax: SoftmaxCrossEntropy, problem: Problem) -> Case {
    let scalars = Scalars { gradient_scale: 1.0 / problem.n.max(1) as f32, ..Scalars::new() };
    Case { operation: std::sync::Arc::new(softmax), problem, scalars }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// dx and metrics of rows of `classes` elements.
    fn run(x: &[f64], classes: usize, labels: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = labels.len();
        let mut host = HostTensors::new(Scalars { gradient_scale: 0.5, ..Scalars::new() });
        host.put(Tensor::X, x.to_vec());
        host.put(Tensor::Labels, labels.to_vec());
        host.put(Tensor::Dx, vec![7.0; x.len()]);
        host.put(Tensor::Metrics, vec![7.0; 2 * n]);
        SoftmaxCrossEntropy.reference(Pass::Forward, Problem { n, input: Shape::vector(classes) }, &mut host);
        (host.take(Tensor::Dx), host.take(Tensor::Metrics))
    }

    fn close(got: &[f64], wanted: &[f64]) {
        assert_eq!(got.len(), wanted.len());
        for (got, wanted) in got.iter().zip(wanted) {
            assert!((got - wanted).abs() < 1e-12, "{got} is not {wanted}");
        }
    }

    #[test]
    fn by_hand() {
        let ln2 = std::f64::consts::LN_2;
        // Shares 1/4, 1/4, 1/2, twice; labels 2 and 0. Huge values: only differences count.
        let (dx, metrics) = run(&[0.0, 0.0, ln2, 5000.0, 5000.0, 5000.0 + ln2], 3, &[2.0, 0.0]);
        close(&dx, &[0.125, 0.125, -0.25, -0.375, 0.125, 0.25]);
        close(&metrics, &[ln2, 2.0 * ln2, 1.0, 0.0]);
    }

    #[test]
    fn one_class_ties_and_labels_beyond() {
        assert_eq!(run(&[3.0], 1, &[0.0]), (vec![0.0], vec![0.0, 1.0]));
        assert_eq!(run(&[1.0, 1.0], 2, &[0.0]).1[1], 1.0);
        assert_eq!(run(&[1.0, 1.0], 2, &[1.0]).1[1], 0.0, "the first of equals is the answer");
        let (dx, metrics) = run(&[1.0, 1.0], 2, &[9.0]);
        assert!(dx.iter().chain(&metrics).all(|value| value.is_finite()));
    }

    #[test]
    fn gradients_are_finite_differences_of_the_loss() {
        let mut random = Random::new(3);
        let (classes, labels) = (7, [2.0, 0.0, 6.0]);
        let x: Vec<f64> = (0..21).map(|_| random.between(-3.0, 3.0)).collect();
        let loss = |x: &[f64]| run(x, classes, &labels).1[..3].iter().sum::<f64>() * 0.5;
        let (dx, _) = run(&x, classes, &labels);
        for (i, dx) in dx.iter().enumerate() {
            let step = 1e-5;
            let at = |by: f64| {
                let mut moved = x.clone();
                moved[i] += by;
                loss(&moved)
            };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            assert!((dx - difference).abs() < 1e-9, "{i}: {dx} is not {difference}");
        }
    }
}
