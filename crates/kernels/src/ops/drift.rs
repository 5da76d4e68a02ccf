//! A moving average of what updates change: v = γ·v + (1 − γ)·(w − y), with the weights w after and y before an update.
//! The δ of PipeMare's discrepancy correction (Yang et al. 2021, *PipeMare: Asynchronous Pipeline Parallel DNN Training*,
//! technique 2).
//!
//! # Shapes
//! `w`, `y`, `v`: any number of elements, given as one vector.

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

const NAME: &str = "drift";

uniform! {
    /// What a dispatch is told.
    struct DriftParams {
        /// Elements of the dispatch.
        elements: u32,
        /// γ.
        decay: f32,
        /// 1 − γ.
        fresh: f32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/elementwise.wgsl"),
        include_str!("../../shaders/drift.wgsl"),
    ],
    uniform: DriftParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "v = γ·v + (1 − γ)·(w − y)",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Drift::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// The average with its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// γ, from 0 and below 1.
    pub decay: f64,
}

impl Drift {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        let this = attributes::parse::<Self>(NAME, attributes)?;
        if (0.0..1.0).contains(&this.decay) {
            return Ok(this);
        }
        Err(AttributeError::new(NAME, format!("`decay` is {}; it must be from 0 and below 1", this.decay)))
    }
}

impl Operation for Drift {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Update => vec![Use::read(Tensor::W), Use::read(Tensor::Y), Use::update(Tensor::V)],
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
        let count = self.elements(Tensor::W, problem)?;
        let width = Width::of(NAME, variant, count)?;
        let kernel = width.kernel(&SHADER, pass);
        let uniform = |range: &Range<usize>| DriftParams {
            elements: range.len() as u32,
            decay: self.decay as f32,
            fresh: (1.0 - self.decay) as f32,
        };
        let cut = [(Use::read(Tensor::W), 1), (Use::read(Tensor::Y), 1), (Use::update(Tensor::V), 1)];
        let items = Items { kernel, count, cut: &cut, whole: &[] };
        Ok(Plan { dispatches: items.dispatches(limits, |floats| width.groups(floats), uniform)?, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::W, problem)? as u64;
        Ok(if pass == Pass::Update { Work { flops: 4 * elements, bytes: 4 * 4 * elements } } else { Work::default() })
    }

    fn additions(&self, _: Tensor, _: Problem) -> usize {
        3
    }

    fn elements(&self, tensor: Tensor, problem: Problem) -> Result<usize, ShapeError> {
        match tensor {
            Tensor::W | Tensor::V | Tensor::Y => problem.input.elements(),
            other => {
                Err(ShapeError::Mismatch { operation: NAME, wanted: "w, v or y".into(), found: other.to_string() })
            }
        }
    }

    fn reference(&self, pass: Pass, _: Problem, host: &mut HostTensors) {
        if pass != Pass::Update {
            return;
        }
        let mut v = host.take(Tensor::V);
        for ((v, w), y) in v.iter_mut().zip(host.read(Tensor::W)).zip(host.read(Tensor::Y)) {
            *v = self.decay * *v + (1.0 - self.decay) * (w - y);
        }
        host.put(Tensor::V, v);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let drift = Drift::from_attributes(attributes)?;
    let w = attributes::dims(NAME, shapes, "w")?;
    for other in ["y", "v"] {
        let found = attributes::dims(NAME, shapes, other)?;
        if found != w {
            return Err(AttributeError::new(
                NAME,
                format!("`{other}` is {found:?} and `w` is {w:?}: they must be equal"),
            ));
        }
    }
    let elements = crate::shape::elements(w).map_err(|error| AttributeError::new(NAME, error))?;
    Ok(case(drift, elements))
}

fn generate(random: &mut Random) -> Case {
    let drift = Drift { decay: random.between(0.0, 0.99) };
    case(drift, random.integer(1, 3000))
}

fn case(drift: Drift, elements: usize) -> Case {
    let problem = Problem { n: 1, input: Shape::vector(elements) };
    Case { operation: std::sync::Arc::new(drift), problem, scalars: Scalars::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn by_hand() {
        let shapes = ["w", "y", "v"].map(|name| (name.to_owned(), vec![1])).into();
        let case = from_case(&json!({"decay": 0.25}), &shapes).unwrap();
        let mut host = HostTensors::new(case.scalars);
        for (tensor, value) in [(Tensor::W, 6.0), (Tensor::Y, 2.0), (Tensor::V, 8.0)] {
            host.put(tensor, vec![value]);
        }
        case.operation.reference(Pass::Update, case.problem, &mut host);
        assert_eq!(host.read(Tensor::V)[0], 5.0);
    }

    #[test]
    fn a_decay_of_one_or_more_is_refused() {
        for decay in [json!(1.0), json!(-0.1), json!(null)] {
            assert!(Drift::from_attributes(&json!({"decay": decay})).is_err(), "{decay}");
        }
    }
}
