//! Timestamps of submissions: around the whole, and where the device is profiled around each pass of an operation.

use std::time::Duration;

use wgpu::{BufferUsages, ComputePassTimestampWrites, Features};

use super::device::Gpu;
use super::prepare::{PassSegment, Segment};
use crate::slots::{AROUND, STAMP_BYTES};
use crate::{DeviceError, Lap, LapKernel, OpenOptions, Purpose};

/// Most queries that one set may have.
const MOST: u32 = wgpu::QUERY_SET_MAX_QUERIES;

/// What is timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// Submissions, with the copies between staging slots and buffers.
    Whole,
    /// Submissions from their first compute pass to the end of the last, where the device has no timestamps between passes.
    Passes,
    /// Passes of operations, within one compute pass.
    Inside,
    /// Passes of operations, each in a compute pass of its own, where the device has no timestamps inside of one.
    Apart,
}

/// The device's timestamps. Submissions run one after another, so all share the same queries.
pub(super) struct Clock {
    pub(super) detail: Detail,
    queries: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    nanoseconds: f64,
    most: u32,
}

/// The timestamps of one program, in the order in which they are written.
#[derive(Default)]
pub(super) struct Stamps {
    count: u32,
    /// What ran between the timestamp of that number and the next.
    laps: Vec<(u32, LapKernel)>,
}

impl Stamps {
    /// Bytes that they take in the download slot.
    pub(super) fn bytes(&self) -> u64 {
        STAMP_BYTES * u64::from(self.count)
    }

    fn next(&mut self) -> u32 {
        self.count += 1;
        self.count - 1
    }
}

impl Clock {
    /// A clock, where the device has one.
    pub(super) fn new(gpu: &mut Gpu, options: &OpenOptions) -> Result<Option<Self>, DeviceError> {
        let features = gpu.device.features();
        if !features.contains(Features::TIMESTAMP_QUERY) {
            return Ok(None);
        }
        let detail = match options.profile {
            false if features.contains(Features::TIMESTAMP_QUERY_INSIDE_ENCODERS) => Detail::Whole,
            false => Detail::Passes,
            true if features.contains(Features::TIMESTAMP_QUERY_INSIDE_PASSES) => Detail::Inside,
            true => Detail::Apart,
        };
        let most = if matches!(detail, Detail::Whole | Detail::Passes) { AROUND } else { MOST };
        let usage = BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC;
        let resolved = gpu.buffer(STAMP_BYTES * u64::from(most), Purpose::Small, usage, false)?;
        let descriptor = wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count: most };
        let queries = gpu.scoped(|| gpu.device.create_query_set(&descriptor));
        let queries = queries.map_err(|error| gpu.validation("timestamps", &error))?;
        let nanoseconds = f64::from(gpu.queue.get_timestamp_period());
        Ok(Some(Self { detail, queries, resolved, nanoseconds, most }))
    }

    /// Says where a program writes timestamps; none where there are more than the device has room for.
    pub(super) fn place(&self, segments: &mut [Segment]) -> Option<Stamps> {
        let mut stamps = Stamps::default();
        let mut passes: Vec<&mut PassSegment> = segments.iter_mut().filter_map(Segment::pass_mut).collect();
        if self.detail == Detail::Whole && !passes.is_empty() {
            return Some(Stamps { count: AROUND, laps: Vec::new() });
        }
        if self.detail == Detail::Passes {
            let last = passes.len().checked_sub(1);
            for (index, pass) in passes.iter_mut().enumerate() {
                pass.begin = (index == 0).then(|| stamps.next());
                pass.end = (Some(index) == last).then(|| stamps.next());
            }
            return Some(stamps);
        }
        for pass in passes {
            let mut before = stamps.next();
            pass.begin = Some(before);
            for step in &mut pass.steps {
                let Some(kernel) = step.ends else { continue };
                let after = stamps.next();
                stamps.laps.push((before, kernel));
                match self.detail {
                    Detail::Apart => pass.end = Some(after),
                    _ => step.stamp = Some(after),
                }
                before = after;
            }
        }
        (stamps.count <= self.most).then_some(stamps)
    }

    /// Writes the timestamp at the start of a submission, or that at its end, where they lie around the whole.
    pub(super) fn around(&self, encoder: &mut wgpu::CommandEncoder, stamps: &Stamps, index: u32) {
        if self.detail == Detail::Whole && stamps.count > 0 {
            encoder.write_timestamp(&self.queries, index);
        }
    }

    /// What a compute pass writes at its ends.
    pub(super) fn ends(&self, pass: &PassSegment) -> Option<ComputePassTimestampWrites<'_>> {
        (pass.begin.is_some() || pass.end.is_some()).then_some(ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: pass.begin,
            end_of_pass_write_index: pass.end,
        })
    }

    /// Writes a timestamp within a compute pass.
    pub(super) fn stamp(&self, pass: &mut wgpu::ComputePass<'_>, index: u32) {
        pass.write_timestamp(&self.queries, index);
    }

    /// Brings a program's timestamps into its download slot.
    pub(super) fn bring_back(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        stamps: &Stamps,
        slot: &wgpu::Buffer,
        offset: u64,
    ) {
        if stamps.count > 0 {
            encoder.resolve_query_set(&self.queries, 0..stamps.count, &self.resolved, 0);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, slot, offset, stamps.bytes());
        }
    }

    /// The time from the first to the last timestamp, and that of each lap.
    pub(super) fn read(&self, stamps: &Stamps, bytes: &[u8]) -> (Option<Duration>, Vec<Lap>) {
        let between = |start: u32, end: u32| {
            let stamp = |index: u32| {
                let bytes = bytes.get(STAMP_BYTES as usize * index as usize..)?;
                bytes.first_chunk::<{ STAMP_BYTES as usize }>().map(|bytes| u64::from_le_bytes(*bytes))
            };
            let ticks = stamp(end)?.checked_sub(stamp(start)?)?;
            Some(Duration::from_nanos((ticks as f64 * self.nanoseconds) as u64))
        };
        let lap = |&(start, kernel): &(u32, LapKernel)| Some(Lap { kernel, time: between(start, start + 1)? });
        let whole = stamps.count.checked_sub(1).and_then(|last| between(0, last));
        (whole, stamps.laps.iter().filter_map(lap).collect())
    }
}
