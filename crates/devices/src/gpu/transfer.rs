//! Reading and writing outside of programs: weights at the start, checkpoints, tests.

use wgpu::{BufferUsages, MapMode, SubmissionIndex};

use super::executor::GpuExecutor;
use crate::program::Slice;
use crate::slots::PIECE;
use crate::{DeviceError, Purpose};

/// Smaller writes are left to wgpu, which sends them with the next submission.
const SMALL: usize = 64 << 10;

impl GpuExecutor {
    pub(super) fn write_slice(&mut self, to: &Slice, bytes: &[u8]) -> Result<(), DeviceError> {
        self.gpu.check()?;
        let (buffer, offset) = self.place(to)?;
        if bytes.len() != 4 * to.elements {
            let message = format!("{} bytes for {} elements", bytes.len(), to.elements);
            return Err(self.gpu.program_error("set-up", message));
        }
        if bytes.len() <= SMALL {
            self.gpu.guarded(|| self.gpu.queue.write_buffer(&buffer, offset, bytes))?;
            return Ok(());
        }
        for (index, piece) in bytes.chunks(PIECE).enumerate() {
            let usage = BufferUsages::MAP_WRITE | BufferUsages::COPY_SRC;
            let staging = self.gpu.buffer(piece.len() as u64, Purpose::Staging, usage, true)?;
            let filled = self
                .fill(&staging, piece)
                .and_then(|()| self.copy(&staging, 0, &buffer, offset + (index * PIECE) as u64, piece.len() as u64));
            let finished = filled.and_then(|index| self.gpu.finish(&index, "a write", self.gpu.patience));
            self.gpu.release(&staging, Purpose::Staging);
            finished?;
        }
        Ok(())
    }

    pub(super) fn read_slice(&mut self, from: &Slice) -> Result<Vec<u8>, DeviceError> {
        let (buffer, offset) = self.place(from)?;
        let mut bytes = Vec::with_capacity(4 * from.elements);
        while bytes.len() < 4 * from.elements {
            let length = (4 * from.elements - bytes.len()).min(PIECE) as u64;
            let usage = BufferUsages::MAP_READ | BufferUsages::COPY_DST;
            let staging = self.gpu.buffer(length, Purpose::Staging, usage, false)?;
            let copied = self.copy(&buffer, offset + bytes.len() as u64, &staging, 0, length);
            let fetched = copied.and_then(|index| self.fetch(&staging, length, &index, &mut bytes));
            self.gpu.release(&staging, Purpose::Staging);
            fetched?;
        }
        Ok(bytes)
    }

    fn fill(&self, staging: &wgpu::Buffer, bytes: &[u8]) -> Result<(), DeviceError> {
        let view = staging.get_mapped_range_mut(0..bytes.len() as u64);
        view.map_err(|error| self.unmapped(&error))?.copy_from_slice(bytes);
        staging.unmap();
        Ok(())
    }

    fn fetch(
        &self,
        staging: &wgpu::Buffer,
        length: u64,
        index: &SubmissionIndex,
        bytes: &mut Vec<u8>,
    ) -> Result<(), DeviceError> {
        staging.map_async(MapMode::Read, .., |_| {});
        self.gpu.finish(index, "a read", self.gpu.patience)?;
        let view = staging.get_mapped_range(0..length).map_err(|error| self.unmapped(&error))?;
        bytes.extend_from_slice(&view);
        Ok(())
    }

    fn unmapped(&self, error: &wgpu::MapRangeError) -> DeviceError {
        DeviceError::Lost { device: self.gpu.name(), reason: format!("staging memory: {error}") }
    }

    fn copy(
        &self,
        from: &wgpu::Buffer,
        from_offset: u64,
        to: &wgpu::Buffer,
        to_offset: u64,
        bytes: u64,
    ) -> Result<SubmissionIndex, DeviceError> {
        self.gpu.guarded(|| {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encoder.copy_buffer_to_buffer(from, from_offset, to, to_offset, bytes);
            self.gpu.queue.submit([encoder.finish()])
        })
    }
}
