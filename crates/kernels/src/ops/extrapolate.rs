//! Weights some updates on or back, along a velocity: y = w − steps·η·v where `rated`, else y = w − steps·v.
//!
//! Corrections of staleness predict weights with it: linearly (Kosson et al. 2021, *Pipelined Backpropagation at Scale*,
//! velocity form), or by what the momentum alone would do.
//!
//! # Shapes
//! `w`, `v`, `y`: any number of elements, given as one vector. The rate η comes from `scalars`.

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

const NAME: &str = "extrapolate";

uniform! {
    /// What a dispatch is told.
    struct ExtrapolateParams {
        /// Elements of the dispatch.
        elements: u32,
        /// How far.
        steps: f32,
        /// 1 where the rate multiplies the steps.
        rated: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/elementwise.wgsl"),
        include_str!("../../shaders/shared/scalars.wgsl"),
        include_str!("../../shaders/extrapolate.wgsl"),
    ],
    uniform: ExtrapolateParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "y = w − steps·η·v",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(Extrapolate::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// The extrapolation with its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extrapolate {
    /// How many velocities away.
    pub steps: f64,
    /// Whether the learning rate multiplies the velocity.
    pub rated: bool,
}

impl Extrapolate {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        let this = attributes::parse::<Self>(NAME, attributes)?;
        if (this.steps as f32).is_finite() {
            return Ok(this);
        }
        Err(AttributeError::new(
            NAME,
            format!("`steps` is {}; it must be a number that single precision holds", this.steps),
        ))
    }
}

impl Operation for Extrapolate {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Update => {
                vec![Use::read(Tensor::W), Use::read(Tensor::V), Use::write(Tensor::Y), Use::read(Tensor::Scalars)]
            }
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
        let uniform = |range: &Range<usize>| ExtrapolateParams {
            elements: range.len() as u32,
            steps: self.steps as f32,
            rated: u32::from(self.rated),
        };
        let cut = [(Use::read(Tensor::W), 1), (Use::read(Tensor::V), 1), (Use::write(Tensor::Y), 1)];
        let whole = [(Use::read(Tensor::Scalars), Scalars::ELEMENTS)];
        let items = Items { kernel, count, cut: &cut, whole: &whole };
        Ok(Plan { dispatches: items.dispatches(limits, |floats| width.groups(floats), uniform)?, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::W, problem)? as u64;
        Ok(if pass == Pass::Update { Work { flops: 2 * elements, bytes: 4 * 3 * elements } } else { Work::default() })
    }

    fn additions(&self, _: Tensor, _: Problem) -> usize {
        2
    }

    fn elements(&self, tensor: Tensor, problem: Problem) -> Result<usize, ShapeError> {
        match tensor {
            Tensor::Scalars => Ok(Scalars::ELEMENTS),
            Tensor::W | Tensor::V | Tensor::Y => problem.input.elements(),
            other => Err(ShapeError::Mismatch {
                operation: NAME,
                wanted: "w, v, y or scalars".into(),
                found: other.to_string(),
            }),
        }
    }

    fn reference(&self, pass: Pass, _: Problem, host: &mut HostTensors) {
        if pass != Pass::Update {
            return;
        }
        let distance = self.steps * if self.rated { f64::from(host.scalars.learning_rate) } else { 1.0 };
        let y = host.read(Tensor::W).iter().zip(host.read(Tensor::V)).map(|(w, v)| w - distance * v).collect();
        host.put(Tensor::Y, y);
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let extrapolate = Extrapolate::from_attributes(attributes)?;
    let w = attributes::dims(NAME, shapes, "w")?;
    let v = attributes::dims(NAME, shapes, "v")?;
    if v != w {
        return Err(AttributeError::new(NAME, format!("`v` is {v:?} and `w` is {w:?}: they must be equal")));
    }
    let elements = crate::shape::elements(w).map_err(|error| AttributeError::new(NAME, error))?;
    Ok(case(extrapolate, elements))
}

fn generate(random: &mut Random) -> Case {
    let extrapolate = Extrapolate { steps: random.between(0.0, 14.0), rated: random.chance(0.5) };
    let mut case = case(extrapolate, random.integer(1, 3000));
    case.scalars.learning_rate = random.between(0.0, 1.0) as f32;
    case
}

fn case(extrapolate: Extrapolate, elements: usize) -> Case {
    let problem = Problem { n: 1, input: Shape::vector(elements) };
    Case { operation: std::sync::Arc::new(extrapolate), problem, scalars: Scalars::new() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// y from w = 2 and v = 4 at rate 0.5.
    fn extrapolated(attributes: &Value) -> f64 {
        let case = from_case(attributes, &["w", "v"].map(|name| (name.to_owned(), vec![1])).into()).unwrap();
        let mut host = HostTensors::new(Scalars { learning_rate: 0.5, ..Scalars::new() });
        host.put(Tensor::W, vec![2.0]);
        host.put(Tensor::V, vec![4.0]);
        case.operation.reference(Pass::Update, case.problem, &mut host);
        host.read(Tensor::Y)[0]
    }

    #[test]
    fn by_hand() {
        assert_eq!(extrapolated(&json!({"steps": 3.0, "rated": true})), -4.0);
        assert_eq!(extrapolated(&json!({"steps": 0.25, "rated": false})), 1.0);
        assert_eq!(extrapolated(&json!({"steps": 0.0, "rated": true})), 2.0);
    }

    #[test]
    fn unusable_attributes_are_refused() {
        for attributes in [json!({}), json!({"steps": 1e300, "rated": true}), json!({"steps": 1.0, "rate": true})] {
            assert!(Extrapolate::from_attributes(&attributes).is_err(), "{attributes}");
        }
    }
}
