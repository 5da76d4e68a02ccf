//! The directory of checkpoints.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::destination::whole;
use super::files::{Values, checksums, write_file, write_tensors};
use super::folder::{self, CARRIED, Kind, MANIFEST, MOMENTUM, WEIGHTS, carried_name, kind_of};
use super::lock::{self, Lock};
use super::manifest::written;
use super::{CheckpointError, Manifest, disk, order, retention};
use crate::{Carried, NamedTensor};

/// Made and removed to try whether files can be.
const PROBE: &str = ".probe";

/// A directory that checkpoints are published in, by this process alone.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    keep: Option<usize>,
    /// The highest serial number so far. Nobody else publishes here, so it is looked up once.
    last_serial: Arc<AtomicU64>,
    _lock: Lock,
}

impl Store {
    /// Opens the directory, made where it is not there, makes sure that files can be written in it, and clears away what
    /// a save that was cut off has left.
    ///
    /// # Errors
    /// Where it cannot be made or written, is a checkpoint itself, or another run publishes there.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        refuse_checkpoint(directory)?;
        disk::create_folders(directory).map_err(CheckpointError::io("making", directory))?;
        // Before anything else is touched: two runs that try the directory at once would take each other's files away.
        let lock = Lock::take(directory)?;
        try_to_write(directory)?;
        tidy(directory)?;
        let last_serial = Arc::new(AtomicU64::new(order::highest_serial(directory)?));
        Ok(Self { directory: directory.to_owned(), keep: None, last_serial, _lock: lock })
    }

    /// Keeps the last `keep` checkpoints and the most accurate one; all, where it is not said.
    #[must_use]
    pub fn keeping(mut self, keep: Option<usize>) -> Self {
        self.keep = keep;
        self
    }

    /// Whether a store in `directory` may put something of its own in the place of `file`, as [`crate::files_written`] names it.
    pub fn would_own(directory: &Path, file: &Path) -> bool {
        let within = file.strip_prefix(whole(directory)).ok();
        let first = within.and_then(|within| within.iter().next()).map(Path::new);
        first.is_some_and(|name| [lock::NAME, PROBE].map(Path::new).contains(&name) || folder::is_ours(name))
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
        Ok(folder::checkpoints(&self.directory)?.len())
    }

    /// Publishes a checkpoint and returns its folder. All files are written and synced in a folder beside, which
    /// then takes its name; until then nothing of it can be seen.
    ///
    /// # Errors
    /// Where a file cannot be written, synced or renamed.
    pub fn save(&self, manifest: &Manifest, tensors: &[NamedTensor]) -> Result<PathBuf, CheckpointError> {
        let serial = self.last_serial.fetch_add(1, Ordering::Relaxed) + 1;
        let manifest = Manifest { serial, ..manifest.clone() };
        let path = folder::of_step(&self.directory, manifest.position.step);
        let partial = folder::partial(&path);
        self.publish(&partial, &path, manifest, tensors).inspect_err(|_| {
            // Best effort: the error that is told is the one of the save.
            let _ = remove_folder(&partial);
        })?;
        disk::published(&path);
        if let Some(keep) = self.keep {
            retention::prune(&self.directory, keep, &path)?;
        }
        Ok(path)
    }

    fn publish(
        &self,
        partial: &Path,
        path: &Path,
        manifest: Manifest,
        tensors: &[NamedTensor],
    ) -> Result<(), CheckpointError> {
        remove_folder(partial)?;
        disk::create_folder(partial).map_err(CheckpointError::io("making", partial))?;
        write_into(partial, manifest, tensors)?;
        sync_folder(partial)?;
        let replaced = set_aside(path)?;
        disk::rename("storage.publish", partial, path).map_err(CheckpointError::io("publishing", path)).inspect_err(
            |_| {
                // Best effort: where it stays aside, it is found there.
                let _ = replaced.as_deref().map(|aside| put_back(aside, path));
            },
        )?;
        sync_folder(&self.directory)?;
        replaced.map_or(Ok(()), |old| remove_folder(&old))
    }
}

/// A checkpoint within another would not be found beside the others, and would go with the one that it is in.
fn refuse_checkpoint(directory: &Path) -> Result<(), CheckpointError> {
    let place = whole(directory);
    match place.parent() {
        Some(parent) if folder::is_checkpoint(&place) => {
            Err(CheckpointError::Nested { path: directory.to_owned(), directory: parent.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Whether files can be written in a directory.
fn try_to_write(directory: &Path) -> Result<(), CheckpointError> {
    let probe = directory.join(PROBE);
    disk::write(&probe, b"").map_err(CheckpointError::io("writing", &probe))?;
    fs::remove_file(&probe).map_err(CheckpointError::io("removing", &probe))
}

fn write_into(folder: &Path, mut manifest: Manifest, tensors: &[NamedTensor]) -> Result<(), CheckpointError> {
    let of = |values: fn(&NamedTensor) -> &Vec<f32>| -> BTreeMap<String, Values> {
        tensors.iter().map(|tensor| (tensor.name.clone(), (tensor.dims.clone(), values(tensor).clone()))).collect()
    };
    let carried = carried(tensors);
    let carried = (!carried.is_empty()).then_some((CARRIED, carried));
    let files = [(WEIGHTS, of(|tensor| &tensor.weights)), (MOMENTUM, of(|tensor| &tensor.momentum))];
    for (file, values) in files.into_iter().chain(carried) {
        write_tensors(&folder.join(file), &values)?;
        manifest.checksums.insert(file.to_owned(), checksums(&values));
    }
    let path = folder.join(MANIFEST);
    let text = written(&manifest)
        .map_err(|error| CheckpointError::Invalid { path: path.clone(), reason: error.to_string() })?;
    write_file(&path, text.as_bytes())
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

/// Puts in order what a save that was cut off has left: what it had not published goes, and a checkpoint that it had set
/// aside for one of the same step comes back.
fn tidy(directory: &Path) -> Result<(), CheckpointError> {
    for path in folder::entries(directory)? {
        match kind_of(&path) {
            Some(Kind::Replaced(place)) if !place.exists() => put_back(&path, &place)?,
            Some(Kind::Replaced(_) | Kind::Partial) => remove_folder(&path)?,
            Some(Kind::Published) | None => {}
        }
    }
    Ok(())
}

/// Moves a checkpoint that another of the same step is to replace out of its place, and says where it is.
fn set_aside(path: &Path) -> Result<Option<PathBuf>, CheckpointError> {
    let aside = folder::aside(path);
    remove_folder(&aside)?;
    match disk::rename("storage.set-aside", path, &aside) {
        Ok(()) => Ok(Some(aside)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CheckpointError::io("setting aside", path)(error)),
    }
}

fn put_back(aside: &Path, place: &Path) -> Result<(), CheckpointError> {
    disk::rename("storage.put-back", aside, place).map_err(CheckpointError::io("putting back", place))
}

/// Removes a checkpoint. It loses its name first, so that nobody finds a part of it.
pub(super) fn discard(path: &Path) -> Result<(), CheckpointError> {
    if !matches!(kind_of(path), Some(Kind::Published)) {
        return remove_folder(path);
    }
    let partial = folder::partial(path);
    remove_folder(&partial)?;
    disk::rename("storage.discard", path, &partial).map_err(CheckpointError::io("removing", path))?;
    remove_folder(&partial)
}

fn remove_folder(path: &Path) -> Result<(), CheckpointError> {
    match disk::remove_folder(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(CheckpointError::io("removing", path)(error)),
        _ => Ok(()),
    }
}

fn sync_folder(path: &Path) -> Result<(), CheckpointError> {
    disk::sync_folder(path).map_err(CheckpointError::io("syncing", path))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::Checkpoint;
    use super::*;
    use crate::model::{Layer, ModelSpec, Sequential};
    use crate::train::Position;

    fn small() -> Sequential {
        let layers = serde_json::json!([{"op": "linear", "out_features": 3}]);
        let spec = serde_json::json!({"name": "small", "input": {"c": 1, "h": 2, "w": 2}, "layers": layers});
        Sequential::new(&serde_json::from_value::<ModelSpec>(spec).unwrap()).unwrap()
    }

    fn tensors(model: &Sequential) -> Vec<NamedTensor> {
        let parameters = model.layers.iter().flat_map(Layer::named_parameters);
        let tensor = |name: String, dims: Vec<usize>| {
            let (weights, momentum) = (vec![1.0; dims.iter().product()], vec![0.0; dims.iter().product()]);
            NamedTensor { name, dims, weights, momentum, carried: BTreeMap::new() }
        };
        parameters.map(|(name, parameter)| tensor(name, parameter.dims.clone())).collect()
    }

    fn at_step(model: &Sequential, step: usize) -> Manifest {
        let position = Position { step, ..Position::default() };
        Manifest { position, ..Manifest::new(model.spec.clone(), 1, 8) }
    }

    #[test]
    fn row_22_a_directory_in_use_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let _first = Store::open(folder.path()).unwrap();
        // The second run would end with this where it tried whether it can write.
        fs::create_dir(folder.path().join(".probe")).unwrap();
        let second = Store::open(folder.path()).map(|_| ()).unwrap_err();
        assert!(matches!(second, CheckpointError::InUse { .. }), "{second}");
    }

    #[test]
    fn row_23_what_is_read_may_be_removed_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let (model, done) = (small(), AtomicBool::new(false));
        let tensors = tensors(&model);
        let store = Store::open(folder.path()).unwrap().keeping(Some(1));
        store.save(&at_step(&model, 1), &tensors).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let save = |step| store.save(&at_step(&model, step), &tensors);
                // Every fourth takes the place of one of the same step.
                let saved = (8..200).map(|time| save(time - time / 4)).find_map(Result::err);
                done.store(true, Ordering::Relaxed);
                assert!(saved.is_none(), "{saved:?}");
            });
            let mut last = 0;
            while !done.load(Ordering::Relaxed) {
                let serial = Checkpoint::open(folder.path()).unwrap().manifest.unwrap().serial;
                assert!(serial >= last, "{serial} after {last}");
                last = serial;
            }
        });
        assert_eq!(folder::checkpoints(folder.path()).unwrap().len(), 1);
    }
}
