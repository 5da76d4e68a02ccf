//! Every fault and bad input of `rows.txt`: a test for each, called `row_NN_words`, with `_on_NAME` at its end where it
//! drives an executor. `make faults` runs them and prints the rows.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod support;

mod checkpoints;
mod devices;
mod hangs;
mod links;
mod long_run;
mod losses;
mod moments;
mod newest;
mod numerics;
mod power;
mod room;
mod soak;
mod storage;
mod threads;
