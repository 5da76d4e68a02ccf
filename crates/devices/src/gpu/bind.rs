//! Dispatches made ready: checked, and bound.

use brigade_kernels::{Binding, Dispatch, Tensor};

use super::device::Gpu;
use super::executor::{GpuExecutor, Scratch};
use super::pipelines::{Key, Pipeline};
use crate::program::{Run, Slice};
use crate::{DeviceError, LapKernel};

/// A part of a buffer.
#[derive(Clone)]
pub(super) struct Part {
    pub(super) buffer: wgpu::Buffer,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// One dispatch.
pub(super) struct Step {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) group: wgpu::BindGroup,
    pub(super) workgroups: [u32; 3],
    /// The pass of an operation that is done after it.
    pub(super) ends: Option<LapKernel>,
    /// The timestamp that is written after it.
    pub(super) stamp: Option<u32>,
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

impl Step {
    /// Makes the group again where it binds scratch memory, which has been replaced by larger.
    pub(super) fn refresh(&mut self, gpu: &Gpu, scratch: &Scratch) {
        if let Some(recipe) = &self.recipe {
            self.group = recipe.bind(gpu, scratch);
        }
    }
}

impl GpuExecutor {
    pub(super) fn step(
        &self,
        program: &str,
        run: &Run,
        dispatch: &Dispatch,
        uniform: Option<Part>,
    ) -> Result<Step, DeviceError> {
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
        Ok(Step { pipeline, group, workgroups: dispatch.workgroups, ends: None, stamp: None, recipe })
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
