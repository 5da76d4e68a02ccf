//! Rings of mapped staging slots, allocated when programs are prepared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use wgpu::{BufferUsages, MapMode, SubmissionIndex};

use super::device::Gpu;
use crate::door::Tenancy;
use crate::slots::{Slots, Way};
use crate::staging::Home;
use crate::{DeviceError, Purpose};

impl Way {
    const fn usage(self) -> BufferUsages {
        match self {
            Self::Up => BufferUsages::MAP_WRITE.union(BufferUsages::COPY_SRC),
            Self::Down { .. } => BufferUsages::MAP_READ.union(BufferUsages::COPY_DST),
        }
    }

    const fn mode(self) -> MapMode {
        match self {
            Self::Up => MapMode::Write,
            Self::Down { .. } => MapMode::Read,
        }
    }
}

/// Where a slot is in its round.
#[derive(Debug, Clone)]
enum Round {
    /// Up: mapped and ready to be filled. Down: unmapped and ready to be copied to.
    Free,
    /// In the hands of the worker, or of another stage.
    Lent,
    /// The device has it until that submission has finished.
    Flying {
        /// The submission.
        index: SubmissionIndex,
        /// Counts the launches of the ring.
        order: u64,
    },
}

/// What the callback of `map_async` says.
mod mapping {
    pub(super) const PENDING: u8 = 0;
    pub(super) const DONE: u8 = 1;
    pub(super) const FAILED: u8 = 2;
}

struct Slot {
    buffer: wgpu::Buffer,
    mapping: Arc<AtomicU8>,
    round: Round,
}

/// Slots of one size and direction.
pub(super) struct Ring {
    of: Slots,
    slots: Vec<Slot>,
    launches: u64,
    home: Sender<usize>,
    returned: Receiver<usize>,
    tenancy: Tenancy,
}

/// All rings of a device.
#[derive(Default)]
pub(super) struct Rings(Vec<Ring>);

impl Rings {
    /// The ring for slots of `bytes`, with at least `depth` of them.
    pub(super) fn provide(&mut self, gpu: &mut Gpu, way: Way, bytes: u64, depth: usize) -> Result<usize, DeviceError> {
        let wanted = Slots::new(way, bytes);
        let index = wanted.among(self.0.iter().map(|ring| ring.of)).unwrap_or_else(|| {
            let (home, returned) = channel();
            let tenancy = gpu.tenancy.clone();
            self.0.push(Ring { of: wanted, slots: Vec::new(), launches: 0, home, returned, tenancy });
            self.0.len() - 1
        });
        while self.0[index].slots.len() < depth.max(1) {
            self.0[index].grow(gpu)?;
        }
        Ok(index)
    }

    /// Whether every ring for what comes back in a lane has a free slot.
    pub(super) fn have_room(&mut self, lane: usize) -> bool {
        self.0.iter_mut().filter(|ring| ring.of.way == Way::Down { lane }).all(Ring::has_room)
    }

    /// Lets go of all rings. What is still held of them is valid, and comes home to nobody.
    pub(super) fn clear(&mut self, gpu: &mut Gpu) {
        for slot in self.0.drain(..).flat_map(|ring| ring.slots) {
            gpu.release(&slot.buffer, Purpose::Staging);
        }
    }

    pub(super) fn get_mut(&mut self, ring: usize) -> Option<&mut Ring> {
        self.0.get_mut(ring)
    }
}

impl Ring {
    fn grow(&mut self, gpu: &mut Gpu) -> Result<usize, DeviceError> {
        let Slots { way, bytes } = self.of;
        let buffer = gpu.buffer(bytes, Purpose::Staging, way.usage(), way == Way::Up)?;
        self.slots.push(Slot { buffer, mapping: Arc::new(AtomicU8::new(mapping::DONE)), round: Round::Free });
        Ok(self.slots.len() - 1)
    }

    /// Takes back what was dropped, and what the device has done with.
    fn collect(&mut self) {
        while let Ok(slot) = self.returned.try_recv() {
            self.retire(slot);
        }
        if self.of.way == Way::Up {
            for slot in &mut self.slots {
                if matches!(slot.round, Round::Flying { .. }) && slot.mapping.load(Ordering::Acquire) == mapping::DONE {
                    slot.round = Round::Free;
                }
            }
        }
    }

    fn has_room(&mut self) -> bool {
        self.collect();
        self.slots.iter().any(|slot| matches!(slot.round, Round::Free))
    }

    /// A free slot. Where the device has all upload slots, this waits for the oldest; where they are in other
    /// hands, the ring grows rather than wait for hands that might wait for it.
    pub(super) fn lend(&mut self, gpu: &mut Gpu) -> Result<usize, DeviceError> {
        self.collect();
        let free = |ring: &Self| ring.slots.iter().position(|slot| matches!(slot.round, Round::Free));
        let mut slot = free(self);
        if let (None, Some(index)) = (slot, self.oldest()) {
            let others = self.slots.iter().any(|slot| matches!(slot.round, Round::Lent));
            if others {
                gpu.poll(&index, Duration::ZERO)?;
            } else {
                gpu.finish(&index, "a free upload slot", gpu.patience)?;
            }
            self.collect();
            slot = free(self);
        }
        let slot = match slot {
            Some(slot) => slot,
            None => {
                tracing::debug!(device = gpu.info.name, bytes = self.of.bytes, "one more staging slot");
                self.grow(gpu)?
            }
        };
        self.slots[slot].round = Round::Lent;
        Ok(slot)
    }

    /// The submission of the upload slot that has been on the device for longest.
    fn oldest(&self) -> Option<SubmissionIndex> {
        let flying = self.slots.iter().filter_map(|slot| match &slot.round {
            Round::Flying { index, order } if self.of.way == Way::Up => Some((order, index)),
            _ => None,
        });
        flying.min_by_key(|(order, _)| **order).map(|(_, index)| index.clone())
    }

    pub(super) fn home(&self, ring: usize, slot: usize) -> Home {
        Home { ring, slot, returned: self.home.clone(), tenancy: self.tenancy.clone() }
    }

    pub(super) fn buffer(&self, slot: usize) -> &wgpu::Buffer {
        &self.slots[slot].buffer
    }

    /// Whether the slot is one of this ring's, lent, and of at least `bytes`.
    pub(super) fn holds(&self, slot: usize, bytes: u64) -> bool {
        self.of.bytes >= bytes && self.slots.get(slot).is_some_and(|slot| matches!(slot.round, Round::Lent))
    }

    /// Asks for the slot to be mapped once `index`, which uses it, has finished.
    pub(super) fn launch(&mut self, slot: usize, index: SubmissionIndex) {
        let mode = self.of.way.mode();
        self.launches += 1;
        let slot = &mut self.slots[slot];
        slot.mapping.store(mapping::PENDING, Ordering::Release);
        slot.round = Round::Flying { index, order: self.launches };
        let flag = slot.mapping.clone();
        slot.buffer.map_async(mode, .., move |result| {
            flag.store(if result.is_ok() { mapping::DONE } else { mapping::FAILED }, Ordering::Release);
        });
    }

    /// Whether the mapping that [`Ring::launch`] asked for is there; `None` where it failed.
    pub(super) fn landed(&self, slot: usize) -> Option<bool> {
        match self.slots[slot].mapping.load(Ordering::Acquire) {
            mapping::FAILED => None,
            state => Some(state == mapping::DONE),
        }
    }

    /// Hands a landed download slot out.
    pub(super) fn hand_out(&mut self, slot: usize) {
        self.slots[slot].round = Round::Lent;
    }

    /// Makes a slot free that nobody looks at any more.
    pub(super) fn retire(&mut self, slot: usize) {
        let Some(slot) = self.slots.get_mut(slot) else { return };
        if self.of.way != Way::Up {
            slot.buffer.unmap();
        }
        slot.round = Round::Free;
    }
}
