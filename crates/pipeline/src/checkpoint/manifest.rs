//! What a checkpoint says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::CheckpointError;
use super::files::{refuse_all_but_files, text_of_manifest};
use super::folder::{CARRIED, MANIFEST, MOMENTUM, WEIGHTS};
use crate::model::ModelSpec;
use crate::train::Position;

/// The highest serial number: no run publishes so often, and the one after it is a number too.
const HIGHEST_SERIAL: u64 = 1 << 53;

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
}

impl Manifest {
    /// The version that this code writes.
    pub const FORMAT: u32 = 2;
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
        }
    }
}

/// What the order of checkpoints needs, in a manifest of whatever format.
#[derive(Deserialize)]
struct Head {
    format: Option<u64>,
    serial: Option<u64>,
}

/// The manifest of a checkpoint, which names no file outside of its folder.
pub(super) fn manifest_of(folder: &Path) -> Result<Manifest, CheckpointError> {
    let path = folder.join(MANIFEST);
    let manifest = parse_manifest(&path, &text_of(&path)?)?;
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
    Ok(format_and_serial(&path, &text_of(&path)?)?.1)
}

fn text_of(path: &Path) -> Result<String, CheckpointError> {
    refuse_all_but_files(path)?;
    text_of_manifest(path)
}

pub(crate) fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, CheckpointError> {
    let readable = u64::from(Manifest::OLDEST_FORMAT)..=u64::from(Manifest::FORMAT);
    let (found, _) = format_and_serial(path, text)?;
    if !readable.contains(&found) {
        let (oldest, newest) = readable.into_inner();
        return Err(invalid(path, format!("has format {found}, and this version reads formats {oldest} to {newest}")));
    }
    parsed(path, text)
}

fn format_and_serial(path: &Path, text: &str) -> Result<(u64, u64), CheckpointError> {
    let head: Head = parsed(path, text)?;
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
