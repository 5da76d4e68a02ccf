//! Attributes from run files and recorded cases.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{AttributeError, CaseShapes, Shape};

/// A pair for rows and columns, written as one number for both or as a list of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrTwo")]
pub(crate) struct Pair {
    pub(crate) h: usize,
    pub(crate) w: usize,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrTwo {
    One(usize),
    Two([usize; 2]),
}

impl From<OneOrTwo> for Pair {
    fn from(value: OneOrTwo) -> Self {
        match value {
            OneOrTwo::One(both) => Self::both(both),
            OneOrTwo::Two([h, w]) => Self { h, w },
        }
    }
}

impl Pair {
    /// The same for rows and columns.
    pub(crate) const fn both(value: usize) -> Self {
        Self { h: value, w: value }
    }
}

/// Reads the attributes of `operation`; unknown and missing ones are errors that name them.
pub(crate) fn parse<T: DeserializeOwned>(operation: &str, attributes: &Value) -> Result<T, AttributeError> {
    serde_json::from_value(attributes.clone()).map_err(|error| AttributeError::new(operation, error))
}

/// Refuses attributes where the operation has none.
pub(crate) fn none(operation: &str, attributes: &Value) -> Result<(), AttributeError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct None {}
    parse::<None>(operation, attributes).map(|_| ())
}

/// The sides of a recorded tensor.
pub(crate) fn dims<'a>(operation: &str, shapes: &'a CaseShapes, name: &str) -> Result<&'a [usize], AttributeError> {
    let missing = || AttributeError::new(operation, format!("the case has no tensor `{name}`"));
    shapes.get(name).map(Vec::as_slice).ok_or_else(missing)
}

/// Samples and shape of a recorded input of 1 to 4 sides: N, N×C, N×C×H or N×C×H×W.
pub(crate) fn batch(operation: &str, shapes: &CaseShapes, name: &str) -> Result<(usize, Shape), AttributeError> {
    match *dims(operation, shapes, name)? {
        [n] => Ok((n, Shape::vector(1))),
        [n, c] => Ok((n, Shape::vector(c))),
        [n, c, h] => Ok((n, Shape::new(c, h, 1))),
        [n, c, h, w] => Ok((n, Shape::new(c, h, w))),
        ref other => {
            Err(AttributeError::new(operation, format!("`{name}` has {} sides; 1 to 4 are known", other.len())))
        }
    }
}
