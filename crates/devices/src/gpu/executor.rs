//! The executor: what it holds, and the seam's methods.

use std::collections::VecDeque;
use std::time::Duration;

use brigade_kernels::Dispatch;
use wgpu::BufferUsages;

use super::clock::Clock;
use super::device::Gpu;
use super::pipelines::{Key, Pipelines};
use super::prepare::Prepared;
use super::rings::Rings;
use super::submit::Flight;
use crate::check::inside;
use crate::program::{BufferId, Program, Slice};
use crate::slots::{UPLOADS, Way};
use crate::{
    Completion, DeviceError, DeviceInfo, Executor, Ledger, OpenOptions, ProgramId, Purpose, Selection, Ticket, Upload,
};

/// A buffer of the stage's.
pub(super) struct Held {
    pub(super) buffer: wgpu::Buffer,
    pub(super) elements: usize,
    pub(super) purpose: Purpose,
}

/// Scratch memory that all programs share: submissions run one after another.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) buffer: Option<wgpu::Buffer>,
    /// Grows with each new buffer; bind groups made for another one are stale.
    pub(super) generation: u64,
}

/// Runs programs through wgpu.
pub(crate) struct GpuExecutor {
    pub(super) buffers: Vec<Option<Held>>,
    pub(super) pipelines: Pipelines,
    pub(super) programs: Vec<Option<Prepared>>,
    pub(super) scratch: Scratch,
    pub(super) rings: Rings,
    pub(super) flights: VecDeque<Flight>,
    pub(super) submissions: u64,
    pub(super) clock: Option<Clock>,
    pub(super) selection: Selection,
    /// The last field: it goes after everything that was made on it.
    pub(super) gpu: Gpu,
}

impl GpuExecutor {
    /// An executor of an opened device.
    pub(crate) fn new(mut gpu: Gpu, options: &OpenOptions) -> Result<Self, DeviceError> {
        let clock = Clock::new(&mut gpu, options)?;
        Ok(Self {
            gpu,
            buffers: Vec::new(),
            pipelines: Pipelines::new(options.checked),
            programs: Vec::new(),
            scratch: Scratch::default(),
            rings: Rings::default(),
            flights: VecDeque::new(),
            submissions: 0,
            clock,
            selection: Selection::default(),
        })
    }

    pub(super) fn held(&self, id: BufferId) -> Option<&Held> {
        self.buffers.get(id.0)?.as_ref()
    }

    /// The buffer of a slice of set-up, and where the slice starts in it.
    pub(super) fn place(&self, slice: &Slice) -> Result<(wgpu::Buffer, u64), DeviceError> {
        let elements = |id| self.held(id).map(|held| held.elements);
        let error = |message| self.gpu.program_error("set-up", message);
        inside(slice, &elements).map_err(error)?;
        let held = self.held(slice.buffer).ok_or_else(|| error(format!("{:?} does not exist", slice.buffer)))?;
        Ok((held.buffer.clone(), 4 * slice.start as u64))
    }
}

impl Executor for GpuExecutor {
    fn info(&self) -> &DeviceInfo {
        &self.gpu.info
    }

    fn allocate(&mut self, elements: usize, purpose: Purpose) -> Result<BufferId, DeviceError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST;
        let buffer = self.gpu.buffer(4 * elements as u64, purpose, usage, false)?;
        self.buffers.push(Some(Held { buffer, elements, purpose }));
        Ok(BufferId(self.buffers.len() - 1))
    }

    fn release(&mut self, buffer: BufferId) {
        if let Some(held) = self.buffers.get_mut(buffer.0).and_then(Option::take) {
            self.gpu.release(&held.buffer, held.purpose);
        }
    }

    fn write(&mut self, to: Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        self.write_slice(&to, bytes)
    }

    fn read(&mut self, from: Slice) -> Result<Vec<u8>, DeviceError> {
        self.read_slice(&from)
    }

    fn prepare(&mut self, program: &Program, depth: usize) -> Result<ProgramId, DeviceError> {
        let prepared = self.prepare_program(program, depth)?;
        self.programs.push(Some(prepared));
        Ok(ProgramId(self.programs.len() - 1))
    }

    fn compile(&mut self, dispatches: &[Dispatch]) -> Result<(), DeviceError> {
        self.gpu.check()?;
        self.pipelines.compile(&self.gpu, dispatches.iter().map(Key::of).collect())
    }

    fn reserve_uploads(&mut self, bytes: usize) -> Result<(), DeviceError> {
        self.rings.provide(&mut self.gpu, Way::Up, bytes as u64, UPLOADS).map(drop)
    }

    fn has_room(&mut self, lane: usize) -> Result<bool, DeviceError> {
        self.gpu.check()?;
        Ok(self.rings.have_room(lane))
    }

    fn upload(&mut self, program: ProgramId) -> Result<Upload, DeviceError> {
        self.lend_upload(program)
    }

    fn submit(&mut self, program: ProgramId, upload: Option<Upload>) -> Result<Ticket, DeviceError> {
        self.submit_program(program, upload)
    }

    fn is_finished(&mut self, ticket: &Ticket) -> Result<bool, DeviceError> {
        let Some(flight) = self.flights.iter().find(|flight| flight.submission == ticket.submission) else {
            return Ok(true);
        };
        // Asking for one submission blocks on some drivers even where no time is given; hearing of all does not.
        let Some((ring, slot)) = flight.slot else { return self.gpu.poll(&flight.index, Duration::ZERO) };
        self.gpu.hear()?;
        Ok(self.rings.get_mut(ring).is_none_or(|ring| ring.landed(slot) != Some(false)))
    }

    fn wait(&mut self, ticket: Ticket, timeout: Duration) -> Result<Completion, DeviceError> {
        self.land(&ticket, timeout)
    }

    fn forget(&mut self, program: ProgramId) {
        if let Some(prepared) = self.programs.get_mut(program.0).and_then(Option::take)
            && let Some(uniforms) = &prepared.uniforms
        {
            self.gpu.release(uniforms, Purpose::Small);
        }
        self.clear_away();
    }

    fn ledger(&self) -> &Ledger {
        &self.gpu.ledger
    }

    fn selection(&self) -> &Selection {
        &self.selection
    }

    fn selection_mut(&mut self) -> &mut Selection {
        &mut self.selection
    }
}
