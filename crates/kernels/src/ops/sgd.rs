//! Stochastic gradient descent with momentum, as PyTorch has it: d = dw + λ·w (dw divided by the loss scale); v = μ·v + (1 − dampening)·d;
//! w −= η·(d + μ·v with `nesterov`, else v). Without momentum v is d, whatever the dampening.
//!
//! With `spike_compensation` D the step is a·v + b·d in place of v, a = μ^D and b = (1 − μ^D)/(1 − μ): a gradient that
//! comes D updates late adds at once what it would have added by then (Kosson et al. 2021, *Pipelined Backpropagation at
//! Scale*). D = 0 is plain momentum and D = 1 Nesterov's.
//!
//! # Shapes
//! `w`, `dw`, `v`: any number of elements, given as one vector; the parameters of several layers may lie in a row.
//! The rate η comes from `scalars`, so that it can change at each step. `dw` is cleared. `v` starts as zeros, which
//! differs from PyTorch's first step only with dampening.

use std::ops::Range;

use serde::Deserialize;
use serde_json::Value;

use super::attributes;
use super::elementwise::{self, Width};
use super::items::Items;
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, Entry, HostTensors, Limits, Operation, Pass, Plan, PlanError, Problem, Random,
    Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "sgd";

uniform! {
    /// What a dispatch is told.
    struct SgdParams {
        /// Elements of the dispatch.
        elements: u32,
        /// Momentum μ.
        momentum: f32,
        /// 1 − dampening, or 1 without momentum.
        fresh: f32,
        /// Weight decay λ.
        weight_decay: f32,
        /// What the velocity counts in the step, a.
        velocity_share: f32,
        /// What the gradient counts in the step by itself, b.
        gradient_share: f32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/elementwise.wgsl"),
        include_str!("../../shaders/shared/scalars.wgsl"),
        include_str!("../../shaders/sgd.wgsl"),
    ],
    uniform: SgdParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "v = μ·v + dw + λ·w; w −= η·v",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Sgd::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// The optimiser with its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// The rate that a run starts with; each update reads that of its [`Scalars`].
    pub learning_rate: f64,
    /// Momentum μ.
    #[serde(default)]
    pub momentum: f64,
    /// How much less than in full a gradient enters the momentum.
    #[serde(default)]
    pub dampening: f64,
    /// Weight decay λ.
    #[serde(default)]
    pub weight_decay: f64,
    /// Whether to step by d + μ·v instead of v.
    #[serde(default)]
    pub nesterov: bool,
    /// Updates that a gradient is late, D.
    #[serde(default)]
    pub spike_compensation: f64,
}

impl Sgd {
    /// The optimiser, if its attributes can be used.
    ///
    /// # Errors
    /// Where one is negative or too large for single precision.
    pub fn checked(self) -> Result<Self, AttributeError> {
        let Self { learning_rate, momentum, dampening, weight_decay, spike_compensation, .. } = self;
        let named = [
            ("learning_rate", learning_rate),
            ("momentum", momentum),
            ("dampening", dampening),
            ("weight_decay", weight_decay),
            ("spike_compensation", spike_compensation),
        ];
        for (name, value) in named {
            if !(value >= 0.0 && (value as f32).is_finite()) {
                let message = format!("`{name}` is {value}; it must be a number from 0 on that single precision holds");
                return Err(AttributeError::new(NAME, message));
            }
        }
        if spike_compensation > 0.0 && (self.nesterov || momentum >= 1.0) {
            let message = "`spike_compensation` goes with a momentum below 1 and without `nesterov`, which it contains";
            return Err(AttributeError::new(NAME, message));
        }
        Ok(self)
    }

    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        attributes::parse::<Self>(NAME, attributes)?.checked()
    }

    /// What a gradient is multiplied with on its way into the momentum.
    fn fresh(&self) -> f64 {
        if self.momentum == 0.0 { 1.0 } else { 1.0 - self.dampening }
    }

    /// What velocity and gradient count in the step: a and b.
    fn shares(&self) -> [f64; 2] {
        let Self { momentum, spike_compensation: delay, .. } = *self;
        if self.nesterov {
            return [momentum, 1.0];
        }
        if delay == 0.0 {
            return [1.0, 0.0];
        }
        let left = momentum.powf(delay);
        [left, (1.0 - left) / (1.0 - momentum)]
    }
}

impl Operation for Sgd {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        let updated = [Tensor::W, Tensor::Dw, Tensor::V].map(Use::update);
        match pass {
            Pass::Update => updated.into_iter().chain([Use::read(Tensor::Scalars)]).collect(),
            Pass::Forward | Pass::BackwardInput | Pass::BackwardWeight => Vec::new(),
        }
    }

    fn variants(&self, pass: Pass) -> Vec<Variant> {
        elementwise::variants(pass)
    }

    fn plan(&self, pass: Pass, variant: &Variant, problem: Problem, limits: &Limits) -> Result<Plan, PlanError> {
        if pass != Pass::Update {
            return Ok(Plan::default());
        }
        let cut = [Tensor::W, Tensor::Dw, Tensor::V].map(|tensor| (Use::update(tensor), 1));
        let whole = [(Use::read(Tensor::Scalars), Scalars::ELEMENTS)];
        let count = self.elements(Tensor::W, problem)?;
        let width = Width::of(NAME, variant, count)?;
        let kernel = width.kernel(&SHADER, pass);
        let [velocity_share, gradient_share] = self.shares();
        let uniform = |range: &Range<usize>| SgdParams {
            elements: range.len() as u32,
            momentum: self.momentum as f32,
            fresh: self.fresh() as f32,
            weight_decay: self.weight_decay as f32,
            velocity_share: velocity_share as f32,
            gradient_share: gradient_share as f32,
        };
        let items = Items { kernel, count, cut: &cut, whole: &whole };
        Ok(Plan { dispatches: items.dispatches(limits, |floats| width.groups(floats), uniform)?, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::W, problem)? as u64;
        let flops = if self.shares() == [1.0, 0.0] { 7 } else { 9 } * elements;
        Ok(if pass == Pass::Update { Work { flops, bytes: 4 * 6 * elements } } else { Work::default() })
    }

    fn additions(&self, _: Tensor, _: Problem) -> usize {
        3
    }

    fn elements(&self, tensor: Tensor, problem: Problem) -> Result<usize, ShapeError> {
        match tensor {
            Tensor::Scalars => Ok(Scalars::ELEMENTS),
            Tensor::W | Tensor::Dw | Tensor::V => problem.input.elements(),
            other => Err(ShapeError::Mismatch {
                operation: NAME,
                wanted: "w, dw, v or scalars".into(),
                found: other.to_string(),
            }),
        }
    }

    fn reference(&self, pass: Pass, _: Problem, host: &mut HostTensors) {
        if pass != Pass::Update || host.scalars.hold {
            return;
        }
        let rate = f64::from(host.scalars.learning_rate);
        let unscale = f64::from(host.scalars.gradient_unscale);
        let [a, b] = self.shares();
        let [mut w, mut dw, mut v] = [Tensor::W, Tensor::Dw, Tensor::V].map(|tensor| host.take(tensor));
        for ((w, dw), v) in w.iter_mut().zip(&mut dw).zip(&mut v) {
            let d = unscale * *dw + self.weight_decay * *w;
            *v = self.momentum * *v + self.fresh() * d;
            *w -= rate * if b == 0.0 { *v } else { b * d + a * *v };
            *dw = 0.0;
        }
        host.put(Tensor::W, w);
        host.put(Tensor::Dw, dw);
        host.put(Tensor::V, v);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let sgd = Sgd::from_attributes(attributes)?;
    let w = attributes::dims(NAME, shapes, "w")?;
    for other in ["dw", "v"] {
        let found = attributes::dims(NAME, shapes, other)?;
        if found != w {
            return Err(AttributeError::new(
                NAME,
                format!("`{other}` is {found:?} and `w` is {w:?}: they must be equal"),
            ));
        }
    }
    let elements = crate::shape::elements(w).map_err(|error| AttributeError::new(NAME, error))?;
    Ok(case(sgd, elements))
}

fn generate(random: &mut Random) -> Case {
    let nesterov = random.chance(0.5);
    let sgd = Sgd {
        learning_rate: random.between(0.0, 1.0),
        momentum: [0.0, 0.5, 0.9][random.integer(0, 2)],
        dampening: [0.0, 0.3][random.integer(0, 1)],
        weight_decay: [0.0, 5e-4, 0.1][random.integer(0, 2)],
        nesterov,
        spike_compensation: if nesterov { 0.0 } else { [0.0, 1.0, 2.5][random.integer(0, 2)] },
    };
    let mut case = case(sgd, random.integer(1, 3000));
    case.scalars.gradient_unscale = [1.0, 0.125][random.integer(0, 1)];
    case
}

fn case(sgd: Sgd, elements: usize) -> Case {
    let scalars = Scalars { learning_rate: sgd.learning_rate as f32, ..Scalars::new() };
    Case { operation: std::sync::Arc::new(sgd), problem: Problem { n: 1, input: Shape::vector(elements) }, scalars }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// w, dw and v after one step from w = 2, dw = 3, v = 4 with rate 0.5.
    fn step(mut attributes: Value) -> [f64; 3] {
        attributes["learning_rate"] = json!(0.5);
        let case = from_case(&attributes, &["w", "dw", "v"].map(|name| (name.to_owned(), vec![1])).into()).unwrap();
        let mut host = HostTensors::new(case.scalars);
        host.put(Tensor::W, vec![2.0]);
        host.put(Tensor::Dw, vec![3.0]);
        host.put(Tensor::V, vec![4.0]);
        case.operation.reference(Pass::Update, case.problem, &mut host);
        [Tensor::W, Tensor::Dw, Tensor::V].map(|tensor| host.read(tensor)[0])
    }

    #[test]
    fn by_hand() {
        assert_eq!(step(json!({})), [0.5, 0.0, 3.0]);
        assert_eq!(step(json!({"weight_decay": 0.5})), [0.0, 0.0, 4.0]);
        assert_eq!(step(json!({"momentum": 0.5})), [-0.5, 0.0, 5.0]);
        assert_eq!(step(json!({"momentum": 0.5, "dampening": 1.0})), [1.0, 0.0, 2.0]);
        assert_eq!(step(json!({"momentum": 0.5, "nesterov": true})), [-0.75, 0.0, 5.0]);
        // a = 1/4 and b = 3/2: step = 5/4 + 9/2.
        assert_eq!(step(json!({"momentum": 0.5, "spike_compensation": 2})), [-0.875, 0.0, 5.0]);
        assert_eq!(step(json!({"dampening": 1.0})), [0.5, 0.0, 3.0], "PyTorch ignores dampening without momentum");
    }

    #[test]
    fn unusable_attributes_are_refused() {
        assert!(Sgd::from_attributes(&json!({})).unwrap_err().to_string().contains("learning_rate"));
        for attributes in [
            json!({"learning_rate": -0.1}),
            json!({"learning_rate": 1e300}),
            json!({"learning_rate": null}),
            json!({"learning_rate": 0.1, "momentum": -1}),
            json!({"learning_rate": 0.1, "weight_decay": -1e-9}),
            json!({"learning_rate": 0.1, "lr": 1}),
            json!({"learning_rate": 0.1, "momentum": 0.5, "nesterov": true, "spike_compensation": 2}),
        ] {
            assert!(Sgd::from_attributes(&attributes).is_err(), "{attributes}");
        }
        let usable = Sgd {
            learning_rate: 0.1,
            momentum: 0.0,
            dampening: 0.0,
            weight_decay: 0.0,
            nesterov: false,
            spike_compensation: 0.0,
        };
        assert!(usable.checked().is_ok());
        assert!(Sgd { learning_rate: f64::NAN, ..usable }.checked().is_err());
    }
}
