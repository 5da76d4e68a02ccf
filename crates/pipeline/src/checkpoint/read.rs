//! Checkpoints that are read, and verified before anything of them is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::{Values, checksums, read_tensors, refuse_all_but_files};
use super::folder::{CARRIED, MANIFEST, MOMENTUM, WEIGHTS, carried_name, left_aside, step_of};
use super::manifest::manifest_of;
use super::order::{Listed, listed};
use super::{CheckpointError, Manifest};
use crate::model::Sequential;
use crate::{Carried, NamedTensor};

/// How often a directory is listed at most while a run that publishes there removes what was listed.
const LISTINGS: usize = 32;

/// A checkpoint that has been read and verified, or a file of weights alone.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Where it was read from.
    pub path: PathBuf,
    /// What it says of itself; a file of weights alone has none.
    pub manifest: Option<Manifest>,
    weights: BTreeMap<String, Values>,
    momentum: BTreeMap<String, Values>,
    carried: BTreeMap<String, Values>,
}

impl Checkpoint {
    /// Reads a folder `step-…`, the newest of those in a directory, or a single safetensors file of weights.
    ///
    /// # Errors
    /// Where there is none, or what is there is damaged.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if path.is_file() {
            let weights = read_tensors(path)?;
            let (momentum, carried) = (BTreeMap::new(), BTreeMap::new());
            return Ok(Self { path: path.to_owned(), manifest: None, weights, momentum, carried });
        }
        if path.join(MANIFEST).is_file() {
            return Self::open_folder(path);
        }
        left_aside(path).map_or_else(|| Self::open_newest(path), |aside| Self::open_folder(&aside))
    }

    /// The file that its manifest is in.
    pub fn manifest_path(&self) -> PathBuf {
        self.path.join(MANIFEST)
    }

    /// The newest checkpoint of a directory that verifies; those that do not are named in warnings.
    fn open_newest(directory: &Path) -> Result<Self, CheckpointError> {
        let mut there = listed(directory)?;
        let mut found = Self::newest_of(&there);
        for _ in 1..LISTINGS {
            if matches!(&found, (Some(_), failed) if failed.is_empty()) {
                break;
            }
            // A run that publishes there may have removed what was listed, and there is a newer one then.
            let now = listed(directory)?;
            if now == there {
                break;
            }
            found = Self::newest_of(&now);
            there = now;
        }
        let (newest, failed) = found;
        failed.iter().for_each(|error| tracing::warn!("{error}; trying the checkpoint before it"));
        let Some(newest) = newest else {
            let missing = || CheckpointError::Missing { path: directory.to_owned() };
            return Err(failed.into_iter().next().unwrap_or_else(missing));
        };
        if !failed.is_empty() {
            warn_of_steps_lost(&there, &newest.path);
        }
        warn_of_the_unreadable(&there, &newest.path);
        Ok(newest)
    }

    /// The newest of `there` that verifies, and what is wrong with those that come after it.
    fn newest_of(there: &[Listed]) -> (Option<Self>, Vec<CheckpointError>) {
        let mut failed = Vec::new();
        for one in there.iter().rev() {
            match Self::open_folder(&one.folder) {
                Ok(checkpoint) => return (Some(checkpoint), failed),
                Err(error) => failed.push(error),
            }
        }
        (None, failed)
    }

    fn open_folder(folder: &Path) -> Result<Self, CheckpointError> {
        let manifest = manifest_of(folder)?;
        check_model(folder, &manifest)?;
        let weights = verified(folder, WEIGHTS, &manifest)?;
        let momentum = verified(folder, MOMENTUM, &manifest)?;
        let carried = manifest.checksums.contains_key(CARRIED).then(|| verified(folder, CARRIED, &manifest));
        let carried = carried.transpose()?.unwrap_or_default();
        Ok(Self { path: folder.to_owned(), manifest: Some(manifest), weights, momentum, carried })
    }

    /// Whether every tensor of a checkpoint is as it was written.
    pub(super) fn verify(folder: &Path) -> Result<(), CheckpointError> {
        Self::open_folder(folder).map(|_| ())
    }

    /// The tensors for `model`, in the order of its layers. Momentum that was not saved is zero.
    ///
    /// # Errors
    /// Names the first five tensors that are missing, too many, or of other sides, or one whose weights are no numbers.
    pub fn tensors_for(&self, model: &Sequential) -> Result<Vec<NamedTensor>, CheckpointError> {
        let wanted: Vec<(String, Vec<usize>)> = model
            .layers
            .iter()
            .flat_map(|layer| layer.named_parameters().map(|(name, parameter)| (name, parameter.dims.clone())))
            .collect();
        let mut mismatches: Vec<String> = wanted.iter().filter_map(|(name, dims)| self.mismatch(name, dims)).collect();
        let extra = self.weights.keys().filter(|name| wanted.iter().all(|(wanted, _)| wanted != *name));
        mismatches.extend(extra.map(|name| format!("`{name}` is not in the model")));
        if !mismatches.is_empty() {
            mismatches.truncate(5);
            return Err(CheckpointError::OtherModel { path: self.path.clone(), mismatches });
        }
        self.refuse_not_finite()?;
        Ok(wanted.into_iter().map(|(name, dims)| self.tensor(name, dims)).collect())
    }

    fn refuse_not_finite(&self) -> Result<(), CheckpointError> {
        let broken = self.weights.iter().find(|(_, (_, values))| values.iter().any(|value| !value.is_finite()));
        broken.map_or(Ok(()), |(tensor, _)| {
            Err(CheckpointError::NotFinite { path: self.path.clone(), tensor: tensor.clone() })
        })
    }

    fn mismatch(&self, name: &str, dims: &[usize]) -> Option<String> {
        match self.weights.get(name) {
            None => Some(format!("`{name}` {dims:?} is missing")),
            Some((found, _)) if found != dims => Some(format!("`{name}` should be {dims:?} and is {found:?}")),
            Some(_) => None,
        }
    }

    fn tensor(&self, name: String, dims: Vec<usize>) -> NamedTensor {
        let values = |of: &BTreeMap<String, Values>, name: &str| of.get(name).map(|(_, values)| values.clone());
        let weights = values(&self.weights, &name).unwrap_or_default();
        let as_many = |values: &Vec<f32>| values.len() == weights.len();
        let momentum = values(&self.momentum, &name).filter(as_many).unwrap_or_else(|| vec![0.0; weights.len()]);
        let carried = |what| Some((what, values(&self.carried, &carried_name(&name, what)).filter(as_many)?));
        let carried = Carried::ALL.into_iter().filter_map(carried).collect();
        NamedTensor { name, dims, weights, momentum, carried }
    }
}

/// Whether the layers of a manifest's model fit together.
fn check_model(folder: &Path, manifest: &Manifest) -> Result<(), CheckpointError> {
    let cannot_be = |error| CheckpointError::Invalid {
        path: folder.join(MANIFEST),
        reason: format!("its model cannot be: {error}"),
    };
    Sequential::new(&manifest.model).map(|_| ()).map_err(cannot_be)
}

/// Says what it costs that `used` is not the newest of those that are `there`.
fn warn_of_steps_lost(there: &[Listed], used: &Path) {
    if let (Some(newest), Some(used)) = (there.last().and_then(|one| one.step), step_of(used)) {
        tracing::warn!("{} steps must be trained again", newest.saturating_sub(used));
    }
}

/// Names those before `used` that have lost their manifest: when they were published cannot be known any more.
fn warn_of_the_unreadable(there: &[Listed], used: &Path) {
    let before = there.iter().take_while(|one| one.folder != used);
    let unreadable = before.filter(|one| one.serial.is_none()).filter_map(|one| manifest_of(&one.folder).err());
    unreadable.for_each(|error| tracing::warn!("{error}; this checkpoint is passed over"));
}

/// Reads one file of a checkpoint and holds every tensor against its checksum.
fn verified(folder: &Path, file: &str, manifest: &Manifest) -> Result<BTreeMap<String, Values>, CheckpointError> {
    let path = folder.join(file);
    refuse_all_but_files(&path)?;
    let tensors = read_tensors(&path)?;
    let found = checksums(&tensors);
    let wanted = manifest.checksums.get(file).cloned().unwrap_or_default();
    if found.keys().ne(wanted.keys()) {
        let reason = format!("holds {} tensors, and the manifest lists {}", found.len(), wanted.len());
        return Err(CheckpointError::Invalid { path, reason });
    }
    for (tensor, &found) in &found {
        let wanted = wanted.get(tensor).copied().unwrap_or(0);
        if found != wanted {
            return Err(CheckpointError::Damaged { path, tensor: tensor.clone(), wanted, found });
        }
    }
    Ok(tensors)
}
