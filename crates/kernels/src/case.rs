//! The list's entries, and cases to hold executors against the reference.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::{AttributeError, Operation, Precision, Problem, Random, Scalars, Shader};

/// One line of the list of operations.
pub struct Entry {
    /// The operation's name.
    pub name: &'static str,
    /// Its formula in one line, for `docs/kernels.md`.
    pub formula: &'static str,
    /// Its shader.
    pub shader: &'static Shader,
    /// A layer of it, from the attributes in a run file.
    pub from_attributes: fn(&Value) -> Result<Box<dyn Operation>, AttributeError>,
    /// A recorded case, from its attributes and the sides of its tensors.
    pub from_case: fn(&Value, &CaseShapes) -> Result<Case, AttributeError>,
    /// A random case for tests: small, odd sizes included.
    pub generate: fn(&mut Random) -> Case,
}

/// Sides of the tensors of a recorded case, by the tensors' names.
pub type CaseShapes = BTreeMap<String, Vec<usize>>;

/// An operation with its sizes, ready to be run on random or recorded data.
#[derive(Debug, Clone)]
pub struct Case {
    /// The operation with its attributes.
    pub operation: Arc<dyn Operation>,
    /// Its size.
    pub problem: Problem,
    /// What changes from step to step.
    pub scalars: Scalars,
}

/// How far a result is from what was wanted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deviation {
    /// ‖got − wanted‖ / ‖wanted‖, or ‖got‖ where nothing but zeros was wanted. NaN where got has one.
    pub error: f64,
    /// What is allowed: 1e-5 · √(additions of one element).
    pub tolerance: f64,
}

impl Deviation {
    /// Compares `got` with `wanted`, of which each element is the sum of `additions` terms.
    ///
    /// The rounding errors of a sum of k terms of random sign grow as √k · 2⁻²⁴ (Higham, *Accuracy and Stability
    /// of Numerical Algorithms*, §4.2); 1e-5 is 168 · 2⁻²⁴, which leaves room for cancellation between the terms.
    pub fn between(got: &[f64], wanted: &[f64], additions: usize) -> Self {
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let distance = norm(&mut got.iter().zip(wanted).map(|(g, w)| g - w));
        let size = norm(&mut wanted.iter().copied());
        let same_length = if got.len() == wanted.len() { 1.0 } else { f64::NAN };
        Self {
            error: same_length * if size > 0.0 { distance / size } else { distance },
            tolerance: 1e-5 * (additions.max(1) as f64).sqrt(),
        }
    }

    /// Allows for what rounding the operands of products adds.
    ///
    /// Each operand is off by at most 2⁻¹² of itself (11 bits), a product by √2·2⁻¹² where the two roundings are
    /// independent, and so is a sum of products of random sign, however many there are: 3.5e-4. Three times that.
    #[must_use]
    pub fn with(self, precision: Precision) -> Self {
        let rounding = match precision {
            Precision::F32 => 0.0,
            Precision::F16 => 1e-3,
        };
        Self { tolerance: self.tolerance + rounding, ..self }
    }

    /// Whether the error is a number within the tolerance.
    pub fn holds(&self) -> bool {
        self.error <= self.tolerance
    }
}
