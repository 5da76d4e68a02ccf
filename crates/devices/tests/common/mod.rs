//! What the tests of devices share.

#![allow(dead_code, reason = "each test binary uses a part")]

use brigade_devices::{BufferId, DeviceInfo, Executor, Kind, OpenOptions, Slice, find, list, open};

/// The test adapters; `scripts/setup test` installs their drivers.
pub(crate) const ADAPTERS: [&str; 2] = ["llvmpipe", "swiftshader"];

/// An adapter by a part of its name.
pub(crate) fn adapter(name: &str) -> DeviceInfo {
    let list = list();
    match find(&list, name) {
        Ok(info) => info.clone(),
        Err(error) => panic!("{error}\nrun scripts/setup test"),
    }
}

/// The GPUs of this machine, by name: none on one that has only software adapters.
pub(crate) fn hardware() -> Vec<String> {
    list().into_iter().filter(|info| !info.is_software()).map(|info| info.name).collect()
}

/// Both test adapters, and the GPUs that are here.
pub(crate) fn adapters() -> Vec<String> {
    ADAPTERS.into_iter().map(str::to_owned).chain(hardware()).collect()
}

/// Opens an adapter.
pub(crate) fn opened(name: &str, options: &OpenOptions) -> Box<dyn Executor> {
    open(&adapter(name), options).unwrap()
}

/// Opens an adapter as training does, with one driver thread.
pub(crate) fn plain(name: &str) -> Box<dyn Executor> {
    opened(name, &OpenOptions { threads: Some(1), ..OpenOptions::default() })
}

/// All adapters and the reference.
pub(crate) fn everyone() -> Vec<Box<dyn Executor>> {
    adapters().iter().map(String::as_str).chain(["reference"]).map(plain).collect()
}

/// All adapters.
pub(crate) fn gpus() -> Vec<Box<dyn Executor>> {
    everyone().into_iter().filter(|executor| executor.info().kind != Kind::Reference).collect()
}

/// A slice from the start of a buffer.
pub(crate) fn slice(buffer: BufferId, elements: usize) -> Slice {
    Slice { buffer, start: 0, elements }
}

/// Bytes that tell where they are.
pub(crate) fn pattern(elements: usize, seed: u32) -> Vec<u8> {
    (0..elements as u32).flat_map(|i| (i.wrapping_mul(2_654_435_761) ^ seed).to_le_bytes()).collect()
}
