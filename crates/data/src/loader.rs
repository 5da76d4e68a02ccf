//! Batches prepared ahead of time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::JoinHandle;

use crate::{Batch, DataError, Dataset, Epoch};

/// How many batches wait at most, besides the one being prepared.
const DEPTH: usize = 4;

/// The batches of an epoch, in order, prepared by a thread of its own while the caller computes.
///
/// An iterator: after an error it ends. Dropping it stops and joins the thread, which finishes at
/// most the picture at hand.
pub struct Loader {
    /// `None` once the epoch is over or has failed.
    batches: Option<Receiver<Result<Batch, DataError>>>,
    /// Batches on their way back, whose memory is used again.
    used: Sender<Batch>,
    /// Tells the thread to leave the batch that it is working on.
    stop: Arc<AtomicBool>,
    /// Batches still to come: tells an early end from the end of the epoch.
    left: usize,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Prepares the batches of `epoch` from batch `first` on; nothing comes where `first` is past the last.
    ///
    /// # Errors
    /// [`DataError::Index`] where the epoch is longer than the data set, [`DataError::Loader`]
    /// where no thread can be started.
    pub fn start(dataset: &Dataset, epoch: Epoch, first: usize) -> Result<Self, DataError> {
        if let Some(index) = epoch.order().iter().map(|&i| i as usize).find(|&i| i >= dataset.len()) {
            return Err(DataError::Index { index, count: dataset.len() });
        }
        let left = epoch.batches().saturating_sub(first);
        let (ready, batches) = sync_channel(DEPTH);
        let (used, returned) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { dataset: dataset.clone(), epoch, first, returned, stop: Arc::clone(&stop) };
        let thread = std::thread::Builder::new().name("brigade-loader".to_owned());
        let thread = thread.spawn(move || work.run(&ready));
        let thread = thread.map_err(|cause| DataError::Loader { cause: cause.to_string() })?;
        Ok(Self { batches: Some(batches), used, stop, left, thread: Some(thread) })
    }

    /// Gives a batch that is done with back, so that the next one need not allocate.
    pub fn recycle(&self, batch: Batch) {
        let _ = self.used.send(batch); // the thread may have finished: then the memory is simply freed
    }

    /// Number of batches still to come.
    pub fn remaining(&self) -> usize {
        self.left
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batches = self.batches.as_ref()?;
        if self.left == 0 {
            self.batches = None;
            return None;
        }
        let next = batches
            .recv()
            .unwrap_or_else(|_| Err(DataError::Loader { cause: "it ended before the epoch did".to_owned() }));
        self.left -= 1;
        if next.is_err() {
            self.left = 0;
            self.batches = None;
        }
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1), Some(self.left))
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.batches = None; // whoever waits to send wakes up
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // its panics are caught inside
        }
    }
}

/// What the thread owns.
struct Work {
    dataset: Dataset,
    epoch: Epoch,
    first: usize,
    returned: Receiver<Batch>,
    stop: Arc<AtomicBool>,
}

impl Work {
    fn run(self, ready: &SyncSender<Result<Batch, DataError>>) {
        for index in self.first..self.epoch.batches() {
            let batch = catch_unwind(AssertUnwindSafe(|| self.prepare(index)));
            let batch = batch.unwrap_or_else(|panic| Err(DataError::Loader { cause: message(panic.as_ref()) }));
            let failed = batch.is_err();
            if self.stop.load(Ordering::Relaxed) || ready.send(batch).is_err() || failed {
                return;
            }
        }
    }

    fn prepare(&self, index: usize) -> Result<Batch, DataError> {
        let samples = self.epoch.batch(index).unwrap_or_default();
        let mut batch = self.returned.try_recv().unwrap_or_default();
        self.dataset.fill(samples, &mut batch, &self.stop)?;
        Ok(batch)
    }
}

/// What a panic said.
pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::dataset::{About, Report};
    use crate::source::Source;
    use crate::{Sampler, Shape};

    /// Sample i is a picture of one byte and label 0; some are slow, one fails, one panics.
    struct Trouble {
        count: usize,
        delay: Duration,
        fails: Option<usize>,
        panics: Option<usize>,
        armed: Arc<AtomicBool>,
    }

    impl Source for Trouble {
        fn len(&self) -> usize {
            self.count
        }

        fn read(&self, index: usize, pixels: &mut [u8]) -> Result<u32, DataError> {
            pixels[0] = index as u8;
            if !self.armed.load(Ordering::Relaxed) {
                return Ok(0);
            }
            std::thread::sleep(self.delay);
            assert_ne!(Some(index), self.panics, "sample {index} panics");
            if Some(index) == self.fails {
                return Err(DataError::Index { index, count: 0 });
            }
            Ok(0)
        }
    }

    /// A training split of `source`, which behaves while it is measured and not thereafter.
    fn dataset(source: Trouble) -> Dataset {
        let armed = Arc::clone(&source.armed);
        let shape = Shape::new(1, 1, 1).unwrap();
        let about = About { name: "trouble".into(), shape, class_names: vec!["0".into()], report: Report::default() };
        let source = Arc::new(source);
        let (train, _) = Dataset::pair(about, source.clone(), source).unwrap();
        armed.store(true, Ordering::Relaxed);
        train
    }

    fn trouble(count: usize) -> Trouble {
        Trouble { count, delay: Duration::ZERO, fails: None, panics: None, armed: Arc::default() }
    }

    #[test]
    fn a_failing_sample_ends_the_epoch_with_its_error() {
        let train = dataset(Trouble { fails: Some(5), ..trouble(20) });
        let epoch = Sampler::new(20, 2).unwrap().epoch(0);
        let found: Vec<_> = Loader::start(&train, epoch, 0).unwrap().collect();
        assert_eq!(found.len(), 3);
        assert!(matches!(found[2], Err(DataError::Index { index: 5, .. })));
    }

    #[test]
    fn a_panic_comes_out_as_an_error_that_carries_its_message() {
        let train = dataset(Trouble { panics: Some(3), ..trouble(20) });
        let epoch = Sampler::new(20, 2).unwrap().epoch(0);
        let found: Vec<_> = Loader::start(&train, epoch, 0).unwrap().collect();
        assert_eq!(found.len(), 2);
        assert!(found[1].as_ref().unwrap_err().to_string().contains("sample 3 panics"));
    }

    #[test]
    fn dropping_stops_in_the_middle_of_a_batch() {
        let train = dataset(Trouble { delay: Duration::from_millis(20), ..trouble(10_000) });
        let epoch = Sampler::new(10_000, 10_000).unwrap().epoch(0);
        let loader = Loader::start(&train, epoch, 0).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        let start = Instant::now();
        drop(loader);
        assert!(start.elapsed() < Duration::from_secs(2)); // the whole batch would take 200 s
    }

    #[test]
    fn dropping_wakes_a_thread_that_waits_to_send() {
        let train = dataset(trouble(1_000));
        let mut loader = Loader::start(&train, Sampler::new(1_000, 1).unwrap().epoch(0), 0).unwrap();
        assert!(loader.next().is_some());
        std::thread::sleep(Duration::from_millis(20));
        drop(loader);
    }

    #[test]
    fn an_epoch_longer_than_the_data_set_is_refused() {
        let epoch = Sampler::new(21, 2).unwrap().epoch(0);
        assert!(matches!(Loader::start(&dataset(trouble(20)), epoch, 0), Err(DataError::Index { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn each_sample_comes_once_and_in_order(count in 1usize..200, batch in 1usize..50, first in 0usize..30, seed: u64) {
            let train = dataset(trouble(count));
            let epoch = Sampler::new(count, batch).unwrap().shuffled(seed).epoch(1);
            let wanted: Vec<u32> = epoch.order().iter().skip(first * batch).copied().collect();
            let mut loader = Loader::start(&train, epoch, first).unwrap();
            let mut seen = Vec::new();
            while let Some(next) = loader.next() {
                let next = next.unwrap();
                prop_assert_eq!(&train.batch(&next.indices).unwrap(), &next);
                seen.extend_from_slice(&next.indices);
                loader.recycle(next);
            }
            prop_assert_eq!(seen, wanted);
            prop_assert_eq!(loader.remaining(), 0);
        }
    }
}
