//! The entrances of the fuzz targets: whatever the bytes are, these return.

use std::path::Path;

use crate::checkpoint::{check_text, parse_manifest, read_bytes};
use crate::model::Sequential;

/// Reads a manifest, and takes its model. Hardly any text has the checksum that it names, so none must to be read on.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let path = Path::new("manifest.json");
    let _ = check_text(path, text);
    if let Ok(manifest) = parse_manifest(path, text) {
        let _ = Sequential::new(&manifest.model);
    }
}

/// Reads a safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let _ = read_bytes(bytes);
}
