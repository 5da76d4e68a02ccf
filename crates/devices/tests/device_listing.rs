//! Both test adapters are found, told apart, and opened as often as one likes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade_devices::{DeviceError, Kind, OpenOptions, list, open, unnamed};
use common::{ADAPTERS, adapter, plain};

#[test]
fn device_list_has_both_adapters_and_the_reference() {
    let (llvmpipe, swiftshader) = (adapter("LLVMPIPE"), adapter("swiftshader"));
    assert_eq!((llvmpipe.kind, llvmpipe.vendor_id, llvmpipe.vendor.as_str()), (Kind::Software, 0x10005, "Mesa"));
    assert_eq!((swiftshader.vendor_id, swiftshader.device_id, swiftshader.vendor.as_str()), (0x1AE0, 0xC0DE, "Google"));
    assert_ne!(llvmpipe.identity, swiftshader.identity);
    assert_eq!(adapter("reference").kind, Kind::Reference);
    for info in list() {
        println!("{info}\n  {}", serde_json::to_string(&info).unwrap());
    }
}

#[test]
fn device_list_is_the_same_each_time() {
    assert_eq!(list(), list());
}

#[test]
fn device_software_is_not_chosen_silently() {
    let software: Vec<_> = list().into_iter().filter(|info| info.kind == Kind::Software).collect();
    let error = unnamed(&software).unwrap_err();
    assert!(matches!(error, DeviceError::SoftwareOnly { .. }), "{error}");
    assert!(error.to_string().contains("llvmpipe"), "{error}");
}

#[test]
fn device_opens_several_times_at_once() {
    let handles: Vec<_> =
        (0..4).map(|i| std::thread::spawn(move || plain(ADAPTERS[i % 2]).info().name.clone())).collect();
    let names: Vec<_> = handles.into_iter().map(|handle| handle.join().unwrap()).collect();
    assert_eq!(names[0], names[2]);
    assert_eq!(names[1], names[3]);
}

#[test]
fn device_that_has_gone_is_named() {
    let mut gone = adapter("llvmpipe");
    gone.identity.ordinal = 7;
    let error = open(&gone, &OpenOptions::default()).err().unwrap().to_string();
    assert!(error.contains("llvmpipe") && error.contains("SwiftShader"), "{error}");
}
