//! Submissions: one encoder each, and what comes back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wgpu::SubmissionIndex;

use super::bind::Part;
use super::clock::Clock;
use super::executor::GpuExecutor;
use super::prepare::{Prepared, Segment};
use crate::slots::{AROUND, returned_bytes};
use crate::staging::{Download, UploadMemory};
use crate::{Completion, DeviceError, Lap, ProgramId, Ticket, Upload};

/// A submission that has not been waited for.
pub(super) struct Flight {
    pub(super) submission: u64,
    pub(super) index: SubmissionIndex,
    program: ProgramId,
    label: Arc<str>,
    /// Ring and slot that the download or the timestamps come back in.
    pub(super) slot: Option<(usize, usize)>,
    download_bytes: u64,
}

/// What a submission leaves.
#[derive(Default)]
struct Landed {
    download: Option<Download>,
    device_time: Option<Duration>,
    laps: Vec<Lap>,
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
            program,
            label: prepared.label.clone(),
            slot: target,
            download_bytes: prepared.download_bytes,
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
        self.gpu.finish(&flight.index, format_args!("program {}", flight.label), timeout)?;
        let finished = Instant::now();
        while let Some(flight) = self.flights.pop_front() {
            if flight.submission == ticket.submission {
                let Landed { download, device_time, laps } = self.take(&flight)?;
                let work = self.prepared(flight.program).map(|prepared| prepared.work).unwrap_or_default();
                return Ok(Completion { download, submitted: ticket.submitted, finished, device_time, laps, work });
            }
            if let Some((ring, slot)) = flight.slot
                && let Some(ring) = self.rings.get_mut(ring)
            {
                ring.retire(slot);
            }
        }
        Err(self.gpu.program_error("?", "was lost sight of"))
    }

    fn take(&mut self, flight: &Flight) -> Result<Landed, DeviceError> {
        let Some((index, slot)) = flight.slot else { return Ok(Landed::default()) };
        let Some(ring) = self.rings.get_mut(index) else { return Ok(Landed::default()) };
        let failed = |reason: String| {
            let reason = format!("what program {} brings back: {reason}", flight.label);
            DeviceError::Lost { device: self.gpu.name(), reason }
        };
        if ring.landed(slot) != Some(true) {
            self.gpu.check()?;
            return Err(failed("the staging slot cannot be mapped".into()));
        }
        let bytes = flight.download_bytes;
        let view = |range| ring.buffer(slot).get_mapped_range(range).map_err(|error| failed(error.to_string()));
        let stamps = self.programs.get(flight.program.0).and_then(Option::as_ref).map(|prepared| &prepared.stamps);
        let (device_time, laps) = match (&self.clock, stamps) {
            (Some(clock), Some(stamps)) if stamps.bytes() > 0 => {
                let start = returned_bytes(bytes, 0);
                clock.read(stamps, &view(start..start + stamps.bytes())?)
            }
            _ => (None, Vec::new()),
        };
        if bytes == 0 {
            ring.retire(slot);
            return Ok(Landed { download: None, device_time, laps });
        }
        let view = view(0..bytes)?;
        ring.hand_out(slot);
        let download = Some(Download::mapped(view, ring.home(index, slot)));
        Ok(Landed { download, device_time, laps })
    }
}

fn encode(
    encoder: &mut wgpu::CommandEncoder,
    prepared: &Prepared,
    clock: Option<&Clock>,
    from: Option<&wgpu::Buffer>,
    back: Option<&wgpu::Buffer>,
) {
    if let Some(clock) = clock {
        clock.around(encoder, &prepared.stamps, 0);
    }
    if let Some(slot) = from {
        for part in &prepared.uploads {
            encoder.copy_buffer_to_buffer(slot, part.slot_offset, &part.buffer, part.buffer_offset, part.bytes);
        }
    }
    for segment in &prepared.segments {
        match segment {
            Segment::Copy(Part { buffer, offset, bytes }, to) => {
                encoder.copy_buffer_to_buffer(buffer, *offset, &to.buffer, to.offset, *bytes);
            }
            Segment::Clear(Part { buffer, offset, bytes }) => encoder.clear_buffer(buffer, *offset, Some(*bytes)),
            Segment::Pass(segment) => {
                let timestamp_writes = clock.and_then(|clock| clock.ends(segment));
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                for step in &segment.steps {
                    let [x, y, z] = step.workgroups;
                    pass.set_pipeline(&step.pipeline);
                    pass.set_bind_group(0, &step.group, &[]);
                    pass.dispatch_workgroups(x, y, z);
                    if let (Some(clock), Some(stamp)) = (clock, step.stamp) {
                        clock.stamp(&mut pass, stamp);
                    }
                }
            }
        }
    }
    let Some(slot) = back else { return };
    for part in &prepared.downloads {
        encoder.copy_buffer_to_buffer(&part.buffer, part.buffer_offset, slot, part.slot_offset, part.bytes);
    }
    if let Some(clock) = clock {
        clock.around(encoder, &prepared.stamps, AROUND - 1);
        clock.bring_back(encoder, &prepared.stamps, slot, returned_bytes(prepared.download_bytes, 0));
    }
}
