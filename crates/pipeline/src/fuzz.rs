//! The entrances of the fuzz targets: whatever the bytes are, these return.

use std::path::Path;

use crate::checkpoint::{parse_manifest, read_bytes};
use crate::model::Sequential;

/// Reads a manifest, and takes its model.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(manifest) = parse_manifest(Path::new("manifest.json"), text) {
        let _ = Sequential::new(&manifest.model);
    }
}

/// Reads a safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let _ = read_bytes(bytes);
}
