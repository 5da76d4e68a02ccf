//! A stage: one layer-block on one executor, with the only copy of its weights.

mod block;
pub(crate) mod buffers;
pub(crate) mod exchange;
pub(crate) mod foresight;
mod fusion;
pub(crate) mod layout;
mod programs;
#[cfg(test)]
mod quadratic;
mod tasks;
mod update;
pub(crate) mod worker;

pub(crate) use block::{Stage, StageOptions};
pub(crate) use programs::{Block, Lane};
pub(crate) use update::Updates;
