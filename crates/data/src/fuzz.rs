//! The entrances of the fuzz targets: whatever the bytes are, these return.

use std::path::Path;

use crate::{cifar10, idx};

/// Reads an IDX file, plain or packed, as pictures and as labels.
pub fn idx(bytes: &[u8]) {
    for wanted in [idx::IMAGES, idx::LABELS] {
        let _ = idx::read_from(Path::new("idx"), std::io::Cursor::new(bytes), bytes.len() as u64, wanted);
    }
}

/// Reads a CIFAR-10 file.
pub fn cifar10(bytes: &[u8]) {
    let _ = cifar10::records(Path::new("cifar10"), bytes, bytes.len() as u64);
}
