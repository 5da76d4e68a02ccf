//! Staging memory that a worker fills and reads: mapped slots of a ring on a GPU, plain memory for the reference.

use std::fmt;
use std::ops::Deref;
use std::sync::mpsc::Sender;

use crate::door::Tenancy;

/// Where a slot goes when it is no longer held. Sending may come from any thread, and after the executor has gone.
#[derive(Debug)]
pub(crate) struct Home {
    /// The ring among the executor's.
    pub(crate) ring: usize,
    /// The slot among the ring's.
    pub(crate) slot: usize,
    /// The way back.
    pub(crate) returned: Sender<usize>,
    /// Outlives the slot's view.
    #[expect(dead_code, reason = "held for its end alone")]
    pub(crate) tenancy: Tenancy,
}

/// A slot to fill before a submission.
pub struct Upload {
    pub(crate) bytes: usize,
    pub(crate) memory: UploadMemory,
}

pub(crate) enum UploadMemory {
    Host(Vec<u8>),
    Mapped(MappedUpload),
}

/// A mapped slot. The view goes before the slot is returned.
pub(crate) struct MappedUpload {
    pub(crate) view: Option<wgpu::BufferViewMut>,
    pub(crate) home: Home,
}

impl Upload {
    pub(crate) fn host(bytes: usize) -> Self {
        Self { bytes, memory: UploadMemory::Host(vec![0; bytes]) }
    }

    pub(crate) const fn mapped(bytes: usize, view: wgpu::BufferViewMut, home: Home) -> Self {
        Self { bytes, memory: UploadMemory::Mapped(MappedUpload { view: Some(view), home }) }
    }

    /// Bytes of the slot that the program reads.
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether the program reads nothing.
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Copies `source` into the slot, `offset` bytes from its start.
    ///
    /// # Panics
    /// Where it does not fit into the slot, as a slice does.
    pub fn write(&mut self, offset: usize, source: &[u8]) {
        let range = offset..offset + source.len();
        assert!(range.end <= self.bytes, "{range:?} lies outside of a slot of {} bytes", self.bytes);
        match &mut self.memory {
            UploadMemory::Host(memory) => memory[range].copy_from_slice(source),
            UploadMemory::Mapped(MappedUpload { view: Some(view), .. }) => view.slice(range).copy_from_slice(source),
            UploadMemory::Mapped(_) => {}
        }
    }
}

impl Drop for MappedUpload {
    fn drop(&mut self) {
        if self.view.take().is_some() {
            // The executor may have gone; then nobody wants the slot back.
            let _ = self.home.returned.send(self.home.slot);
        }
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({} bytes)", self.bytes)
    }
}

/// What a program downloaded: bytes in the order of its `downloads`. It may be sent to another thread and outlive
/// the executor; when dropped, its slot is free again.
pub struct Download(pub(crate) DownloadMemory);

pub(crate) enum DownloadMemory {
    Host(Vec<u8>),
    Mapped(MappedDownload),
}

/// A mapped slot. The view goes before the slot is returned.
pub(crate) struct MappedDownload {
    pub(crate) view: Option<wgpu::BufferView>,
    pub(crate) home: Home,
}

impl Download {
    pub(crate) const fn mapped(view: wgpu::BufferView, home: Home) -> Self {
        Self(DownloadMemory::Mapped(MappedDownload { view: Some(view), home }))
    }
}

impl From<Vec<u8>> for Download {
    /// A download that no device holds, for tests.
    fn from(bytes: Vec<u8>) -> Self {
        Self(DownloadMemory::Host(bytes))
    }
}

impl Deref for Download {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            DownloadMemory::Host(bytes) => bytes,
            DownloadMemory::Mapped(mapped) => mapped.view.as_deref().unwrap_or_default(),
        }
    }
}

impl Drop for MappedDownload {
    fn drop(&mut self) {
        self.view = None;
        let _ = self.home.returned.send(self.home.slot);
    }
}

impl fmt::Debug for Download {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Download({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_and_uploads_travel_between_threads() {
        const fn sendable<T: Send + 'static>() {}
        sendable::<Download>();
        sendable::<Upload>();
    }
}
