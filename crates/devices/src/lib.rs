#![doc = include_str!("../README.md")]

mod adapters;
mod check;
mod convert;
mod door;
mod error;
mod executor;
mod gpu;
mod info;
mod ledger;
mod open;
mod program;
mod reference;
mod selection;
mod staging;
mod trial;
mod verify;

pub use adapters::{find, list, unnamed};
pub use error::DeviceError;
pub use executor::{Completion, Executor, ProgramId, Ticket};
pub use info::{DeviceInfo, Identity, Kind};
pub use ledger::{Ledger, Purpose};
pub use open::{OpenOptions, open};
pub use program::{BufferId, Command, Program, Run, Slice};
pub use reference::ReferenceExecutor;
pub use selection::Selection;
pub use staging::{Download, Upload};
pub use trial::{Outcome, Words, run_case};
pub use verify::{Report, SelfTest, self_test, verify, verify_some};
