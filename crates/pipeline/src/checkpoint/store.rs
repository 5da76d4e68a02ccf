//! The directory of checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::files::{Values, read_tensors, refuse_all_but_files, text_of_manifest, write_synced, write_tensors};
use super::lock::Lock;
use super::{CheckpointError, Manifest, disk, retention};
use crate::model::Sequential;
use crate::{Carried, NamedTensor};

const MANIFEST: &str = "manifest.json";
const WEIGHTS: &str = "weights.safetensors";
const MOMENTUM: &str = "momentum.safetensors";
/// What policy and corrections carry, as `conv1.weight.drift`; there where something is carried.
const CARRIED: &str = "carried.safetensors";
const PARTIAL: &str = ".partial";
const REPLACED: &str = ".replaced";

/// A directory that checkpoints are published in, by this process alone.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    keep: Option<usize>,
    _lock: Lock,
}

impl Store {
    /// Opens the directory, made where it is not there, makes sure that files can be written in it, and clears away what
    /// a save that was cut off has left.
    ///
    /// # Errors
    /// Where it cannot be made or written, or another run publishes there.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        disk::create_folders(directory).map_err(CheckpointError::io("making", directory))?;
        let probe = directory.join(".probe");
        write_synced(&probe, b"")?;
        fs::remove_file(&probe).map_err(CheckpointError::io("removing", &probe))?;
        let lock = Lock::take(directory)?;
        tidy(directory)?;
        Ok(Self { directory: directory.to_owned(), keep: None, _lock: lock })
    }

    /// Keeps the last `keep` checkpoints and the most accurate one; all, where it is not said.
    #[must_use]
    pub fn keeping(mut self, keep: Option<usize>) -> Self {
        self.keep = keep;
        self
    }

    /// Where the checkpoints are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes that may still be written there, where the system knows.
    pub fn free_bytes(&self) -> Option<u64> {
        disk::free_bytes(&self.directory)
    }

    /// How many checkpoints there are.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn count(&self) -> Result<usize, CheckpointError> {
        Ok(folders(&self.directory)?.len())
    }

    /// Publishes a checkpoint and returns its folder. All files are written and synced in a folder beside, which
    /// then takes its name; until then nothing of it can be seen.
    ///
    /// # Errors
    /// Where a file cannot be written, synced or renamed.
    pub fn save(&self, manifest: &Manifest, tensors: &[NamedTensor]) -> Result<PathBuf, CheckpointError> {
        let name = format!("step-{:08}", manifest.position.step);
        let (partial, path) = (self.directory.join(format!(".{name}{PARTIAL}")), self.directory.join(&name));
        self.publish(&partial, &path, manifest, tensors).inspect_err(|_| {
            // Best effort: the error that is told is the one of the save.
            let _ = remove_folder(&partial);
        })?;
        disk::published(&path);
        if let Some(keep) = self.keep {
            retention::prune(&self.directory, keep)?;
        }
        Ok(path)
    }

    fn publish(
        &self,
        partial: &Path,
        path: &Path,
        manifest: &Manifest,
        tensors: &[NamedTensor],
    ) -> Result<(), CheckpointError> {
        remove_folder(partial)?;
        disk::create_folder(partial).map_err(CheckpointError::io("making", partial))?;
        self.write_into(partial, manifest, tensors)?;
        sync_folder(partial)?;
        let replaced = set_aside(path)?;
        disk::rename("storage.publish", partial, path).map_err(CheckpointError::io("publishing", path))?;
        sync_folder(&self.directory)?;
        replaced.map_or(Ok(()), |old| remove_folder(&old))
    }

    fn write_into(&self, folder: &Path, manifest: &Manifest, tensors: &[NamedTensor]) -> Result<(), CheckpointError> {
        let of = |values: fn(&NamedTensor) -> &Vec<f32>| -> BTreeMap<String, Values> {
            tensors.iter().map(|tensor| (tensor.name.clone(), (tensor.dims.clone(), values(tensor).clone()))).collect()
        };
        let mut manifest = manifest.clone();
        let carried = carried(tensors);
        let carried = (!carried.is_empty()).then_some((CARRIED, carried));
        let files = [(WEIGHTS, of(|tensor| &tensor.weights)), (MOMENTUM, of(|tensor| &tensor.momentum))];
        for (file, values) in files.into_iter().chain(carried) {
            write_tensors(&folder.join(file), &values)?;
            manifest.checksums.insert(file.to_owned(), checksums(&values));
        }
        let path = folder.join(MANIFEST);
        let text = serde_json::to_string_pretty(&manifest)
            .map_err(|error| CheckpointError::Invalid { path: path.clone(), reason: error.to_string() })?;
        write_synced(&path, text.as_bytes())
    }
}

/// What is carried from step to step, by parameter and word.
fn carried(tensors: &[NamedTensor]) -> BTreeMap<String, Values> {
    let of = |tensor: &NamedTensor| -> Vec<(String, Values)> {
        let NamedTensor { name, dims, carried, .. } = tensor;
        let named = |(what, values): (&Carried, &Vec<f32>)| (carried_name(name, *what), (dims.clone(), values.clone()));
        carried.iter().map(named).collect()
    };
    tensors.iter().flat_map(of).collect()
}

fn carried_name(parameter: &str, what: Carried) -> String {
    format!("{parameter}.{}", what.word())
}

fn checksums(tensors: &BTreeMap<String, Values>) -> BTreeMap<String, u32> {
    tensors.iter().map(|(name, (_, values))| (name.clone(), crc32fast::hash(bytemuck::cast_slice(values)))).collect()
}

pub(super) fn remove_folder(path: &Path) -> Result<(), CheckpointError> {
    match disk::remove_folder(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CheckpointError::io("removing", path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    disk::sync_folder(path).map_err(CheckpointError::io("syncing", path))
}

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
        Self::open_newest(path)
    }

    /// The newest checkpoint of a directory that verifies; those that do not are named in warnings.
    fn open_newest(directory: &Path) -> Result<Self, CheckpointError> {
        let missing = || CheckpointError::Missing { path: directory.to_owned() };
        let folders = folders(directory)?;
        let mut first_error = None;
        for folder in folders.iter().rev() {
            match Self::open_folder(folder) {
                Ok(checkpoint) => {
                    if first_error.is_some() {
                        warn_of_steps_lost(&folders, folder);
                    }
                    return Ok(checkpoint);
                }
                Err(error) => {
                    tracing::warn!("{error}; trying the checkpoint before it");
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(missing))
    }

    fn open_folder(folder: &Path) -> Result<Self, CheckpointError> {
        let manifest = manifest_of(folder)?;
        let weights = verified(folder, WEIGHTS, &manifest)?;
        let momentum = verified(folder, MOMENTUM, &manifest)?;
        let carried = manifest.checksums.contains_key(CARRIED).then(|| verified(folder, CARRIED, &manifest));
        let carried = carried.transpose()?.unwrap_or_default();
        Ok(Self { path: folder.to_owned(), manifest: Some(manifest), weights, momentum, carried })
    }

    /// The tensors for `model`, in the order of its layers. Momentum that was not saved is zero.
    ///
    /// # Errors
    /// Names the first five tensors that are missing, too many, or of other sides.
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
        Ok(wanted.into_iter().map(|(name, dims)| self.tensor(name, dims)).collect())
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

/// The checkpoints of a directory, the newest last; none where there is no directory.
pub(super) fn folders(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let mut folders = entries(directory)?;
    folders.retain(|path| is_step(path));
    folders.sort_by_key(|folder| (written(folder), step_of(folder)));
    Ok(folders)
}

/// Puts in order what a save that was cut off has left: what it had not published goes, and a checkpoint that it had set
/// aside for one of the same step comes back.
fn tidy(directory: &Path) -> Result<(), CheckpointError> {
    for path in entries(directory)?.into_iter().filter(|path| is_real_folder(path)) {
        let name = name_of(&path).into_owned();
        let Some(name) = name.strip_prefix('.').filter(|name| name.starts_with("step-")) else { continue };
        match name.strip_suffix(REPLACED).map(|step| directory.join(step)) {
            Some(place) if !place.exists() => {
                disk::rename("storage.put-back", &path, &place).map_err(CheckpointError::io("putting back", &place))?;
            }
            Some(_) => remove_folder(&path)?,
            None if name.ends_with(PARTIAL) => remove_folder(&path)?,
            None => {}
        }
    }
    Ok(())
}

/// Moves a checkpoint that another of the same step is to replace out of its place, and says where it is.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let aside = path.with_file_name(format!(".{}{REPLACED}", name_of(path)));
    remove_folder(&aside)?;
    match disk::rename("storage.set-aside", path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CheckpointError::io("setting aside", path)(error)),
    }
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(CheckpointError::io("reading", directory)(error)),
        Ok(entries) => Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect()),
    }
}

/// The manifest of a checkpoint, which names no file outside of its folder.
pub(super) fn manifest_of(folder: &Path) -> Result<Manifest, CheckpointError> {
    let path = folder.join(MANIFEST);
    refuse_all_but_files(&path)?;
    let text = text_of_manifest(&path)?;
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

/// Whether every tensor of a checkpoint is as it was written.
pub(super) fn verifies(folder: &Path) -> Result<(), CheckpointError> {
    Checkpoint::open_folder(folder).map(|_| ())
}

/// Says what it costs that `used` is not the newest of `folders`.
fn warn_of_steps_lost(folders: &[PathBuf], used: &Path) {
    if let (Some(newest), Some(used)) = (folders.last().and_then(|path| step_of(path)), step_of(used)) {
        tracing::warn!("{} steps must be trained again", newest.saturating_sub(used));
    }
}

/// When a checkpoint was published. In a directory that several runs have used, the newest is the last run's, whatever
/// steps the others came to.
fn written(folder: &Path) -> Option<std::time::SystemTime> {
    fs::metadata(folder.join(MANIFEST)).and_then(|found| found.modified()).ok()
}

fn step_of(folder: &Path) -> Option<usize> {
    name_of(folder).strip_prefix("step-")?.parse().ok()
}

fn is_step(path: &Path) -> bool {
    is_real_folder(path) && name_of(path).starts_with("step-")
}

fn is_real_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn name_of(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

pub(crate) fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, CheckpointError> {
    let invalid = |reason: String| CheckpointError::Invalid { path: path.to_owned(), reason };
    let format = serde_json::from_str::<serde_json::Value>(text)
        .map_err(|error| invalid(format!("is no manifest: {error}")))?["format"]
        .as_u64();
    match format {
        Some(found) if found == u64::from(Manifest::FORMAT) => {}
        Some(found) => {
            return Err(invalid(format!("has format {found}, and this version reads format {}", Manifest::FORMAT)));
        }
        None => return Err(invalid("has no field `format`".into())),
    }
    serde_json::from_str(text).map_err(|error| invalid(format!("is no manifest: {error}")))
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
