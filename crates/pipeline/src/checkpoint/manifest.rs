//! What a checkpoint says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::ModelSpec;
use crate::train::Position;

/// The manifest of a checkpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
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
    pub const FORMAT: u32 = 1;

    /// A manifest without position and checksums.
    pub fn new(model: ModelSpec, seed: u64, batch: usize) -> Self {
        Self {
            format: Self::FORMAT,
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
