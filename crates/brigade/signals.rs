//! Ctrl-C and SIGTERM: the first ends the run where it can be gone on from, with a checkpoint; the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use brigade::{Failure, Status};

use crate::output;

/// Which signal has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signals(Arc<AtomicU8>);

const NONE: u8 = 0;

impl Signals {
    /// Listens on a thread of its own until the process ends.
    pub(crate) fn listen() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::new(Status::Internal, format!("signals: {error}"));
        let signals = Self::default();
        let seen = Arc::clone(&signals.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let mut incoming = {
            // From here on no signal is missed, whenever the thread starts.
            let _context = runtime.enter();
            Incoming::new().map_err(failed)?
        };
        let listener = move || {
            runtime.block_on(async {
                while let Some(status) = incoming.next().await {
                    if seen.swap(status as u8, Ordering::Relaxed) != NONE {
                        std::process::exit(i32::from(status as u8));
                    }
                    output::tell("brigade: stopping; again to stop at once");
                }
            });
        };
        std::thread::Builder::new().name("signals".into()).spawn(listener).map_err(failed)?;
        Ok(signals)
    }

    /// The exit status of the signal that has come, if one has.
    pub(crate) fn received(&self) -> Option<Status> {
        match self.0.load(Ordering::Relaxed) {
            NONE => None,
            seen if seen == Status::Terminated as u8 => Some(Status::Terminated),
            _ => Some(Status::Interrupted),
        }
    }
}

/// The signals that are listened to.
#[cfg(unix)]
struct Incoming {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Incoming {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Option<Status> {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Some(Status::Interrupted),
            Some(()) = self.terminate.recv() => Some(Status::Terminated),
            else => None,
        }
    }
}

/// Ctrl-C.
#[cfg(windows)]
struct Incoming(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Incoming {
    fn new() -> std::io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) -> Option<Status> {
        self.0.recv().await.map(|()| Status::Interrupted)
    }
}
