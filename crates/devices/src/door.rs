//! Where instances and devices are made: one after another, with the environment that drivers read meanwhile.

use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, PoisonError};

/// llvmpipe's number of threads, read as its instance is made.
const LLVMPIPE_THREADS: &str = "LP_NUM_THREADS";

/// Switches Mesa's device-select layer off. It changes only the order of the list, which Brigade does not look at,
/// and complains on standard error where there is no desktop.
const NO_DEVICE_SELECT: &str = "NODEVICE_SELECT";

/// The user's own word to that layer; then it is left on.
const DEVICE_SELECT: &str = "MESA_VK_DEVICE_SELECT";

/// Runs `open` while nobody else opens anything: some drivers cannot do it at once. `threads` is for llvmpipe.
pub(crate) fn alone<T>(threads: Option<usize>, open: impl FnOnce() -> T) -> T {
    static DOOR: Mutex<()> = Mutex::new(());
    let guard = DOOR.lock().unwrap_or_else(PoisonError::into_inner);
    let quiet = std::env::var_os(DEVICE_SELECT).is_none().then(|| Variable::set(NO_DEVICE_SELECT, "1"));
    let threads = threads.map(|threads| Variable::set(LLVMPIPE_THREADS, &threads.to_string()));
    let opened = open();
    drop((quiet, threads));
    drop(guard);
    opened
}

/// An environment variable that goes back to what it was.
struct Variable {
    name: &'static str,
    before: Option<OsString>,
}

impl Variable {
    fn set(name: &'static str, value: &str) -> Self {
        let before = std::env::var_os(name);
        put(name, Some(value.as_ref()));
        Self { name, before }
    }
}

impl Drop for Variable {
    fn drop(&mut self) {
        put(self.name, self.before.as_deref());
    }
}

#[allow(unsafe_code, reason = "drivers take these from the environment only")]
fn put(name: &str, value: Option<&OsStr>) {
    match value {
        // SAFETY: Brigade changes the environment here only, under a process-wide lock, and reads it through std,
        // which has a lock of its own. Drivers read it as they are loaded, under that same process-wide lock.
        Some(value) => unsafe { std::env::set_var(name, value) },
        // SAFETY: as above.
        None => unsafe { std::env::remove_var(name) },
    }
}
