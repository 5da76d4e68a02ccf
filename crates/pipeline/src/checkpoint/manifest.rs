//! What a checkpoint says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::files::{refuse_all_but_files, text_of_manifest};
use super::folder::{CARRIED, MANIFEST, MOMENTUM, WEIGHTS};
use crate::model::ModelSpec;
use crate::train::Position;

/// The highest serial number that is read: no run publishes so often.
const HIGHEST_SERIAL: u64 = 1 << 53;
/// The highest that a run counts on from: however many it publishes, each of its numbers can be read.
pub(super) const LAST_TO_COUNT_FROM: u64 = HIGHEST_SERIAL / 2;

/// What the last line of a manifest begins with: the CRC-32 of all the text before it.
const LAST_LINE: &str = ",\n  \"checksum\": ";
/// The oldest format that has that line.
const OLDEST_WITH_CHECKSUM: u32 = 3;

/// The manifest of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// Which checkpoint of its directory it is, in the order in which they were published: one more than the highest
    /// there. Those of format 1 have none, and came before all that have one.
    #[serde(default)]
    pub serial: u64,
    /// The model, layer by layer.
    pub model: ModelSpec,
    /// Where in the run it was made.
    pub position: Position,
    /// Seed of weights, dropout and the order of the data.
    pub seed: u64,
    /// Samples of a step.
    pub batch: usize,
    /// Test accuracy at these weights, 0 to 1, where it was measured.
    pub test_accuracy: Option<f64>,
    /// Fingerprint of the training data.
    pub data_fingerprint: Option<u32>,
    /// What was subtracted from each channel, and what it was divided by.
    pub normalisation: Vec<(f32, f32)>,
    /// CRC-32 of each tensor's bytes, by file and tensor.
    #[serde(default)]
    pub checksums: BTreeMap<String, BTreeMap<String, u32>>,
    /// CRC-32 of the manifest's own text up to here, added where it is written. Formats 1 and 2 have none.
    #[serde(default, skip_serializing)]
    pub checksum: Option<u32>,
}

impl Manifest {
    /// The version that this code writes.
    pub const FORMAT: u32 = 3;
    /// The oldest version that this code reads.
    pub const OLDEST_FORMAT: u32 = 1;

    /// A manifest without serial number, position and checksums.
    pub fn new(model: ModelSpec, seed: u64, batch: usize) -> Self {
        Self {
            format: Self::FORMAT,
            serial: 0,
            model,
            position: Position::default(),
            seed,
            batch,
            test_accuracy: None,
            data_fingerprint: None,
            normalisation: Vec::new(),
            checksums: BTreeMap::new(),
            checksum: None,
        }
    }
}

/// What is asked of a manifest before the rest is read, whatever its format.
#[derive(Deserialize)]
struct Head {
    format: Option<u64>,
    serial: Option<u64>,
    checksum: Option<u32>,
}

/// The text of a manifest, the checksum of its own at the end.
pub(super) fn written(manifest: &Manifest) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(manifest)?;
    let fields = text.strip_suffix("\n}").unwrap_or(&text);
    Ok(format!("{fields}{LAST_LINE}{}\n}}", crc32fast::hash(fields.as_bytes())))
}

/// The manifest of a checkpoint, which names no file outside of its folder.
pub(super) fn manifest_of(folder: &Path) -> Result<Manifest, CheckpointError> {
    let path = folder.join(MANIFEST);
    let text = text_of(&path)?;
    check_text(&path, &text)?;
    let manifest = parse_manifest(&path, &text)?;
    match manifest.checksums.keys().find(|file| ![WEIGHTS, MOMENTUM, CARRIED].contains(&file.as_str())) {
        Some(file) => {
            let reason = format!(
                "names a file `{file}`; a checkpoint has {WEIGHTS}, {MOMENTUM} and {CARRIED}, in its own folder"
            );
            Err(CheckpointError::Invalid { path, reason })
        }
        None => Ok(manifest),
    }
}

/// The serial number of a checkpoint, whatever else its manifest says.
pub(super) fn serial_of(folder: &Path) -> Result<u64, CheckpointError> {
    let path = folder.join(MANIFEST);
    let text = text_of(&path)?;
    check_text(&path, &text)?;
    Ok(format_and_serial(&path, &parsed(&path, &text)?)?.1)
}

fn text_of(path: &Path) -> Result<String, CheckpointError> {
    refuse_all_but_files(path)?;
    text_of_manifest(path)
}

/// Whether the text is the one that was written, as far as its format lets one know. Of a newer one nothing is known.
pub(crate) fn check_text(path: &Path, text: &str) -> Result<(), CheckpointError> {
    let head: Head = parsed(path, text)?;
    let format = format_and_serial(path, &head)?.0;
    let fields = text.rsplit_once(LAST_LINE).map_or(text, |(fields, _)| fields);
    let found = crc32fast::hash(fields.as_bytes());
    match head.checksum {
        _ if format > u64::from(Manifest::FORMAT) => Ok(()),
        None if format < u64::from(OLDEST_WITH_CHECKSUM) => Ok(()),
        None => Err(invalid(path, "has no field `checksum`".into())),
        Some(wanted) if wanted == found => Ok(()),
        Some(wanted) => Err(invalid(
            path,
            format!("is damaged: its checksum should be {wanted:08x} and is {found:08x}; use an older checkpoint"),
        )),
    }
}

/// The manifest that a text is, whether or not it is the one that was written.
pub(crate) fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, CheckpointError> {
    let readable = u64::from(Manifest::OLDEST_FORMAT)..=u64::from(Manifest::FORMAT);
    let (found, _) = format_and_serial(path, &parsed(path, text)?)?;
    if !readable.contains(&found) {
        let (oldest, newest) = readable.into_inner();
        return Err(invalid(path, format!("has format {found}, and this version reads formats {oldest} to {newest}")));
    }
    parsed(path, text)
}

fn format_and_serial(path: &Path, head: &Head) -> Result<(u64, u64), CheckpointError> {
    match (head.format, head.serial) {
        (None, _) => Err(invalid(path, "has no field `format`".into())),
        (Some(_), Some(serial)) if serial > HIGHEST_SERIAL => {
            Err(invalid(path, format!("serial: {serial} is more than {HIGHEST_SERIAL}")))
        }
        (Some(format), Some(serial)) => Ok((format, serial)),
        (Some(1), None) => Ok((1, 0)),
        (Some(_), None) => Err(invalid(path, "has no field `serial`".into())),
    }
}

fn parsed<'a, T: Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, CheckpointError> {
    serde_json::from_str(text).map_err(|error| invalid(path, format!("is no manifest: {error}")))
}

fn invalid(path: &Path, reason: String) -> CheckpointError {
    CheckpointError::Invalid { path: path.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Manifest {
        let spec = serde_json::json!({"name": "small", "input": {"c": 1, "h": 2, "w": 2}, "layers": [{"op": "relu"}]});
        let position = Position { step: 3, epoch: 1, batch: 0, samples: 22 };
        let normalisation = vec![(0.182_099_71, 0.207_551_76)];
        Manifest {
            position,
            normalisation,
            test_accuracy: Some(0.1),
            ..Manifest::new(serde_json::from_value(spec).unwrap(), 1, 8)
        }
    }

    fn read(text: &str) -> Result<Manifest, CheckpointError> {
        let path = Path::new(MANIFEST);
        check_text(path, text).and_then(|()| parse_manifest(path, text))
    }

    #[test]
    fn row_02_one_flipped_bit_of_a_manifest_is_found() {
        let text = written(&small()).unwrap();
        read(&text).unwrap();
        for bit in 0..8 * text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = std::str::from_utf8(&bytes).is_ok_and(|text| read(text).is_ok());
            assert!(!found, "bit {bit}: {}", String::from_utf8_lossy(&bytes));
        }
    }
}
