//! A guard before the update: where any dw is infinite or NaN, `hold` is set in the scalars, and the update that reads
//! them changes nothing. What PyTorch's gradient scaler calls `found_inf`.
//!
//! # Shapes
//! `dw`: any number of elements, given as one vector; `y`: the words of [`Scalars`].

use std::ops::Range;

use serde_json::Value;

use super::attributes;
use super::elementwise::{self, Width};
use super::items::Items;
use crate::uniform::uniform;
use crate::{
    AttributeError, Case, CaseShapes, ElementType, Entry, HostTensors, Limits, Operation, Pass, Plan, PlanError,
    Problem, Random, Scalars, Shader, Shape, ShapeError, Tensor, Use, Variant, Work,
};

const NAME: &str = "non_finite";

uniform! {
    /// What a dispatch is told.
    struct NonFiniteParams {
        /// Elements of the dispatch.
        elements: u32,
    }
}

static SHADER: Shader = Shader {
    name: NAME,
    parts: &[
        include_str!("../../shaders/shared/index.wgsl"),
        include_str!("../../shaders/shared/elementwise.wgsl"),
        include_str!("../../shaders/non_finite.wgsl"),
    ],
    uniform: NonFiniteParams::LAYOUT,
};

/// The line in the list of operations.
pub static ENTRY: Entry = Entry {
    name: NAME,
    formula: "hold = 1 where any dw is ±∞ or NaN",
    shader: &SHADER,
    from_attributes: |attributes| Ok(Box::new(NonFinite::from_attributes(attributes)?)),
    from_case,
    generate,
};

/// The guard. It has no attributes.
#[derive(Debug, Clone, Copy)]
pub struct NonFinite;

impl NonFinite {
    fn from_attributes(attributes: &Value) -> Result<Self, AttributeError> {
        attributes::none(NAME, attributes).map(|()| Self)
    }
}

impl Operation for NonFinite {
    fn name(&self) -> &'static str {
        NAME
    }

    fn output(&self, input: Shape) -> Result<Shape, ShapeError> {
        input.elements().map(|_| input)
    }

    fn tensors(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Update => vec![Use::read(Tensor::Dw), Use::update(Tensor::Y)],
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
        let count = self.elements(Tensor::Dw, problem)?;
        let width = Width::of(NAME, variant, count)?;
        let kernel = width.kernel(&SHADER, pass);
        let uniform = |range: &Range<usize>| NonFiniteParams { elements: range.len() as u32 };
        let whole = [(Use::update(Tensor::Y), Scalars::ELEMENTS)];
        let items = Items { kernel, count, cut: &[(Use::read(Tensor::Dw), 1)], whole: &whole };
        Ok(Plan { dispatches: items.dispatches(limits, |floats| width.groups(floats), uniform)?, workspace: 0 })
    }

    fn work(&self, pass: Pass, problem: Problem) -> Result<Work, ShapeError> {
        let elements = self.elements(Tensor::Dw, problem)? as u64;
        Ok(if pass == Pass::Update { Work { flops: 0, bytes: 4 * elements } } else { Work::default() })
    }

    fn additions(&self, _: Tensor, _: Problem) -> usize {
        1
    }

    fn elements(&self, tensor: Tensor, problem: Problem) -> Result<usize, ShapeError> {
        match tensor {
            Tensor::Dw => problem.input.elements(),
            Tensor::Y => Ok(Scalars::ELEMENTS),
            other => Err(ShapeError::Mismatch { operation: NAME, wanted: "dw or y".into(), found: other.to_string() }),
        }
    }

    fn element_type(&self, tensor: Tensor) -> ElementType {
        if tensor == Tensor::Y { ElementType::U32 } else { ElementType::F32 }
    }

    fn reference(&self, pass: Pass, _: Problem, host: &mut HostTensors) {
        if pass == Pass::Update && host.read(Tensor::Dw).iter().any(|gradient| !gradient.is_finite()) {
            let mut y = host.take(Tensor::Y);
            y[Scalars::HOLD] = 1.0;
            host.put(Tensor::Y, y);
        }
    }
}

fn from_case(attributes: &Value, shapes: &CaseShapes) -> Result<Case, AttributeError> {
    let guard = NonFinite::from_attributes(attributes)?;
    let dw = attributes::dims(NAME, shapes, "dw")?;
    let elements = crate::shape::elements(dw).map_err(|error| AttributeError::new(NAME, error))?;
    Ok(case(guard, elements))
}

fn generate(random: &mut Random) -> Case {
    case(NonFinite, random.integer(1, 3000))
}

fn case(guard: NonFinite, elements: usize) -> Case {
    let problem = Problem { n: 1, input: Shape::vector(elements) };
    Case { operation: std::sync::Arc::new(guard), problem, scalars: Scalars::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(dw: &[f64]) -> f64 {
        let mut host = HostTensors::default();
        host.put(Tensor::Dw, dw.to_vec());
        host.put(Tensor::Y, vec![0.0; Scalars::ELEMENTS]);
        let problem = Problem { n: 1, input: Shape::vector(dw.len()) };
        NonFinite.reference(Pass::Update, problem, &mut host);
        host.read(Tensor::Y)[Scalars::HOLD]
    }

    #[test]
    fn infinities_and_nan_hold_the_update_and_numbers_do_not() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(hold(&[1.0, bad]), 1.0);
        }
        assert_eq!(hold(&[0.0, -3e38, f64::from(f32::MIN_POSITIVE)]), 0.0);
    }

    #[test]
    fn the_shader_knows_where_the_word_lies() {
        let held = Scalars { hold: true, ..Scalars::new() }.to_bytes();
        let free = Scalars { hold: false, ..Scalars::new() }.to_bytes();
        let differs = |word: &usize| held[4 * word..4 * word + 4] != free[4 * word..4 * word + 4];
        assert_eq!((0..Scalars::ELEMENTS).filter(differs).collect::<Vec<_>>(), [Scalars::HOLD]);
        let said = format!("const HOLD = {}u;", Scalars::HOLD);
        assert!(SHADER.parts.iter().any(|part| part.contains(&said)));
    }
}
