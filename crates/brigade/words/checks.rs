//! Whether a word's value is possible by itself.

use std::fmt;

use brigade_pipeline::staleness::StalenessError;

use crate::failure::Failure;

/// A word with a value that is not possible.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) word: &'static str,
    reason: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word, self.reason)
    }
}

impl From<Wrong> for Failure {
    fn from(wrong: Wrong) -> Self {
        Self::usage(wrong.to_string())
    }
}

/// One of the `known` words.
pub(super) fn only(word: &'static str, found: Option<&str>, known: &[&str]) -> Result<(), Wrong> {
    match found {
        Some(found) if !known.contains(&found) => {
            Err(Wrong { word, reason: format!("there is no `{found}`; known: {}", known.join(", ")) })
        }
        _ => Ok(()),
    }
}

/// What reads its word by itself.
pub(super) fn readable<T>(word: &'static str, read: Result<T, StalenessError>) -> Result<(), Wrong> {
    read.map(|_| ()).map_err(|error| Wrong { word, reason: error.to_string() })
}

/// A number from 1.
pub(super) fn at_least_one(word: &'static str, value: Option<usize>) -> Result<(), Wrong> {
    match value {
        Some(0) => Err(Wrong { word, reason: "0 is not possible; at least 1 is".into() }),
        _ => Ok(()),
    }
}

/// A number up to `most`.
pub(super) fn at_most(word: &'static str, value: Option<usize>, most: usize) -> Result<(), Wrong> {
    match value {
        Some(value) if value > most => {
            Err(Wrong { word, reason: format!("{value} is not possible; at most {most} is") })
        }
        _ => Ok(()),
    }
}

/// A number that can be multiplied with and divided by in single precision.
pub(super) fn scale(word: &'static str, value: Option<f64>) -> Result<(), Wrong> {
    const MOST: f64 = 16_777_216.0;
    match value {
        Some(value) if !(1.0 / MOST..=MOST).contains(&value) => {
            Err(Wrong { word, reason: format!("{value} is not a number from 1/{MOST} to {MOST}") })
        }
        _ => Ok(()),
    }
}

/// A number from 0 that is at most `high` in single precision.
pub(super) fn number(word: &'static str, value: Option<f64>, high: f32) -> Result<(), Wrong> {
    match value {
        Some(value) if !(value >= 0.0 && value as f32 <= high) => {
            Err(Wrong { word, reason: format!("{value} is not a number from 0 to {high}") })
        }
        _ => Ok(()),
    }
}
