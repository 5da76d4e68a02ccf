//! The device itself: making buffers, catching errors, waiting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use wgpu::{BufferUsages, ErrorFilter, PollError, PollType, SubmissionIndex};

use super::health::Health;
use crate::door::Tenancy;
use crate::slots::buffer_bytes;
use crate::watch::Silence;
use crate::{DeviceError, DeviceInfo, Ledger, OpenOptions, Purpose};

/// Between two looks at whether the device is lost.
const SLICE: Duration = Duration::from_millis(50);

/// An opened device with what it has allocated.
pub(crate) struct Gpu {
    pub(super) info: DeviceInfo,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) ledger: Ledger,
    pub(super) patience: Duration,
    budget: u64,
    health: Arc<Health>,
    /// The last field: it goes after the device and the queue.
    pub(super) tenancy: Tenancy,
}

impl Gpu {
    /// Takes over an opened device and listens to its errors.
    pub(crate) fn new(info: DeviceInfo, device: wgpu::Device, queue: wgpu::Queue, options: &OpenOptions) -> Self {
        let health = Arc::new(Health::default());
        let lost = health.clone();
        device.set_device_lost_callback(move |reason, message| lost.lose(format!("{reason:?}: {message}")));
        let (heard, name) = (health.clone(), info.name.clone());
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            heard.fail(DeviceError::Validation { device: name.clone(), message: error.to_string() });
        }));
        let budget = options.budget_bytes.unwrap_or(u64::MAX);
        let tenancy = Tenancy::new(&device, &queue);
        Self { info, device, queue, ledger: Ledger::default(), patience: options.patience, budget, health, tenancy }
    }

    pub(super) fn name(&self) -> String {
        self.info.name.clone()
    }

    /// Fails where the device is lost or an error came up.
    pub(super) fn check(&self) -> Result<(), DeviceError> {
        self.health.check(&self.info.name)
    }

    pub(super) fn program_error(&self, program: &str, message: impl Into<String>) -> DeviceError {
        DeviceError::Program { device: self.name(), program: program.to_owned(), message: message.into() }
    }

    /// What `make` makes, or the first error that wgpu reports meanwhile on this thread.
    pub(super) fn scoped<T>(&self, make: impl FnOnce() -> T) -> Result<T, wgpu::Error> {
        let filters = [ErrorFilter::Internal, ErrorFilter::Validation, ErrorFilter::OutOfMemory];
        let scopes = filters.map(|filter| self.device.push_error_scope(filter));
        let made = make();
        let errors = scopes.into_iter().rev().map(|scope| pollster::block_on(scope.pop()));
        match errors.reduce(Option::or).flatten() {
            Some(error) => Err(error),
            None => Ok(made),
        }
    }

    pub(super) fn validation(&self, what: &str, error: &dyn std::fmt::Display) -> DeviceError {
        DeviceError::Validation { device: self.name(), message: format!("{what}: {error}") }
    }

    /// A buffer of at least `bytes`, counted under `purpose`.
    pub(super) fn buffer(
        &mut self,
        bytes: u64,
        purpose: Purpose,
        usage: BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<wgpu::Buffer, DeviceError> {
        self.check()?;
        let size = buffer_bytes(bytes);
        if size > self.info.limits.buffer_bytes {
            return Err(DeviceError::Limit {
                device: self.name(),
                what: format!("one buffer for {purpose}"),
                needed: crate::error::bytes(size),
                allowed: crate::error::bytes(self.info.limits.buffer_bytes),
            });
        }
        if self.ledger.live_bytes().saturating_add(size) > self.budget {
            return Err(self.out_of_memory(size, purpose));
        }
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation };
        match self.scoped(|| self.device.create_buffer(&descriptor)) {
            Ok(buffer) => {
                self.ledger.allocate(purpose, size);
                Ok(buffer)
            }
            Err(wgpu::Error::OutOfMemory { .. }) => Err(self.out_of_memory(size, purpose)),
            Err(error) => Err(self.validation(&format!("a buffer of {size} bytes for {purpose}"), &error)),
        }
    }

    fn out_of_memory(&self, wanted: u64, purpose: Purpose) -> DeviceError {
        let in_use = self.ledger.live_bytes();
        DeviceError::OutOfMemory { device: self.name(), purpose: purpose.to_string(), wanted, in_use }
    }

    /// Drops a buffer from the ledger; its memory goes with the last use.
    pub(super) fn release(&mut self, buffer: &wgpu::Buffer, purpose: Purpose) {
        self.ledger.release(purpose, buffer.size());
    }

    /// Runs what may panic inside wgpu when the device goes, and gives that as a loss.
    pub(super) fn guarded<T>(&self, work: impl FnOnce() -> T) -> Result<T, DeviceError> {
        self.check()?;
        let result = catch_unwind(AssertUnwindSafe(work));
        if let Err(panic) = &result {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            self.health.lose(format!("wgpu panicked: {text}"));
        }
        self.check()?;
        result.map_err(|_| DeviceError::Lost { device: self.name(), reason: "wgpu panicked".into() })
    }

    /// Runs the callbacks of what has finished, without waiting.
    pub(super) fn hear(&self) -> Result<(), DeviceError> {
        match self.guarded(|| self.device.poll(PollType::Poll))? {
            Ok(_) => Ok(()),
            Err(error) => Err(DeviceError::Validation { device: self.name(), message: error.to_string() }),
        }
    }

    /// Whether a submission finishes within `timeout`.
    pub(super) fn poll(&self, index: &SubmissionIndex, timeout: Duration) -> Result<bool, DeviceError> {
        let wait = PollType::Wait { submission_index: Some(index.clone()), timeout: Some(timeout) };
        match self.guarded(|| self.device.poll(wait))? {
            Ok(_) => Ok(true),
            Err(PollError::Timeout) => Ok(false),
            Err(error) => Err(DeviceError::Validation { device: self.name(), message: error.to_string() }),
        }
    }

    /// Waits for a submission, at most for `timeout` in which this process runs, looking now and then whether the device is
    /// lost.
    pub(super) fn finish(
        &self,
        index: &SubmissionIndex,
        what: impl std::fmt::Display,
        timeout: Duration,
    ) -> Result<(), DeviceError> {
        let mut silence = Silence::new(Instant::now());
        loop {
            let waited = silence.look(Instant::now());
            let left = timeout.saturating_sub(waited);
            if self.poll(index, left.min(SLICE))? {
                return Ok(());
            }
            if left.is_zero() {
                return Err(DeviceError::Timeout { device: self.name(), what: what.to_string(), waited });
            }
        }
    }
}
