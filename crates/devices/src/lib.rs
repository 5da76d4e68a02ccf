#![doc = include_str!("../README.md")]

mod check;
mod convert;
mod error;
mod executor;
mod info;
mod ledger;
mod program;
mod reference;
mod selection;
mod staging;

pub use error::DeviceError;
pub use executor::{Completion, Executor, ProgramId, Ticket};
pub use info::{DeviceInfo, Identity, Kind};
pub use ledger::{Ledger, Purpose};
pub use program::{BufferId, Command, Program, Run, Slice};
pub use reference::ReferenceExecutor;
pub use selection::Selection;
pub use staging::{Download, Upload};
