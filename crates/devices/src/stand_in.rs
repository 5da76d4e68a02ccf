//! An executor in the place of a device that is not there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::program::{BufferId, Program, Slice};
use crate::{
    Completion, Counts, DeviceError, DeviceInfo, Download, Executor, Ledger, ProgramId, Purpose, ReferenceExecutor,
    Selection, Ticket, Upload,
};

/// Takes everything, computes nothing, gives zeros, and all at once: a neighbour for a stage that is to be measured by
/// itself.
#[derive(Debug)]
pub struct StandIn {
    info: DeviceInfo,
    buffers: usize,
    programs: Vec<Sizes>,
    finished: VecDeque<Completion>,
    submissions: u64,
    ledger: Ledger,
    selection: Selection,
}

/// What a program takes and gives.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    upload_bytes: usize,
    download_bytes: usize,
}

impl Default for StandIn {
    fn default() -> Self {
        Self::new()
    }
}

impl StandIn {
    /// One that nothing has been asked of.
    pub fn new() -> Self {
        Self {
            info: DeviceInfo { name: "stand-in".into(), ..ReferenceExecutor::describe() },
            buffers: 0,
            programs: Vec::new(),
            finished: VecDeque::new(),
            submissions: 0,
            ledger: Ledger::default(),
            selection: Selection::default(),
        }
    }

    fn sizes(&self, ProgramId(id): ProgramId) -> Result<Sizes, DeviceError> {
        self.programs.get(id).copied().ok_or_else(|| self.error("a program that was never prepared"))
    }

    fn error(&self, message: &str) -> DeviceError {
        DeviceError::Program { device: self.info.name.clone(), program: "?".into(), message: message.into() }
    }
}

impl Executor for StandIn {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&mut self, _: usize, _: Purpose) -> Result<BufferId, DeviceError> {
        self.buffers += 1;
        Ok(BufferId(self.buffers - 1))
    }

    fn release(&mut self, _: BufferId) {}

    fn write(&mut self, _: Slice, _: &[u8]) -> Result<(), DeviceError> {
        Ok(())
    }

    fn read(&mut self, from: Slice) -> Result<Vec<u8>, DeviceError> {
        Ok(vec![0; 4 * from.elements])
    }

    fn prepare(&mut self, program: &Program, _: usize) -> Result<ProgramId, DeviceError> {
        let (upload_bytes, download_bytes) = (program.upload_bytes(), program.download_bytes());
        self.programs.push(Sizes { upload_bytes, download_bytes });
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn reserve_uploads(&mut self, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn has_room(&mut self, _: usize) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn upload(&mut self, program: ProgramId) -> Result<Upload, DeviceError> {
        Ok(Upload::host(self.sizes(program)?.upload_bytes))
    }

    fn submit(&mut self, program: ProgramId, _: Option<Upload>) -> Result<Ticket, DeviceError> {
        let Sizes { download_bytes, .. } = self.sizes(program)?;
        let submitted = Instant::now();
        self.finished.push_back(Completion {
            download: (download_bytes > 0).then(|| Download::from(vec![0; download_bytes])),
            submitted,
            finished: submitted,
            device_time: Some(Duration::ZERO),
            laps: Vec::new(),
            work: Counts::default(),
        });
        self.submissions += 1;
        Ok(Ticket { submission: self.submissions, submitted })
    }

    fn is_finished(&mut self, _: &Ticket) -> Result<bool, DeviceError> {
        Ok(true)
    }

    /// The oldest submission: tickets are waited for in their order.
    fn wait(&mut self, _: Ticket, _: Duration) -> Result<Completion, DeviceError> {
        self.finished.pop_front().ok_or_else(|| self.error("every submission was waited for already"))
    }

    fn forget(&mut self, _: ProgramId) {}

    fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    fn selection(&self) -> &Selection {
        &self.selection
    }

    fn selection_mut(&mut self) -> &mut Selection {
        &mut self.selection
    }
}
