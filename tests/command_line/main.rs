//! Bad input to the command; tests called `row_NN_words` hold a row of `faults/rows.txt`: each ends with its exit status and
//! a message that names the offender and how to mend it, and nothing panics.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;

mod checkpoints;
mod data;
mod saving;
mod words;

use common::command::{Outcome, Place};

const USAGE: i32 = 2;
const DATA: i32 = 3;
const CHECKPOINT: i32 = 4;
const DEVICE: i32 = 5;
const STORAGE: i32 = 7;
const NUMERICS: i32 = 8;

/// `brigade train` with the small model and more flags.
fn train(flags: &str) -> Outcome {
    Place::new().small("train", flags)
}
