//! A program made ready: pipelines, bind groups, uniforms, scratch memory, staging slots.

use brigade_kernels::{Binding, Dispatch, Tensor};
use wgpu::BufferUsages;

use super::device::Gpu;
use super::executor::{GpuExecutor, Scratch};
use super::pipelines::{Key, Pipeline};
use super::rings::Way;
use crate::check::check;
use crate::program::{Command, Program, Run, Slice};
use crate::selection::NoChoice;
use crate::{DeviceError, Purpose};

/// Uniforms start at multiples of this: the strictest alignment among adapters.
const UNIFORM_ALIGNMENT: u64 = 256;

/// A copy between a staging slot and a buffer.
pub(super) struct Move {
    pub(super) buffer: wgpu::Buffer,
    pub(super) buffer_offset: u64,
    pub(super) slot_offset: u64,
    pub(super) bytes: u64,
}

/// A part of a buffer.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// What an encoder is told.
pub(super) enum Segment {
    /// Dispatches of one compute pass.
    Pass(Vec<Step>),
    /// A copy between buffers.
    Copy(Part, Part),
    /// Zeros.
    Clear(Part),
}

/// One dispatch.
pub(super) struct Step {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) group: wgpu::BindGroup,
    pub(super) workgroups: [u32; 3],
    /// How to make the group again where it binds scratch memory.
    recipe: Option<Recipe>,
}

/// What a bind group is made of.
struct Recipe {
    layout: wgpu::BindGroupLayout,
    entries: Vec<(u32, Place)>,
}

/// What one slot binds.
enum Place {
    Buffer(Part),
    Scratch { offset: u64, bytes: u64 },
}

/// A program that is ready to be submitted.
pub(super) struct Prepared {
    pub(super) label: String,
    pub(super) uploads: Vec<Move>,
    pub(super) downloads: Vec<Move>,
    pub(super) segments: Vec<Segment>,
    pub(super) upload_bytes: u64,
    pub(super) download_bytes: u64,
    pub(super) upload_ring: Option<usize>,
    /// Also where only timestamps come back.
    pub(super) download_ring: Option<usize>,
    pub(super) uniforms: Option<wgpu::Buffer>,
    generation: u64,
}

impl Prepared {
    /// Makes bind groups again that bind scratch memory which has been replaced by larger.
    pub(super) fn refresh(&mut self, gpu: &Gpu, scratch: &Scratch) {
        if self.generation == scratch.generation {
            return;
        }
        for step in self.segments.iter_mut().flat_map(|segment| match segment {
            Segment::Pass(steps) => steps.as_mut_slice(),
            _ => &mut [],
        }) {
            if let Some(recipe) = &step.recipe {
                step.group = recipe.bind(gpu, scratch);
            }
        }
        self.generation = scratch.generation;
    }
}

impl Recipe {
    fn bind(&self, gpu: &Gpu, scratch: &Scratch) -> wgpu::BindGroup {
        let resource = |place: &'_ Place| {
            let (buffer, offset, bytes) = match place {
                Place::Buffer(Part { buffer, offset, bytes }) => (Some(buffer), *offset, *bytes),
                Place::Scratch { offset, bytes } => (scratch.buffer.as_ref(), *offset, *bytes),
            };
            buffer.cloned().map(|buffer| (buffer, offset, wgpu::BufferSize::new(bytes)))
        };
        let bound: Vec<_> =
            self.entries.iter().filter_map(|(slot, place)| resource(place).map(|place| (*slot, place))).collect();
        let entries: Vec<_> = bound
            .iter()
            .map(|(slot, (buffer, offset, size))| wgpu::BindGroupEntry {
                binding: *slot,
                resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: *offset, size: *size }),
            })
            .collect();
        gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.layout,
            entries: &entries,
        })
    }

    fn uses_scratch(&self) -> bool {
        self.entries.iter().any(|(_, place)| matches!(place, Place::Scratch { .. }))
    }
}

impl GpuExecutor {
    pub(super) fn prepare_program(&mut self, program: &Program, depth: usize) -> Result<Prepared, DeviceError> {
        self.gpu.check()?;
        let elements = |id| self.held(id).map(|held| held.elements);
        check(program, &elements).map_err(|message| self.gpu.program_error(&program.label, message))?;
        let planned = self.plan(program)?;
        let dispatches = || planned.iter().flatten();
        self.pipelines.compile(&self.gpu, dispatches().map(Key::of).collect())?;
        let uniforms = self.uniforms(dispatches())?;
        let segments = self.segments(program, &planned, uniforms.as_ref())?;
        let timed = self.clock.is_some() && segments.iter().any(|segment| matches!(segment, Segment::Pass(_)));
        let (upload_bytes, download_bytes) = (program.upload_bytes() as u64, program.download_bytes() as u64);
        let timestamps = if timed { super::submit::TIMESTAMP_BYTES } else { 0 };
        let back = download_bytes.next_multiple_of(8) + timestamps;
        let mut ring = |way, bytes| match bytes {
            0 => Ok(None),
            _ => self.rings.provide(&mut self.gpu, way, bytes, depth).map(Some),
        };
        let (upload_ring, download_ring) = (ring(Way::Up, upload_bytes)?, ring(Way::Down, back)?);
        Ok(Prepared {
            label: program.label.clone(),
            uploads: self.moves(&program.uploads)?,
            downloads: self.moves(&program.downloads)?,
            segments,
            upload_bytes,
            download_bytes,
            upload_ring,
            download_ring,
            uniforms,
            generation: self.scratch.generation,
        })
    }

    /// The dispatches of each command; none for copies. Scratch memory grows to the largest need.
    fn plan(&mut self, program: &Program) -> Result<Vec<Vec<Dispatch>>, DeviceError> {
        let mut planned = Vec::new();
        let mut workspace = 0;
        for command in &program.commands {
            let Command::Run(run) = command else {
                planned.push(Vec::new());
                continue;
            };
            let chosen = self.selection.plan(run.operation.as_ref(), run.pass, run.problem, &self.gpu.info.limits);
            let (variant, plan) = chosen.map_err(|reason| self.no_choice(program, run, reason))?;
            tracing::trace!(program.label, kernel = run.operation.name(), pass = %run.pass, variant = variant.name);
            workspace = workspace.max(plan.workspace);
            planned.push(plan.dispatches);
        }
        self.grow_scratch(4 * workspace as u64)?;
        Ok(planned)
    }

    fn no_choice(&self, program: &Program, run: &Run, reason: NoChoice) -> DeviceError {
        let (device, program) = (self.gpu.name(), program.label.clone());
        let (operation, pass) = (run.operation.name(), run.pass.name());
        match reason {
            NoChoice::Plan(source) => DeviceError::Plan { device, program, operation, pass, source },
            NoChoice::NoneLeft(reasons) => DeviceError::NoVariant { device, program, operation, pass, reasons },
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
        let mut bytes = Vec::new();
        for dispatch in dispatches.filter(|dispatch| !dispatch.uniform.is_empty()) {
            bytes.extend_from_slice(&dispatch.uniform);
            bytes.resize(bytes.len().next_multiple_of(UNIFORM_ALIGNMENT as usize), 0);
        }
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
        planned: &[Vec<Dispatch>],
        uniforms: Option<&wgpu::Buffer>,
    ) -> Result<Vec<Segment>, DeviceError> {
        let mut segments = Vec::new();
        let mut offset = 0;
        for (command, dispatches) in program.commands.iter().zip(planned) {
            match command {
                Command::Copy { from, to } => segments.push(Segment::Copy(self.part(from)?, self.part(to)?)),
                Command::Clear(to) => segments.push(Segment::Clear(self.part(to)?)),
                Command::Run(run) => {
                    let mut steps = Vec::new();
                    for dispatch in dispatches {
                        let bytes = dispatch.uniform.len() as u64;
                        let uniform = uniforms.map(|buffer| Part { buffer: buffer.clone(), offset, bytes });
                        steps.push(self.step(&program.label, run, dispatch, uniform.filter(|part| part.bytes > 0))?);
                        offset = (offset + bytes).next_multiple_of(UNIFORM_ALIGNMENT);
                    }
                    match segments.last_mut() {
                        Some(Segment::Pass(before)) => before.append(&mut steps),
                        _ => segments.push(Segment::Pass(steps)),
                    }
                }
            }
        }
        Ok(segments)
    }

    fn step(&self, program: &str, run: &Run, dispatch: &Dispatch, uniform: Option<Part>) -> Result<Step, DeviceError> {
        let kernel = format!("{}/{}", run.operation.name(), dispatch.kernel.entry);
        let wrong = |message: String| self.gpu.program_error(program, format!("{kernel}: {message}"));
        let most = self.gpu.info.limits.workgroups_per_dimension;
        if dispatch.workgroups.iter().any(|&count| count == 0 || count > most) {
            return Err(wrong(format!("{:?} workgroups", dispatch.workgroups)));
        }
        if let Some(conflict) = conflict(run, &dispatch.bindings) {
            return Err(wrong(conflict));
        }
        let mut entries: Vec<_> = uniform.map(|part| (0, Place::Buffer(part))).into_iter().collect();
        for binding in &dispatch.bindings {
            entries.push((binding.slot, self.bound(run, binding).map_err(wrong)?));
        }
        let key = Key::of(dispatch);
        let Pipeline { pipeline, layout } =
            self.pipelines.get(&key).cloned().ok_or_else(|| wrong("was not compiled".into()))?;
        let recipe = Recipe { layout, entries };
        let group = self
            .gpu
            .scoped(|| recipe.bind(&self.gpu, &self.scratch))
            .map_err(|error| self.gpu.validation(&format!("program {program}: {kernel}"), &error))?;
        let recipe = recipe.uses_scratch().then_some(recipe);
        Ok(Step { pipeline, group, workgroups: dispatch.workgroups, recipe })
    }

    fn bound(&self, run: &Run, binding: &Binding) -> Result<Place, String> {
        let Binding { tensor, ref range, .. } = *binding;
        let (bytes, offset) = (4 * range.len() as u64, 4 * range.start as u64);
        let allowed = self.gpu.info.limits.binding_bytes;
        if bytes == 0 || bytes > allowed || !range.start.is_multiple_of(Slice::ALIGNMENT) {
            return Err(format!("binds elements {range:?} of {tensor}, where {allowed} bytes are allowed"));
        }
        if tensor == Tensor::Workspace {
            return Ok(Place::Scratch { offset, bytes });
        }
        let slice = run.slice(tensor).ok_or_else(|| format!("binds {tensor}, which it was not given"))?;
        if range.end > slice.elements {
            return Err(format!("binds elements {range:?} of {tensor}, which has {}", slice.elements));
        }
        let part = self.part(slice).map_err(|error| error.to_string())?;
        Ok(Place::Buffer(Part { offset: part.offset + offset, bytes, ..part }))
    }

    fn part(&self, slice: &Slice) -> Result<Part, DeviceError> {
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

/// Two bindings of one dispatch that no adapter accepts: one buffer read-only and written, or one part written
/// through both.
fn conflict(run: &Run, bindings: &[Binding]) -> Option<String> {
    let place = |binding: &Binding| match binding.tensor {
        Tensor::Workspace => (None, binding.range.clone()),
        tensor => run.slice(tensor).map_or((None, 0..0), |slice| {
            (Some(slice.buffer), slice.start + binding.range.start..slice.start + binding.range.end)
        }),
    };
    for (index, one) in bindings.iter().enumerate() {
        for other in &bindings[..index] {
            let ((buffer, range), (other_buffer, other_range)) = (place(one), place(other));
            let overlap = range.start < other_range.end && other_range.start < range.end;
            let written = one.access.writes() || other.access.writes();
            let mixed = one.access.writes() != other.access.writes();
            if buffer == other_buffer && written && (mixed || overlap) {
                return Some(format!("{} and {} lie in one buffer, and one is written", one.tensor, other.tensor));
            }
        }
    }
    None
}
