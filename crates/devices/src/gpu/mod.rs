//! The wgpu executor.
//!
//! # Layout
//! `device` makes buffers and waits; `health` hears of errors; `pipelines` compiles and caches; `prepare` makes
//! programs ready and `bind` their dispatches; `rings` keeps staging slots; `submit` runs programs, which `clock`
//! times; `transfer` moves data for set-up.

mod bind;
mod clock;
mod device;
mod executor;
mod health;
mod pipelines;
mod prepare;
mod rings;
mod submit;
mod transfer;

pub(crate) use device::Gpu;
pub(crate) use executor::GpuExecutor;
