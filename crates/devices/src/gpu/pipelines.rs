//! Compiled kernels, each once.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use brigade_kernels::{Access, Dispatch, Kernel, Shader};
use wgpu::{BindGroupLayoutEntry, BindingType, BufferBindingType, ShaderStages};

use super::device::Gpu;
use crate::{DeviceError, sources, watch};

/// How long a driver may compile one kernel: a second or two, on cores that other stages want as well.
const COMPILING: Duration = Duration::from_secs(60);

/// What tells two modules apart: the text and what it is expanded with.
type Module = (&'static Shader, Vec<(&'static str, u32)>);

/// What tells two pipelines apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    module: Module,
    entry: &'static str,
    constants: Vec<(&'static str, u64)>,
    /// Slots, and whether each is only read.
    slots: Vec<(u32, bool)>,
    uniform_bytes: u64,
}

impl Key {
    pub(super) fn of(dispatch: &Dispatch) -> Self {
        let Kernel { shader, entry, ref definitions, ref constants } = dispatch.kernel;
        Self {
            module: (shader, definitions.clone()),
            entry,
            constants: constants.iter().map(|&(name, value)| (name, value.to_bits())).collect(),
            slots: dispatch.bindings.iter().map(|bound| (bound.slot, bound.access == Access::Read)).collect(),
            uniform_bytes: dispatch.uniform.len() as u64,
        }
    }

    fn label(&self) -> String {
        format!("{}/{}", self.module.0.name, self.entry)
    }
}

/// A pipeline with the layout of its bind group.
#[derive(Clone)]
pub(super) struct Pipeline {
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) layout: wgpu::BindGroupLayout,
}

/// The modules and pipelines of one device.
pub(super) struct Pipelines {
    checked: bool,
    modules: HashMap<Module, wgpu::ShaderModule>,
    pipelines: HashMap<Key, Pipeline>,
}

impl Pipelines {
    /// None yet; `checked` ones look at every index.
    pub(super) fn new(checked: bool) -> Self {
        Self { checked, modules: HashMap::new(), pipelines: HashMap::new() }
    }

    pub(super) fn get(&self, key: &Key) -> Option<&Pipeline> {
        self.pipelines.get(key)
    }

    /// Compiles those of `keys` that are not there yet, several at a time. Those that can be made are kept where another
    /// cannot.
    pub(super) fn compile(&mut self, gpu: &Gpu, keys: Vec<Key>) -> Result<(), DeviceError> {
        let checked = self.checked;
        let texts = keys.iter().map(|key| key.module.clone());
        let named = |text: &Module| format!("shader {}", text.0.name);
        make_missing(gpu, &mut self.modules, texts, named, |text| module(gpu, text, checked))?;
        let modules = &self.modules;
        let named = |key: &Key| format!("kernel {}", key.label());
        make_missing(gpu, &mut self.pipelines, keys.into_iter(), named, |key| match modules.get(&key.module) {
            Some(module) => pipeline(gpu, key, module),
            None => Err(gpu.validation(&format!("kernel {}", key.label()), &"its shader was not made")),
        })?;
        gpu.check()
    }
}

/// Makes each of `keys` that `made` lacks, on as many threads as there are cores: some take a second and others a
/// millisecond, so that each thread takes the next one when it has done one.
fn make_missing<K: Clone + Eq + Hash + Sync + Send, T: Send>(
    gpu: &Gpu,
    made: &mut HashMap<K, T>,
    keys: impl Iterator<Item = K>,
    named: impl Fn(&K) -> String + Sync,
    make: impl Fn(&K) -> Result<T, DeviceError> + Sync,
) -> Result<(), DeviceError> {
    let mut missing: Vec<K> = Vec::new();
    for key in keys {
        if !made.contains_key(&key) && !missing.contains(&key) {
            missing.push(key);
        }
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(missing.len());
    let left = Mutex::new(missing.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let watching = watch::teller();
    let make = |key: K| {
        if let Some(teller) = &watching {
            teller.begins(COMPILING, format!("the compiling of {}", named(&key)));
        }
        make(&key).map(|value| (key, value))
    };
    let work = || std::iter::from_fn(next).map(&make).collect::<Vec<_>>();
    let done: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(ScopedJoinHandle::join).collect()
    });
    watch::goes_on();
    let mut first = Ok(());
    for results in done {
        let lost = |_| DeviceError::Lost { device: gpu.name(), reason: "wgpu panicked while compiling".into() };
        for result in results.map_err(lost)? {
            match result {
                Ok((key, value)) => drop(made.insert(key, value)),
                Err(error) => first = first.and(Err(error)),
            }
        }
    }
    first
}

#[allow(unsafe_code, reason = "per-access checks and loop counters cost several times the arithmetic")]
fn module(gpu: &Gpu, (shader, definitions): &Module, checked: bool) -> Result<wgpu::ShaderModule, DeviceError> {
    let label = format!("shader {}", shader.name);
    let source = sources::source(shader, definitions).map_err(|error| gpu.validation(&label, &error))?;
    let descriptor = wgpu::ShaderModuleDescriptor {
        label: Some(shader.name),
        source: wgpu::ShaderSource::Wgsl(source.as_ref().into()),
    };
    let make = || {
        if checked {
            return gpu.device.create_shader_module(descriptor);
        }
        // SAFETY: the module is one of Brigade's own, not the user's. Its loops end and its indices stay inside:
        // plans give it ranges of the bound sizes, tests run every kernel in a checked build as well, and
        // `prepare` refuses bindings outside of their buffers.
        unsafe { gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked()) }
    };
    gpu.scoped(make).map_err(|error| gpu.validation(&label, &error))
}

fn pipeline(gpu: &Gpu, key: &Key, module: &wgpu::ShaderModule) -> Result<Pipeline, DeviceError> {
    let label = key.label();
    let make = || {
        let layout = bind_group_layout(gpu, key);
        let pipeline_layout = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some(&label),
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let constants: Vec<_> = key.constants.iter().map(|&(name, bits)| (name, f64::from_bits(bits))).collect();
        let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(&label),
            layout: Some(&pipeline_layout),
            module,
            entry_point: Some(key.entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        Pipeline { pipeline, layout }
    };
    let started = Instant::now();
    let made = gpu.scoped(make).map_err(|error| gpu.validation(&format!("kernel {label}"), &error))?;
    tracing::debug!(kernel = label, elapsed = ?started.elapsed(), "compiled");
    Ok(made)
}

fn bind_group_layout(gpu: &Gpu, key: &Key) -> wgpu::BindGroupLayout {
    let entry = |binding, ty, bytes| BindGroupLayoutEntry {
        binding,
        visibility: ShaderStages::COMPUTE,
        ty: BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: wgpu::BufferSize::new(bytes) },
        count: None,
    };
    let uniform = (key.uniform_bytes > 0).then(|| entry(0, BufferBindingType::Uniform, key.uniform_bytes));
    let storage = key.slots.iter().map(|&(slot, read_only)| entry(slot, BufferBindingType::Storage { read_only }, 0));
    let entries: Vec<_> = uniform.into_iter().chain(storage).collect();
    gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}
