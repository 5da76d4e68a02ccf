//! Ctrl-C and SIGTERM: the first ends the run after the step, with a checkpoint; the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use brigade::{Failure, Status};

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
        let listener = move || {
            runtime.block_on(async {
                while let Ok(status) = next().await {
                    if seen.swap(status as u8, Ordering::Relaxed) != NONE {
                        std::process::exit(i32::from(status as u8));
                    }
                    eprintln!("brigade: stopping after this step; again to stop at once");
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

#[cfg(unix)]
async fn next() -> std::io::Result<Status> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(tokio::select! {
        _ = interrupt.recv() => Status::Interrupted,
        _ = terminate.recv() => Status::Terminated,
    })
}

#[cfg(not(unix))]
async fn next() -> std::io::Result<Status> {
    tokio::signal::ctrl_c().await.map(|()| Status::Interrupted)
}
