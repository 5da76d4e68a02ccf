//! Memory of the host that is counted where it is allocated, as a device's is.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use brigade_devices::{Ledger, Purpose};

/// The host's ledger, shared by all that allocates from it.
#[derive(Debug, Clone, Default)]
pub(super) struct HostMemory(Arc<Mutex<Ledger>>);

/// Some memory of the host; its ledger has it for as long as it lives.
#[derive(Debug)]
pub(super) struct Held<T> {
    values: T,
    purpose: Purpose,
    bytes: u64,
    memory: HostMemory,
}

impl HostMemory {
    /// Takes values into account, for as long as they are held.
    pub(super) fn hold<T: Allocated>(&self, values: T, purpose: Purpose) -> Held<T> {
        let bytes = values.allocated_bytes();
        self.ledger().allocate(purpose, bytes);
        Held { values, purpose, bytes, memory: self.clone() }
    }

    /// What is held at this moment, and was at most.
    pub(super) fn counted(&self) -> Ledger {
        self.ledger().clone()
    }

    /// Counting cannot leave a ledger half changed.
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What knows how much memory it has allocated.
pub(super) trait Allocated {
    /// Bytes that were asked of the allocator, used or not.
    fn allocated_bytes(&self) -> u64;
}

impl<T> Allocated for Vec<T> {
    fn allocated_bytes(&self) -> u64 {
        (self.capacity() * size_of::<T>()) as u64
    }
}

/// Shared values are allocated once.
impl<T: Allocated> Allocated for Arc<T> {
    fn allocated_bytes(&self) -> u64 {
        self.as_ref().allocated_bytes()
    }
}

impl<T: Allocated, const N: usize> Allocated for [T; N] {
    fn allocated_bytes(&self) -> u64 {
        self.iter().map(Allocated::allocated_bytes).sum()
    }
}

impl<T> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.values
    }
}

impl<T> DerefMut for Held<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.values
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        self.memory.ledger().release(self.purpose, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_counted_until_it_is_dropped() {
        let memory = HostMemory::default();
        let weights = memory.hold(Arc::new(vec![0.0f32; 10]), Purpose::Weights);
        let scratch = memory.hold([vec![0.0f64; 3], vec![0.0; 4]], Purpose::Workspace);
        let of = |purpose| memory.counted().bytes(purpose);
        assert_eq!((of(Purpose::Weights), of(Purpose::Workspace)), (40, 56));
        drop(scratch);
        assert_eq!((of(Purpose::Weights), of(Purpose::Workspace)), (40, 0));
        drop(weights);
        assert_eq!((memory.counted().live_bytes(), memory.counted().peak_bytes()), (0, 96));
        // Room that was asked for counts, whether it is used or not.
        assert_eq!(memory.hold(Vec::<f32>::with_capacity(8), Purpose::Gradients).bytes, 32);
    }
}
