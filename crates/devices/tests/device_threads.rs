//! llvmpipe's threads are set for each opening. Alone in its process, because it counts threads.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade_devices::OpenOptions;
use common::plain;

#[test]
fn device_threads_of_llvmpipe_are_counted_for_each_opening() {
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let one = plain("llvmpipe");
    let with_one = threads() - before;
    let four = common::opened("llvmpipe", &OpenOptions { threads: Some(4), ..OpenOptions::default() });
    let with_four = threads() - before - with_one;
    println!("threads: {with_one} with one, {with_four} with four");
    assert!(with_four >= with_one + 3, "{with_one} threads with one, {with_four} with four");
    assert!(std::env::var_os("LP_NUM_THREADS").is_none());
    drop((one, four));
}
