//! The reference arithmetic as a device: every pass at once, on the host, in f64, results kept in f32.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use brigade_kernels::{Limits, Tensor, Use};

use crate::check::{check, inside};
use crate::convert::{from_words, scalars, to_words};
use crate::program::{BufferId, Command, Program, Run, Slice};
use crate::staging::UploadMemory;
use crate::{
    Completion, Counts, DeviceError, DeviceInfo, Download, Executor, Identity, Kind, Ledger, ProgramId, Purpose,
    Selection, Ticket, Upload,
};

/// Runs programs with [`brigade_kernels::Operation::reference`]. Deterministic, slow, and right by definition.
#[derive(Debug)]
pub struct ReferenceExecutor {
    info: DeviceInfo,
    buffers: Vec<Option<(Vec<u32>, Purpose)>>,
    programs: Vec<Option<Program>>,
    finished: VecDeque<(u64, Completion)>,
    submissions: u64,
    ledger: Ledger,
    selection: Selection,
}

impl Default for ReferenceExecutor {
    fn default() -> Self {
        Self::new()
    }
}

impl ReferenceExecutor {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            info: Self::describe(),
            buffers: Vec::new(),
            programs: Vec::new(),
            finished: VecDeque::new(),
            submissions: 0,
            ledger: Ledger::default(),
            selection: Selection::default(),
        }
    }

    /// How it is listed.
    pub fn describe() -> DeviceInfo {
        let limits = Limits { binding_bytes: 1 << 32, buffer_bytes: 1 << 32, software: true, ..Limits::PORTABLE };
        DeviceInfo {
            identity: Identity { backend: "reference".into(), address: "host".into(), ordinal: 0 },
            name: "reference".into(),
            vendor: "Brigade".into(),
            vendor_id: 0,
            device_id: 0,
            kind: Kind::Reference,
            driver: String::new(),
            driver_info: String::new(),
            limits,
            features: Vec::new(),
        }
    }

    fn elements(&self, buffer: BufferId) -> Option<usize> {
        self.buffers.get(buffer.0)?.as_ref().map(|(words, _)| words.len())
    }

    fn words(&self, slice: &Slice) -> &[u32] {
        match self.buffers.get(slice.buffer.0) {
            Some(Some((words, _))) => &words[slice.start..slice.start + slice.elements],
            _ => &[],
        }
    }

    fn words_mut(&mut self, slice: &Slice) -> &mut [u32] {
        match self.buffers.get_mut(slice.buffer.0) {
            Some(Some((words, _))) => &mut words[slice.start..slice.start + slice.elements],
            _ => &mut [],
        }
    }

    fn error(&self, program: &str, message: impl Into<String>) -> DeviceError {
        DeviceError::Program { device: self.info.name.clone(), program: program.into(), message: message.into() }
    }

    fn program(&self, id: ProgramId) -> Result<&Program, DeviceError> {
        self.programs.get(id.0).and_then(Option::as_ref).ok_or_else(|| self.error("?", "was forgotten"))
    }

    fn check_slice(&self, slice: &Slice) -> Result<(), DeviceError> {
        inside(slice, &|id| self.elements(id)).map_err(|message| self.error("set-up", message))
    }

    fn run(&mut self, run: &Run) {
        let uses = run.operation.tensors(run.pass);
        let mut host = brigade_kernels::HostTensors::default();
        let part = |used: &Use| {
            let elements = run.operation.elements(used.tensor, run.problem).ok()?;
            run.slice(used.tensor).map(|slice| Slice { elements, ..*slice })
        };
        for (used, slice) in uses.iter().filter_map(|used| Some((used, part(used)?))) {
            if used.tensor == Tensor::Scalars {
                host.scalars = scalars(self.words(&slice));
            } else {
                host.put(used.tensor, from_words(self.words(&slice), run.operation.element_type(used.tensor)));
            }
        }
        run.operation.reference(run.pass, run.problem, &mut host);
        for (used, slice) in uses.iter().filter_map(|used| Some((used, part(used)?))) {
            if used.access.writes() && host.has(used.tensor) {
                let kind = run.operation.element_type(used.tensor);
                to_words(host.read(used.tensor), kind, self.words_mut(&slice));
            }
        }
    }

    fn command(&mut self, command: &Command) {
        match command {
            Command::Run(run) => self.run(run),
            Command::Clear(to) => self.words_mut(to).fill(0),
            Command::Copy { from, to } => {
                let words = self.words(from).to_vec();
                self.words_mut(to).copy_from_slice(&words);
            }
        }
    }
}

impl Executor for ReferenceExecutor {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&mut self, elements: usize, purpose: Purpose) -> Result<BufferId, DeviceError> {
        let wanted = 4 * elements as u64;
        let mut words = Vec::new();
        words.try_reserve_exact(elements).map_err(|_| DeviceError::OutOfMemory {
            device: self.info.name.clone(),
            purpose: purpose.to_string(),
            wanted,
            in_use: self.ledger.live_bytes(),
        })?;
        words.resize(elements, 0);
        self.ledger.allocate(purpose, wanted);
        self.buffers.push(Some((words, purpose)));
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn release(&mut self, buffer: BufferId) {
        if let Some((words, purpose)) = self.buffers.get_mut(buffer.0).and_then(Option::take) {
            self.ledger.release(purpose, 4 * words.len() as u64);
        }
    }

    fn write(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check_slice(&to)?;
        if bytes.len() != 4 * to.elements {
            return Err(self.error("set-up", format!("{} bytes for {} elements", bytes.len(), to.elements)));
        }
        bytemuck::cast_slice_mut(self.words_mut(&to)).copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, from: Slice) -> Result<Vec<u8>, DeviceError> {
        self.check_slice(&from)?;
        Ok(bytemuck::cast_slice(self.words(&from)).to_vec())
    }

    fn prepare(&mut self, program: &Program, _: usize) -> Result<ProgramId, DeviceError> {
        check(program, &|id| self.elements(id)).map_err(|message| self.error(&program.label, message))?;
        self.programs.push(Some(program.clone()));
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn reserve_uploads(&mut self, _: usize) -> Result<(), DeviceError> {
        Ok(())
    }

    fn has_room(&mut self, _: usize) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn upload(&mut self, program: ProgramId) -> Result<Upload, DeviceError> {
        Ok(Upload::host(self.program(program)?.upload_bytes()))
    }

    fn submit(&mut self, program: ProgramId, upload: Option<Upload>) -> Result<Ticket, DeviceError> {
        let submitted = Instant::now();
        let program = self.program(program)?.clone();
        let memory = match upload.map(|upload| upload.memory) {
            Some(UploadMemory::Host(memory)) => memory,
            _ => Vec::new(),
        };
        if memory.len() < program.upload_bytes() {
            return Err(self.error(&program.label, "was submitted without the upload slot that it reads"));
        }
        let mut rest = memory.as_slice();
        for to in &program.uploads {
            let (bytes, after) = rest.split_at(4 * to.elements);
            bytemuck::cast_slice_mut(self.words_mut(to)).copy_from_slice(bytes);
            rest = after;
        }
        for command in &program.commands {
            self.command(command);
        }
        let mut download = Vec::with_capacity(program.download_bytes());
        for from in &program.downloads {
            download.extend_from_slice(bytemuck::cast_slice(self.words(from)));
        }
        let completion = Completion {
            download: (!program.downloads.is_empty()).then(|| Download::from(download)),
            submitted,
            finished: Instant::now(),
            device_time: Some(submitted.elapsed()),
            laps: Vec::new(),
            work: Counts::default(),
        };
        self.submissions += 1;
        self.finished.push_back((self.submissions, completion));
        Ok(Ticket { submission: self.submissions, submitted })
    }

    fn is_finished(&mut self, _: &Ticket) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn wait(&mut self, ticket: Ticket, _: Duration) -> Result<Completion, DeviceError> {
        while let Some((submission, completion)) = self.finished.pop_front() {
            if submission == ticket.submission {
                return Ok(completion);
            }
        }
        Err(self.error("?", format!("submission {} was waited for already", ticket.submission)))
    }

    fn forget(&mut self, program: ProgramId) {
        if let Some(slot) = self.programs.get_mut(program.0) {
            *slot = None;
        }
    }

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
