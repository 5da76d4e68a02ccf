//! Work on a device that somebody watches over: where it says nothing for too long, the device counts as hung.
//!
//! A driver that hangs never gives its thread back. So the work has a thread of its own, which is left alone then, and
//! whoever watches goes on.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::{DeviceError, Kind};

/// Between two looks at the clock.
pub const LOOK: Duration = Duration::from_millis(500);

/// What anything may take besides computing and copying: the machine may be busy with other things.
const ANYTHING: Duration = Duration::from_secs(20);

/// Bytes a second that come from a device or go there at the least: through memory that the host does not cache, over
/// the narrowest bus.
const SLOWEST_TRANSFER: f64 = 2e7;

/// How long computing so many floating-point operations may take on a device of this kind, before anything is known of
/// it. The rates are a tenth of what poor kernels reach: of the reference's loops, of drivers that compute on a few
/// cores, which other stages want as well, and of the smallest GPUs.
pub fn longest_computing(kind: Kind, flops: u64) -> Duration {
    let slowest = match kind {
        Kind::Reference => 3e7,
        Kind::Software => 3e8,
        _ => 5e9,
    };
    ANYTHING + Duration::from_secs_f64(flops as f64 / slowest)
}

/// How long copying so many bytes may take on any device.
pub fn longest_transfer(bytes: u64) -> Duration {
    ANYTHING + Duration::from_secs_f64(bytes as f64 / SLOWEST_TRANSFER)
}

/// How long nothing has been heard. A process that was stopped, or whose machine paused, has heard nothing either, and
/// nothing was wrong: a look at the clock that comes late counts as one that came at twice its time.
#[derive(Debug, Clone, Copy)]
pub struct Silence {
    looked: Instant,
    silent: Duration,
}

impl Silence {
    /// It begins.
    pub fn new(now: Instant) -> Self {
        Self { looked: now, silent: Duration::ZERO }
    }

    /// How long it has lasted, by another look at the clock.
    pub fn look(&mut self, now: Instant) -> Duration {
        self.silent += now.saturating_duration_since(self.looked).min(2 * LOOK);
        self.looked = now;
        self.silent
    }

    /// Something is heard: how long it had lasted.
    pub fn end(&mut self, now: Instant) -> Duration {
        self.look(now);
        std::mem::take(&mut self.silent)
    }
}

/// What a thread is about, and how long it may say nothing else.
#[derive(Debug, Clone)]
struct Doing {
    what: String,
    allowed: Duration,
}

/// Tells whoever watches a thread what is begun there.
#[derive(Clone)]
pub(crate) struct Teller(Arc<dyn Fn(Doing) + Send + Sync>);

impl Teller {
    pub(crate) fn begins(&self, allowed: Duration, what: String) {
        (self.0)(Doing { what, allowed });
    }
}

thread_local! {
    /// Who watches this thread, and what it has begun.
    static WATCHED: RefCell<Option<(Teller, Doing)>> = const { RefCell::new(None) };
}

/// Who watches this thread, if anybody does: for threads that work for it.
pub(crate) fn teller() -> Option<Teller> {
    WATCHED.with_borrow(|watched| watched.as_ref().map(|(teller, _)| teller.clone()))
}

/// This thread begins something that may take so long.
pub(crate) fn begins(allowed: Duration, what: impl FnOnce() -> String) {
    WATCHED.with_borrow_mut(|watched| {
        if let Some((teller, begun)) = watched {
            *begun = Doing { what: what(), allowed };
            (teller.0)(begun.clone());
        }
    });
}

/// Threads that have worked for this one are done, and it goes on with what it had begun.
pub(crate) fn goes_on() {
    WATCHED.with_borrow(|watched| {
        if let Some((teller, begun)) = watched {
            (teller.0)(begun.clone());
        }
    });
}

/// What a watched thread tells.
enum Told<T> {
    Doing(Doing),
    Done(std::thread::Result<T>),
}

/// Work on a thread of its own that is watched.
pub struct Watched<T> {
    device: String,
    doing: Doing,
    told: Receiver<Told<T>>,
    thread: JoinHandle<()>,
}

impl<T: Send + 'static> Watched<T> {
    /// Begins `work` on `device`, which is `what` and may take as long as `allowed`, or until it says that it begins
    /// something else.
    ///
    /// # Errors
    /// Where the system gives no thread.
    pub fn start(
        thread: String,
        device: &str,
        what: &str,
        allowed: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::io::Result<Self> {
        let (tell, told) = channel();
        let doing = Doing { what: what.to_owned(), allowed };
        let begun = doing.clone();
        let body = move || {
            let telling = tell.clone();
            // Where nobody listens any more the thread has been left alone.
            let teller = Teller(Arc::new(move |doing| drop(telling.send(Told::Doing(doing)))));
            WATCHED.set(Some((teller, begun)));
            let done = catch_unwind(AssertUnwindSafe(work));
            WATCHED.set(None);
            let _ = tell.send(Told::Done(done));
        };
        let thread = std::thread::Builder::new().name(thread).spawn(body)?;
        Ok(Self { device: device.to_owned(), doing, told, thread })
    }

    /// What the work gives, or how it panicked.
    ///
    /// # Errors
    /// Where it has said nothing for longer than it may; its thread is left alone.
    pub fn join(mut self) -> Result<std::thread::Result<T>, DeviceError> {
        let mut silence = Silence::new(Instant::now());
        loop {
            match self.told.recv_timeout(LOOK) {
                Ok(Told::Doing(begun)) => {
                    silence.end(Instant::now());
                    self.doing = begun;
                }
                Ok(Told::Done(done)) => {
                    // It has told the last that it has to tell.
                    let _ = self.thread.join();
                    return Ok(done);
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(Err(Box::new("a watched thread has gone"))),
                Err(RecvTimeoutError::Timeout) => {
                    let waited = silence.look(Instant::now());
                    if waited > self.doing.allowed {
                        return Err(DeviceError::Timeout { device: self.device, what: self.doing.what, waited });
                    }
                }
            }
        }
    }

    /// As [`Watched::join`]; a panic goes on here.
    ///
    /// # Errors
    /// As [`Watched::join`].
    pub fn wait(self) -> Result<T, DeviceError> {
        Ok(self.join()?.unwrap_or_else(|panic| resume_unwind(panic)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_the_process_did_not_run_does_not_count() {
        let mut now = Instant::now();
        let mut silence = Silence::new(now);
        for _ in 0..4 {
            now += LOOK;
            silence.look(now);
        }
        assert_eq!(silence.look(now), 4 * LOOK);
        // Stopped for an hour.
        now += Duration::from_secs(3600);
        assert_eq!(silence.look(now), 6 * LOOK);
        now += LOOK;
        assert_eq!((silence.end(now), silence.look(now)), (7 * LOOK, Duration::ZERO));
    }

    #[test]
    fn small_work_may_take_seconds_and_large_work_minutes() {
        // LeNet-5 over 32 samples, and the backward of VGG-F.
        let small = longest_computing(Kind::Software, 100_000_000);
        assert!(small < Duration::from_secs(25), "{small:?}");
        assert!(longest_computing(Kind::Software, 80_000_000_000) > Duration::from_secs(240));
        assert!(longest_transfer(1 << 20) < Duration::from_secs(25));
    }

    #[test]
    fn work_that_goes_on_is_waited_for_and_gives_what_it_gives() {
        let short = 2 * LOOK;
        let work = move || {
            for step in 0..4 {
                begins(short, || format!("step {step}"));
                std::thread::sleep(LOOK);
            }
            7
        };
        let watched = Watched::start("work".into(), "device", "the start", short, work).unwrap();
        assert_eq!(watched.wait().unwrap(), 7);
    }

    #[test]
    fn work_that_hangs_is_left_alone_with_its_name() {
        let (_hold, held) = channel::<()>();
        let work = move || {
            begins(LOOK, || "kernel conv2d/forward".into());
            // What works for it may have more time.
            let teller = teller().unwrap();
            std::thread::scope(|scope| scope.spawn(|| teller.begins(100 * LOOK, "compiling".into())).join().unwrap());
            goes_on();
            let _ = held.recv();
        };
        let watched = Watched::start("work".into(), "device 1", "the start", 100 * LOOK, work).unwrap();
        let error = watched.wait().unwrap_err().to_string();
        assert!(error.contains("device 1: kernel conv2d/forward has not finished"), "{error}");
    }

    #[test]
    fn a_panic_is_given_to_whoever_waits() {
        let work = || std::panic::resume_unwind(Box::new("planted"));
        let watched = Watched::<()>::start("work".into(), "device", "the start", LOOK, work).unwrap();
        let panic = watched.join().unwrap().unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"planted"));
    }
}
