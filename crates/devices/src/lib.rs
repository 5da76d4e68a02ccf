#![doc = include_str!("../README.md")]

mod executor;
mod ledger;
mod program;

pub use executor::{Completion, Executor, ProgramId, Ticket};
pub use ledger::{Ledger, Purpose};
pub use program::{BufferId, Command, Program, Run, Slice};
