#![doc = include_str!("../README.md")]

mod adapters;
mod check;
mod convert;
mod door;
mod error;
mod executor;
pub mod fault;
mod gpu;
mod info;
mod ledger;
mod measure;
mod open;
mod program;
mod reference;
mod selection;
mod self_test;
mod sources;
mod staging;
mod trial;
mod tune;
mod verify;

pub use adapters::{find, list, unnamed};
pub use error::DeviceError;
pub use executor::{Completion, Counts, Executor, Lap, LapKernel, ProgramId, Ticket};
pub use info::{DeviceInfo, Identity, Kind};
pub use ledger::{Ledger, Purpose};
pub use measure::{Measured, Subject, Timing};
pub use open::{OpenOptions, open};
pub use program::{BufferId, Command, Program, Run, Slice};
pub use reference::ReferenceExecutor;
pub use selection::{Selection, ShapeClass};
pub use self_test::{SelfTest, self_test, self_test_for};
pub use staging::{Download, Upload};
pub use trial::{Outcome, Words, run_case};
pub use tune::{Opener, Task, Tuner, Tuning, TuningReport, WrongVariant};
pub use verify::{Report, verify, verify_some};
