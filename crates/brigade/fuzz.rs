//! The entrance of the fuzz target: whatever the bytes are, it returns.

use std::path::Path;

use crate::{Settings, Words};

/// Reads a run file and decides every word.
pub fn run_file(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(words) = Words::parse(Path::new("run.toml"), text) {
        let _ = Settings::from_words(words);
    }
}
