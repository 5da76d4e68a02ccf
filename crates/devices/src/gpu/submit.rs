//! Submissions: one encoder each, and what comes back.

use std::time::{Duration, Instant};

use wgpu::{BufferUsages, ComputePassTimestampWrites, Features, SubmissionIndex};

use super::bind::Part;
use super::device::Gpu;
use super::executor::GpuExecutor;
use super::prepare::{Prepared, Segment};
use crate::staging::{Download, UploadMemory};
use crate::{Completion, DeviceError, ProgramId, Purpose, Ticket, Upload};

/// Two timestamps of 64 bits.
pub(super) const TIMESTAMP_BYTES: u64 = 16;

/// A submission that has not been waited for.
pub(super) struct Flight {
    pub(super) submission: u64,
    pub(super) index: SubmissionIndex,
    label: String,
    /// Ring and slot that the download or the timestamps come back in.
    slot: Option<(usize, usize)>,
    download_bytes: u64,
    timed: bool,
}

/// Timestamps at the start and the end of a submission's compute passes.
pub(super) struct Clock {
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    nanoseconds: f64,
}

impl Clock {
    /// A clock, where the device has one.
    pub(super) fn new(gpu: &mut Gpu) -> Result<Option<Self>, DeviceError> {
        if !gpu.device.features().contains(Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = gpu.buffer(TIMESTAMP_BYTES, Purpose::Small, usage, false)?;
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: 2 };
        let queries = gpu.scoped(|| gpu.device.create_query_set(&descriptor));
        let queries = queries.map_err(|error| gpu.validation("timestamps", &error))?;
        Ok(Some(Self { queries, resolved, nanoseconds: f64::from(gpu.queue.get_timestamp_period()) }))
    }

    fn writes(&self, first: bool, last: bool) -> Option<ComputePassTimestampWrites<'_>> {
        (first || last).then_some(ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: first.then_some(0),
            end_of_pass_write_index: last.then_some(1),
        })
    }

    fn between(&self, bytes: &[u8]) -> Option<Duration> {
        let stamp = |bytes: &[u8]| bytes.try_into().ok().map(u64::from_le_bytes);
        let (start, end) = (stamp(bytes.get(..8)?)?, stamp(bytes.get(8..16)?)?);
        let ticks = end.checked_sub(start)?;
        Some(Duration::from_nanos((ticks as f64 * self.nanoseconds) as u64))
    }
}

impl GpuExecutor {
    pub(super) fn prepared(&self, program: ProgramId) -> Result<&Prepared, DeviceError> {
        let forgotten = || self.gpu.program_error(&format!("{program:?}"), "was forgotten");
        self.programs.get(program.0).and_then(Option::as_ref).ok_or_else(forgotten)
    }

    pub(super) fn lend_upload(&mut self, program: ProgramId) -> Result<Upload, DeviceError> {
        self.gpu.check()?;
        let prepared = self.prepared(program)?;
        let (bytes, ring_index) = (prepared.upload_bytes, prepared.upload_ring);
        let Some((ring_index, ring)) = ring_index.and_then(|index| Some((index, self.rings.get_mut(index)?))) else {
            return Ok(Upload::host(0));
        };
        let slot = ring.lend(&mut self.gpu)?;
        let view = ring.buffer(slot).get_mapped_range_mut(0..bytes);
        let refused = |error: wgpu::MapRangeError| DeviceError::Validation {
            device: self.gpu.name(),
            message: format!("an upload slot: {error}"),
        };
        Ok(Upload::mapped(bytes as usize, view.map_err(refused)?, ring.home(ring_index, slot)))
    }

    pub(super) fn submit_program(&mut self, program: ProgramId, upload: Option<Upload>) -> Result<Ticket, DeviceError> {
        self.gpu.check()?;
        let submitted = Instant::now();
        let source = self.close_upload(program, upload)?;
        let download_ring = self.prepared(program)?.download_ring;
        let target = match download_ring.and_then(|index| Some((index, self.rings.get_mut(index)?))) {
            Some((index, ring)) => Some((index, ring.lend(&mut self.gpu)?)),
            None => None,
        };
        let Some(prepared) = self.programs.get_mut(program.0).and_then(Option::as_mut) else {
            return Err(self.gpu.program_error("?", "was forgotten"));
        };
        prepared.refresh(&self.gpu, &self.scratch);
        let rings = &mut self.rings;
        let mut staged = |place: Option<(usize, usize)>| {
            place.and_then(|(ring, slot)| rings.get_mut(ring).map(|ring| ring.buffer(slot).clone()))
        };
        let (from, back) = (staged(source), staged(target));
        let clock = self.clock.as_ref();
        let index = self.gpu.guarded(|| {
            let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            encode(&mut encoder, prepared, clock, from.as_ref(), back.as_ref());
            self.gpu.queue.submit([encoder.finish()])
        })?;
        for (ring, slot) in source.into_iter().chain(target) {
            if let Some(ring) = self.rings.get_mut(ring) {
                ring.launch(slot, index.clone());
            }
        }
        self.submissions += 1;
        self.flights.push_back(Flight {
            submission: self.submissions,
            index,
            label: prepared.label.clone(),
            slot: target,
            download_bytes: prepared.download_bytes,
            timed: target.is_some() && clock.is_some() && has_pass(prepared),
        });
        Ok(Ticket { submission: self.submissions, submitted })
    }

    /// Ends the host's writing to a slot, and gives its ring and place.
    fn close_upload(
        &mut self,
        program: ProgramId,
        upload: Option<Upload>,
    ) -> Result<Option<(usize, usize)>, DeviceError> {
        let (label, bytes) = self.prepared(program).map(|prepared| (prepared.label.clone(), prepared.upload_bytes))?;
        let mut mapped = match upload.map(|upload| upload.memory) {
            Some(UploadMemory::Mapped(mapped)) if bytes > 0 => mapped,
            _ if bytes == 0 => return Ok(None),
            _ => return Err(self.gpu.program_error(&label, "was submitted without the upload slot that it reads")),
        };
        let (ring_index, slot) = (mapped.home.ring, mapped.home.slot);
        let ring = self.rings.get_mut(ring_index).filter(|ring| ring.holds(slot, bytes));
        let Some(ring) = ring else {
            return Err(self.gpu.program_error(&label, "was submitted with the upload slot of a smaller program"));
        };
        mapped.view = None;
        ring.buffer(slot).unmap();
        Ok(Some((ring_index, slot)))
    }

    /// Waits for a flight, takes what it brings, and clears away earlier ones that nobody waited for.
    pub(super) fn land(&mut self, ticket: &Ticket, timeout: Duration) -> Result<Completion, DeviceError> {
        let Some(flight) = self.flights.iter().find(|flight| flight.submission == ticket.submission) else {
            return Err(self.gpu.program_error("?", format!("submission {} was waited for", ticket.submission)));
        };
        self.gpu.finish(&flight.index, &format!("program {}", flight.label), timeout)?;
        let finished = Instant::now();
        while let Some(flight) = self.flights.pop_front() {
            if flight.submission == ticket.submission {
                let (download, device_time) = self.take(&flight)?;
                return Ok(Completion { download, submitted: ticket.submitted, finished, device_time });
            }
            if let Some((ring, slot)) = flight.slot
                && let Some(ring) = self.rings.get_mut(ring)
            {
                ring.retire(slot);
            }
        }
        Err(self.gpu.program_error("?", "was lost sight of"))
    }

    fn take(&mut self, flight: &Flight) -> Result<(Option<Download>, Option<Duration>), DeviceError> {
        let Some((index, slot)) = flight.slot else { return Ok((None, None)) };
        let Some(ring) = self.rings.get_mut(index) else { return Ok((None, None)) };
        let what = format!("what program {} brings back", flight.label);
        let failed =
            |reason: String| DeviceError::Lost { device: self.gpu.name(), reason: format!("{what}: {reason}") };
        if ring.landed(slot) != Some(true) {
            self.gpu.check()?;
            return Err(failed("the staging slot cannot be mapped".into()));
        }
        let bytes = flight.download_bytes;
        let view = |range| ring.buffer(slot).get_mapped_range(range).map_err(|error| failed(error.to_string()));
        let device_time = match &self.clock {
            Some(clock) if flight.timed => {
                let start = bytes.next_multiple_of(8);
                clock.between(&view(start..start + TIMESTAMP_BYTES)?)
            }
            _ => None,
        };
        if bytes == 0 {
            ring.retire(slot);
            return Ok((None, device_time));
        }
        let view = view(0..bytes)?;
        ring.hand_out(slot);
        Ok((Some(Download::mapped(view, ring.home(index, slot))), device_time))
    }
}

fn has_pass(prepared: &Prepared) -> bool {
    prepared.segments.iter().any(|segment| matches!(segment, Segment::Pass(_)))
}

fn encode(
    encoder: &mut wgpu::CommandEncoder,
    prepared: &Prepared,
    clock: Option<&Clock>,
    from: Option<&wgpu::Buffer>,
    back: Option<&wgpu::Buffer>,
) {
    if let Some(slot) = from {
        for part in &prepared.uploads {
            encoder.copy_buffer_to_buffer(slot, part.slot_offset, &part.buffer, part.buffer_offset, part.bytes);
        }
    }
    let is_pass = |segment: &Segment| matches!(segment, Segment::Pass(_));
    let first = prepared.segments.iter().position(is_pass);
    let last = prepared.segments.iter().rposition(is_pass);
    for (index, segment) in prepared.segments.iter().enumerate() {
        match segment {
            Segment::Copy(Part { buffer, offset, bytes }, to) => {
                encoder.copy_buffer_to_buffer(buffer, *offset, &to.buffer, to.offset, *bytes);
            }
            Segment::Clear(Part { buffer, offset, bytes }) => encoder.clear_buffer(buffer, *offset, Some(*bytes)),
            Segment::Pass(steps) => {
                let timestamp_writes = clock.and_then(|c| c.writes(first == Some(index), last == Some(index)));
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                for step in steps {
                    let [x, y, z] = step.workgroups;
                    pass.set_pipeline(&step.pipeline);
                    pass.set_bind_group(0, &step.group, &[]);
                    pass.dispatch_workgroups(x, y, z);
                }
            }
        }
    }
    let Some(slot) = back else { return };
    for part in &prepared.downloads {
        encoder.copy_buffer_to_buffer(&part.buffer, part.buffer_offset, slot, part.slot_offset, part.bytes);
    }
    if let Some(clock) = clock.filter(|_| first.is_some()) {
        encoder.resolve_query_set(&clock.queries, 0..2, &clock.resolved, 0);
        let offset = prepared.download_bytes.next_multiple_of(8);
        encoder.copy_buffer_to_buffer(&clock.resolved, 0, slot, offset, TIMESTAMP_BYTES);
    }
}
