//! What can be wrong with shapes, attributes and plans.

use thiserror::Error;

use crate::Shape;

fn join(sides: &[usize]) -> String {
    sides.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
}

/// A layer whose shapes do not fit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// The product of the sides cannot be indexed.
    #[error("{} elements are more than one tensor may have ({} elements)", join(sides), Shape::MAX_ELEMENTS)]
    TooLarge {
        /// The sides that were multiplied.
        sides: Vec<usize>,
    },
    /// A side is zero.
    #[error("a tensor of {} has no elements", join(sides))]
    Empty {
        /// The sides that were multiplied.
        sides: Vec<usize>,
    },
    /// The window is larger than the padded input.
    #[error(
        "{operation}: a window of {window} elements does not fit an input of {input} padded by {padding} on both sides ({axis})"
    )]
    Window {
        /// Name of the operation.
        operation: &'static str,
        /// `height` or `width`.
        axis: &'static str,
        /// Extent of the window, dilation included.
        window: usize,
        /// Extent of the input.
        input: usize,
        /// Padding on each side.
        padding: usize,
    },
    /// Wanted and found differ.
    #[error("{operation}: wanted {wanted}, found {found}")]
    Mismatch {
        /// Name of the operation.
        operation: &'static str,
        /// What the operation needs.
        wanted: String,
        /// What it was given.
        found: String,
    },
}

/// Attributes of an operation that cannot be used, as given in a run file or a recorded case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{operation}: {message}")]
pub struct AttributeError {
    /// Name of the operation.
    pub operation: String,
    /// What is wrong, and what was wanted.
    pub message: String,
}

impl AttributeError {
    /// An error of `operation`, with its reason.
    #[allow(clippy::needless_pass_by_value, reason = "callers hand over errors and texts that they need no more")]
    pub fn new(operation: &str, message: impl ToString) -> Self {
        Self { operation: operation.to_owned(), message: message.to_string() }
    }
}

/// A plan that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The shapes do not fit.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The device's limits do not allow it.
    #[error("{operation}: {what} needs {needed}, and this adapter allows {allowed}")]
    Limit {
        /// Name of the operation.
        operation: &'static str,
        /// What is limited, such as `one binding of w`.
        what: String,
        /// What the plan needs, with its unit.
        needed: String,
        /// What the adapter allows, with its unit.
        allowed: String,
    },
    /// The variant cannot compute these shapes; another can.
    #[error("{operation}: variant {variant} does not suit: {why}")]
    Unsuited {
        /// Name of the operation.
        operation: &'static str,
        /// Name of the variant.
        variant: &'static str,
        /// What it would need.
        why: String,
    },
}

/// A shader whose template does not expand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("shader {shader}: {message}")]
pub struct ShaderError {
    /// Its name.
    pub shader: &'static str,
    /// What is wrong, and where.
    pub message: String,
}
