//! What goes to standard output, of which a reader that has gone away is no error, and to standard error, whatever
//! becomes of it.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use brigade::{Failure, Status};
use serde::Serialize;

/// Prints a line.
pub(crate) fn line(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.as_ref()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(Status::Storage, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Tells a line on standard error. A run does not end because nobody can read how it goes: that may be a pipe that is
/// closed, or a file on a full disk.
pub(crate) fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints one JSON document.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    line(text.map_err(|error| Failure::new(Status::Internal, format!("JSON: {error}")))?)
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..10_240 => format!("{count} B"),
        10_240..10_485_760 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}
