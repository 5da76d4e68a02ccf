//! Where instances and devices are made and let go of: one after another, with the environment that drivers read
//! meanwhile.

use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, PoisonError};

/// llvmpipe's number of threads, read as its instance is made.
const LLVMPIPE_THREADS: &str = "LP_NUM_THREADS";

/// Switches Mesa's device-select layer off. It changes only the order of the list, which Brigade does not look at,
/// and complains on standard error where there is no desktop.
const NO_DEVICE_SELECT: &str = "NODEVICE_SELECT";

/// The user's own word to that layer; then it is left on.
const DEVICE_SELECT: &str = "MESA_VK_DEVICE_SELECT";

/// Runs `open` while nobody else opens anything or lets go of it: some drivers cannot do these at once. `threads` is for
/// llvmpipe.
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

/// A hold on a device and its instance. Whoever keeps anything of a device keeps one of these too, and lets go of it after
/// everything else: with the last one the device goes, behind the door. NVIDIA's driver crashes where one thread destroys an
/// instance while another creates or destroys one, and the stages of a pipeline end together.
#[derive(Debug, Clone)]
pub(crate) struct Tenancy(#[expect(dead_code, reason = "held for its end alone")] Arc<Tenant>);

#[derive(Debug)]
struct Tenant {
    device: Option<wgpu::Device>,
    queue: Option<wgpu::Queue>,
}

impl Tenancy {
    pub(crate) fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Self {
        Self(Arc::new(Tenant { device: Some(device.clone()), queue: Some(queue.clone()) }))
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        // The queue waits for what the device still computes; nobody else has to wait for that.
        drop(self.queue.take());
        let device = self.device.take();
        alone(None, || drop(device));
    }
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
