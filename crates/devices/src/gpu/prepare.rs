//! A program made ready: pipelines, bind groups, uniforms, scratch memory, staging slots.

use std::sync::Arc;

use brigade_kernels::Dispatch;
use wgpu::BufferUsages;

use super::bind::{Part, Step};
use super::clock::{Detail, Stamps};
use super::device::Gpu;
use super::executor::{GpuExecutor, Scratch};
use super::pipelines::Key;
use crate::check::check;
use crate::program::{Command, Program, Slice};
use crate::slots::{UNIFORM_ALIGNMENT, UPLOADS, Way, returned_bytes, uniforms};
use crate::{Counts, DeviceError, LapKernel, Purpose};

/// A copy between a staging slot and a buffer.
pub(super) struct Move {
    pub(super) buffer: wgpu::Buffer,
    pub(super) buffer_offset: u64,
    pub(super) slot_offset: u64,
    pub(super) bytes: u64,
}

/// What an encoder is told.
pub(super) enum Segment {
    /// One compute pass.
    Pass(PassSegment),
    /// A copy between buffers.
    Copy(Part, Part),
    /// Zeros.
    Clear(Part),
}

/// Dispatches of one compute pass, and the timestamps at its ends.
#[derive(Default)]
pub(super) struct PassSegment {
    pub(super) steps: Vec<Step>,
    pub(super) begin: Option<u32>,
    pub(super) end: Option<u32>,
}

impl Segment {
    pub(super) fn pass_mut(&mut self) -> Option<&mut PassSegment> {
        match self {
            Self::Pass(pass) => Some(pass),
            _ => None,
        }
    }
}

/// What a pass of an operation needs; nothing for copies and clears.
#[derive(Default)]
struct Planned {
    variant: &'static str,
    dispatches: Vec<Dispatch>,
}

/// A program that is ready to be submitted.
pub(super) struct Prepared {
    pub(super) label: Arc<str>,
    pub(super) uploads: Vec<Move>,
    pub(super) downloads: Vec<Move>,
    pub(super) segments: Vec<Segment>,
    pub(super) upload_bytes: u64,
    pub(super) download_bytes: u64,
    pub(super) upload_ring: Option<usize>,
    /// Also where only timestamps come back.
    pub(super) download_ring: Option<usize>,
    pub(super) uniforms: Option<wgpu::Buffer>,
    pub(super) stamps: Stamps,
    pub(super) work: Counts,
    generation: u64,
}

impl Prepared {
    /// Makes bind groups again that bind scratch memory which has been replaced by larger.
    pub(super) fn refresh(&mut self, gpu: &Gpu, scratch: &Scratch) {
        if self.generation == scratch.generation {
            return;
        }
        for step in self.segments.iter_mut().filter_map(Segment::pass_mut).flat_map(|pass| &mut pass.steps) {
            step.refresh(gpu, scratch);
        }
        self.generation = scratch.generation;
    }
}

impl GpuExecutor {
    pub(super) fn prepare_program(&mut self, program: &Program, depth: usize) -> Result<Prepared, DeviceError> {
        self.gpu.check()?;
        let elements = |id| self.held(id).map(|held| held.elements);
        check(program, &elements).map_err(|message| self.gpu.program_error(&program.label, message))?;
        let planned = self.plan(program)?;
        let dispatches = || planned.iter().flat_map(|planned| &planned.dispatches);
        self.pipelines.compile(&self.gpu, dispatches().map(Key::of).collect())?;
        let uniforms = self.uniforms(dispatches())?;
        let mut segments = self.segments(program, &planned, uniforms.as_ref())?;
        let stamps = match &self.clock {
            Some(clock) => clock
                .place(&mut segments)
                .ok_or_else(|| self.gpu.program_error(&program.label, "has too many commands to be profiled"))?,
            None => Stamps::default(),
        };
        let (upload_bytes, download_bytes) = (program.upload_bytes() as u64, program.download_bytes() as u64);
        let back = returned_bytes(download_bytes, stamps.bytes());
        let mut ring = |way, bytes, depth| match bytes {
            0 => Ok(None),
            _ => self.rings.provide(&mut self.gpu, way, bytes, depth).map(Some),
        };
        let upload_ring = ring(Way::Up, upload_bytes, depth.min(UPLOADS))?;
        let download_ring = ring(Way::Down { lane: program.lane }, back, depth)?;
        Ok(Prepared {
            label: program.label.as_str().into(),
            uploads: self.moves(&program.uploads)?,
            downloads: self.moves(&program.downloads)?,
            work: counts(program, &segments),
            segments,
            stamps,
            upload_bytes,
            download_bytes,
            upload_ring,
            download_ring,
            uniforms,
            generation: self.scratch.generation,
        })
    }

    /// The dispatches of each command; none for copies. Scratch memory grows to the largest need.
    fn plan(&mut self, program: &Program) -> Result<Vec<Planned>, DeviceError> {
        let mut planned = Vec::new();
        let mut workspace = 0;
        for command in &program.commands {
            let Command::Run(run) = command else {
                planned.push(Planned::default());
                continue;
            };
            let chosen = self.selection.plan(run.operation.as_ref(), run.pass, run.problem, &self.gpu.info.limits);
            let (variant, plan) = chosen.map_err(|reason| reason.error(&self.gpu.info.name, &program.label, run))?;
            tracing::trace!(program.label, kernel = run.operation.name(), pass = %run.pass, variant = variant.name);
            workspace = workspace.max(plan.workspace);
            planned.push(Planned { variant: variant.name, dispatches: plan.dispatches });
        }
        self.grow_scratch(4 * workspace as u64)?;
        Ok(planned)
    }

    /// Lets go of what only programs need, where none is left.
    pub(super) fn clear_away(&mut self) {
        if !self.programs.iter().all(Option::is_none) || !self.flights.is_empty() {
            return;
        }
        self.rings.clear(&mut self.gpu);
        if let Some(scratch) = self.scratch.buffer.take() {
            self.gpu.release(&scratch, Purpose::Workspace);
        }
    }

    fn grow_scratch(&mut self, bytes: u64) -> Result<(), DeviceError> {
        if bytes == 0 || self.scratch.buffer.as_ref().is_some_and(|buffer| buffer.size() >= bytes) {
            return Ok(());
        }
        if let Some(old) = self.scratch.buffer.take() {
            self.gpu.release(&old, Purpose::Workspace);
        }
        // Where this fails, programs that want scratch memory are refreshed to none and fail validation, no worse.
        self.scratch.generation += 1;
        self.scratch.buffer = Some(self.gpu.buffer(bytes, Purpose::Workspace, BufferUsages::STORAGE, false)?);
        Ok(())
    }

    fn uniforms<'a>(
        &mut self,
        dispatches: impl Iterator<Item = &'a Dispatch>,
    ) -> Result<Option<wgpu::Buffer>, DeviceError> {
        let bytes = uniforms(dispatches);
        if bytes.is_empty() {
            return Ok(None);
        }
        let usage = BufferUsages::UNIFORM | BufferUsages::COPY_DST;
        let buffer = self.gpu.buffer(bytes.len() as u64, Purpose::Small, usage, false)?;
        self.gpu.queue.write_buffer(&buffer, 0, &bytes);
        Ok(Some(buffer))
    }

    fn segments(
        &self,
        program: &Program,
        planned: &[Planned],
        uniforms: Option<&wgpu::Buffer>,
    ) -> Result<Vec<Segment>, DeviceError> {
        let mut segments = Vec::new();
        let mut offset = 0;
        let apart = self.clock.as_ref().is_some_and(|clock| clock.detail == Detail::Apart);
        for (command, Planned { variant, dispatches }) in program.commands.iter().zip(planned) {
            match command {
                Command::Copy { from, to } => segments.push(Segment::Copy(self.part(from)?, self.part(to)?)),
                Command::Clear(to) => segments.push(Segment::Clear(self.part(to)?)),
                Command::Run(run) => {
                    let mut steps = Vec::new();
                    for dispatch in dispatches {
                        let bytes = dispatch.uniform.len() as u64;
                        let uniform = uniforms.map(|buffer| Part { buffer: buffer.clone(), offset, bytes });
                        steps.push(self.step(&program.label, run, dispatch, uniform.filter(|part| part.bytes > 0))?);
                        offset = (offset + bytes).next_multiple_of(UNIFORM_ALIGNMENT as u64);
                    }
                    if let Some(last) = steps.last_mut() {
                        last.ends = Some(LapKernel { operation: run.operation.name(), pass: run.pass, variant });
                    }
                    match segments.last_mut() {
                        Some(Segment::Pass(before)) if !apart => before.steps.append(&mut steps),
                        _ => segments.push(Segment::Pass(PassSegment { steps, ..PassSegment::default() })),
                    }
                }
            }
        }
        Ok(segments)
    }

    pub(super) fn part(&self, slice: &Slice) -> Result<Part, DeviceError> {
        let (buffer, offset) = self.place(slice)?;
        Ok(Part { buffer, offset, bytes: 4 * slice.elements as u64 })
    }

    fn moves(&self, slices: &[Slice]) -> Result<Vec<Move>, DeviceError> {
        let mut slot_offset = 0;
        let mut moves = Vec::new();
        for slice in slices {
            let Part { buffer, offset: buffer_offset, bytes } = self.part(slice)?;
            moves.push(Move { buffer, buffer_offset, slot_offset, bytes });
            slot_offset += bytes;
        }
        Ok(moves)
    }
}

fn counts(program: &Program, segments: &[Segment]) -> Counts {
    let mut counts = Counts { transfers: program.uploads.len() + program.downloads.len(), ..Counts::default() };
    for segment in segments {
        match segment {
            Segment::Pass(pass) => {
                counts.passes += 1;
                counts.dispatches += pass.steps.len();
            }
            Segment::Copy(..) | Segment::Clear(_) => counts.transfers += 1,
        }
    }
    counts
}
