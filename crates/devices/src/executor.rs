//! The seam between a stage and what computes for it.

use std::ops::AddAssign;
use std::time::{Duration, Instant};

use brigade_kernels::{Dispatch, Pass};

use crate::program::{BufferId, Program, Slice};
use crate::staging::{Download, Upload};
use crate::{DeviceError, DeviceInfo, Ledger, Purpose, Selection};

/// A program that has been prepared on an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProgramId(pub(crate) usize);

/// A program that has been submitted and not yet waited for. Tickets are waited for in the order of submission.
#[derive(Debug)]
pub struct Ticket {
    pub(crate) submission: u64,
    pub(crate) submitted: Instant,
}

/// What a finished program leaves.
#[derive(Debug)]
pub struct Completion {
    /// What the program downloaded, where it downloads anything.
    pub download: Option<Download>,
    /// When it was submitted.
    pub submitted: Instant,
    /// When it was found finished.
    pub finished: Instant,
    /// Time between the device's own timestamps around the commands, where it has them.
    pub device_time: Option<Duration>,
    /// The same for each pass of an operation, where the device was opened to be profiled.
    pub laps: Vec<Lap>,
    /// What the submission consisted of.
    pub work: Counts,
}

/// The time of one pass of an operation within a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lap {
    /// Whose.
    pub kernel: LapKernel,
    /// Time on the device.
    pub time: Duration,
}

/// What ran during a [`Lap`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LapKernel {
    /// The operation.
    pub operation: &'static str,
    /// The pass.
    pub pass: Pass,
    /// The variant.
    pub variant: &'static str,
}

/// What an encoder was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Compute passes.
    pub passes: usize,
    /// Dispatches in them.
    pub dispatches: usize,
    /// Copies between buffers, uploads and downloads included, and clears.
    pub transfers: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passes += other.passes;
        self.dispatches += other.dispatches;
        self.transfers += other.transfers;
    }
}

/// Something that holds buffers and runs programs: a GPU through wgpu, or the reference arithmetic on the host.
///
/// An executor belongs to one thread at a time and never waits for another executor.
pub trait Executor: Send {
    /// Who it is and what it allows.
    fn info(&self) -> &DeviceInfo;

    /// A buffer of `elements` 4-byte elements, all zero, counted under `purpose`.
    ///
    /// # Errors
    /// Where the device has no room, or no buffer may be that large.
    fn allocate(&mut self, elements: usize, purpose: Purpose) -> Result<BufferId, DeviceError>;

    /// Frees a buffer that no program uses any more.
    fn release(&mut self, buffer: BufferId);

    /// Writes a slice outside of programs, for set-up. `bytes` has 4 bytes for each element.
    ///
    /// # Errors
    /// Where the device is lost.
    fn write(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Reads a slice outside of programs, after everything submitted so far.
    ///
    /// # Errors
    /// Where the device is lost or does not answer.
    fn read(&mut self, from: Slice) -> Result<Vec<u8>, DeviceError>;

    /// Makes a program ready to be submitted many times: pipelines, bindings, uniforms, scratch memory, staging slots:
    /// `depth` for downloads that are in flight or held by others, and of uploads two, as each is free again when its
    /// submission has finished.
    ///
    /// # Errors
    /// Where a plan does not fit the device, a pipeline cannot be made, or there is no room.
    fn prepare(&mut self, program: &Program, depth: usize) -> Result<ProgramId, DeviceError>;

    /// Compiles ahead, several at a time, what programs of these dispatches will need. Nothing has to: a program that is
    /// prepared compiles what it still lacks.
    ///
    /// # Errors
    /// Where the device is lost, or a kernel cannot be compiled; all others are.
    fn compile(&mut self, dispatches: &[Dispatch]) -> Result<(), DeviceError> {
        let _ = dispatches;
        Ok(())
    }

    /// Provides upload slots of this many bytes, so that smaller programs prepared first do not get slots of their own.
    ///
    /// # Errors
    /// Where there is no room.
    fn reserve_uploads(&mut self, bytes: usize) -> Result<(), DeviceError>;

    /// Whether a slot is free for the results of another program of `lane`. Where none is, submitting one allocates.
    ///
    /// # Errors
    /// Where the device is lost.
    fn has_room(&mut self, lane: usize) -> Result<bool, DeviceError>;

    /// A free upload slot to fill, at least as large as the program wants. Slots come from rings allocated by
    /// [`Executor::prepare`]; where all are in flight, this waits for the oldest submission.
    ///
    /// # Errors
    /// Where the device is lost or does not answer.
    fn upload(&mut self, program: ProgramId) -> Result<Upload, DeviceError>;

    /// Submits a program with the upload slot it reads, and returns at once.
    ///
    /// # Errors
    /// Where the device is lost.
    fn submit(&mut self, program: ProgramId, upload: Option<Upload>) -> Result<Ticket, DeviceError>;

    /// Whether a submission has finished, without waiting.
    ///
    /// # Errors
    /// Where the device is lost.
    fn is_finished(&mut self, ticket: &Ticket) -> Result<bool, DeviceError>;

    /// Waits for a submission. Blocks the thread (it does not spin), for at most `timeout`.
    ///
    /// # Errors
    /// Where the device is lost, or does not finish in time.
    fn wait(&mut self, ticket: Ticket, timeout: Duration) -> Result<Completion, DeviceError>;

    /// Forgets a program that will not be submitted again, with the buffers that only it held.
    fn forget(&mut self, program: ProgramId);

    /// What has been allocated.
    fn ledger(&self) -> &Ledger;

    /// Which variants [`Executor::prepare`] uses.
    fn selection(&self) -> &Selection;

    /// To prefer or exclude variants; programs prepared before keep theirs.
    fn selection_mut(&mut self) -> &mut Selection;
}
