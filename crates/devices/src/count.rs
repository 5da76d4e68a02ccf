//! An executor without a device, which counts what one would allocate.

use std::time::Duration;

use brigade_kernels::Limits;

use crate::adapters::TIMESTAMPS;
use crate::program::{BufferId, Command, Program, Slice};
use crate::slots::{AROUND, PIECE, STAMP_BYTES, Slots, UPLOADS, Way, buffer_bytes, returned_bytes, uniforms};
use crate::{
    Completion, DeviceError, DeviceInfo, Executor, Identity, Kind, Ledger, ProgramId, Purpose, Selection, Ticket,
    Upload,
};

/// Allocates and prepares like the executor of its device, in the ledger only. Nothing can be computed on it.
///
/// The ledger is that of the device where the selection is the same, and no slot is wanted while all are held: see
/// [`Executor::has_room`].
#[derive(Debug, Clone)]
pub struct CountingExecutor {
    info: DeviceInfo,
    selection: Selection,
    ledger: Ledger,
    buffers: Vec<Option<(u64, Purpose)>>,
    programs: usize,
    rings: Vec<(Slots, usize)>,
    workspace: u64,
}

impl CountingExecutor {
    /// Counts for `info`.
    pub fn new(info: DeviceInfo) -> Self {
        let mut ledger = Ledger::default();
        if has_clock(&info) {
            ledger.allocate(Purpose::Small, buffer_bytes(STAMP_BYTES * u64::from(AROUND)));
        }
        let selection = Selection::default();
        Self { info, selection, ledger, buffers: Vec::new(), programs: 0, rings: Vec::new(), workspace: 0 }
    }

    /// Counts for a GPU of which nothing is known but the largest buffer.
    pub fn unnamed(buffer_bytes: u64) -> Self {
        Self::new(DeviceInfo {
            identity: Identity { backend: "none".into(), address: "none".into(), ordinal: 0 },
            name: "-".into(),
            vendor: String::new(),
            vendor_id: 0,
            device_id: 0,
            kind: Kind::Discrete,
            driver: String::new(),
            driver_info: String::new(),
            limits: Limits { buffer_bytes, ..Limits::PORTABLE },
            features: vec![TIMESTAMPS.into()],
        })
    }

    /// The reference keeps everything in plain memory of just the size.
    fn is_reference(&self) -> bool {
        self.info.kind == Kind::Reference
    }

    fn refuse<T>(&self) -> Result<T, DeviceError> {
        let message = "nothing can be computed where allocations are only counted".to_owned();
        Err(DeviceError::Program { device: self.info.name.clone(), program: "?".into(), message })
    }

    fn count(&mut self, bytes: u64, purpose: Purpose) -> u64 {
        let bytes = if self.is_reference() { bytes } else { buffer_bytes(bytes) };
        self.ledger.allocate(purpose, bytes);
        bytes
    }

    fn provide(&mut self, way: Way, bytes: u64, depth: usize) {
        if bytes == 0 {
            return;
        }
        let wanted = Slots::new(way, bytes);
        let index = wanted.among(self.rings.iter().map(|(slots, _)| *slots)).unwrap_or_else(|| {
            self.rings.push((wanted, 0));
            self.rings.len() - 1
        });
        while self.rings[index].1 < depth.max(1) {
            self.rings[index].1 += 1;
            self.count(self.rings[index].0.bytes, Purpose::Staging);
        }
    }

    fn grow_workspace(&mut self, bytes: u64) {
        if bytes > self.workspace {
            self.ledger.release(Purpose::Workspace, self.workspace);
            self.workspace = self.count(bytes, Purpose::Workspace);
        }
    }

    fn count_program(&mut self, program: &Program, depth: usize) -> Result<(), DeviceError> {
        let mut dispatches = Vec::new();
        let mut workspace = 0;
        let runs = program.commands.iter().filter_map(|command| match command {
            Command::Run(run) => Some(run),
            _ => None,
        });
        for run in runs {
            let plan = self.selection.plan(run.operation.as_ref(), run.pass, run.problem, &self.info.limits);
            let (_, plan) = plan.map_err(|reason| reason.error(&self.info.name, &program.label, run))?;
            workspace = workspace.max(plan.workspace);
            dispatches.extend(plan.dispatches);
        }
        self.grow_workspace(4 * workspace as u64);
        let uniforms = uniforms(dispatches.iter()).len() as u64;
        if uniforms > 0 {
            self.count(uniforms, Purpose::Small);
        }
        let stamped = has_clock(&self.info) && !dispatches.is_empty();
        let stamps = if stamped { STAMP_BYTES * u64::from(AROUND) } else { 0 };
        let back = returned_bytes(program.download_bytes() as u64, stamps);
        self.provide(Way::Up, program.upload_bytes() as u64, depth.min(UPLOADS));
        self.provide(Way::Down { lane: program.lane }, back, depth);
        Ok(())
    }
}

fn has_clock(info: &DeviceInfo) -> bool {
    info.features.iter().any(|feature| feature == TIMESTAMPS)
}

impl Executor for CountingExecutor {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&mut self, elements: usize, purpose: Purpose) -> Result<BufferId, DeviceError> {
        let bytes = self.count(4 * elements as u64, purpose);
        self.buffers.push(Some((bytes, purpose)));
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn release(&mut self, buffer: BufferId) {
        if let Some((bytes, purpose)) = self.buffers.get_mut(buffer.0).and_then(Option::take) {
            self.ledger.release(purpose, bytes);
        }
    }

    fn write(&mut self, _: Slice, _: &[u8]) -> Result<(), DeviceError> {
        self.refuse()
    }

    /// Zeros; the staging memory that a piece passes through counts towards the peak.
    fn read(&mut self, from: Slice) -> Result<Vec<u8>, DeviceError> {
        let bytes = vec![0; 4 * from.elements];
        let piece = self.count(bytes.len().min(PIECE) as u64, Purpose::Staging);
        self.ledger.release(Purpose::Staging, piece);
        Ok(bytes)
    }

    fn prepare(&mut self, program: &Program, depth: usize) -> Result<ProgramId, DeviceError> {
        if !self.is_reference() {
            self.count_program(program, depth)?;
        }
        self.programs += 1;
        Ok(ProgramId(self.programs - 1))
    }

    fn reserve_uploads(&mut self, bytes: usize) -> Result<(), DeviceError> {
        if !self.is_reference() {
            self.provide(Way::Up, bytes as u64, UPLOADS);
        }
        Ok(())
    }

    fn has_room(&mut self, _: usize) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn upload(&mut self, _: ProgramId) -> Result<Upload, DeviceError> {
        self.refuse()
    }

    fn submit(&mut self, _: ProgramId, _: Option<Upload>) -> Result<Ticket, DeviceError> {
        self.refuse()
    }

    fn is_finished(&mut self, _: &Ticket) -> Result<bool, DeviceError> {
        Ok(true)
    }

    fn wait(&mut self, _: Ticket, _: Duration) -> Result<Completion, DeviceError> {
        self.refuse()
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
