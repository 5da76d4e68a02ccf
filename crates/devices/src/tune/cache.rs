//! What tuning found, on disk: one JSON file for each kind of adapter with its driver.
//!
//! A file is replaced as a whole, by renaming, so that nobody reads half of one; what another run has added meanwhile
//! is kept. A file that cannot be used is ignored with a warning, and replaced by the next run that tunes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;

use brigade_kernels::{Pass, Precision};
use serde::{Deserialize, Serialize};

use super::Tuning;
use super::candidates::Fingerprint;
use crate::DeviceInfo;
use crate::selection::ShapeClass;

/// Grows when the format or the meaning of what is in it changes.
const FORMAT: u32 = 1;

/// Findings of one class that are kept: batches of one class may be cut differently, and then have other shaders.
const OF_A_CLASS: usize = 4;

/// Larger files are none of ours.
const LARGEST: u64 = 64 << 20;

/// The environment variable that names the folder.
pub(super) const FOLDER: &str = "BRIGADE_CACHE_DIR";

/// What a kind of adapter is known by. The place on the bus and the driver's threads are not part of it: stages on
/// adapters of one kind choose alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Adapter {
    backend: String,
    vendor: u32,
    device: u32,
    name: String,
    driver: String,
    driver_info: String,
    /// Whether operands may be rounded to half precision: other variants run then.
    rounds: bool,
}

impl Adapter {
    fn of(info: &DeviceInfo) -> Self {
        Self {
            backend: info.identity.backend.clone(),
            vendor: info.vendor_id,
            device: info.device_id,
            name: info.model().to_owned(),
            driver: info.driver.clone(),
            driver_info: info.driver_info.clone(),
            rounds: info.limits.precision == Precision::F16,
        }
    }

    fn file_name(&self) -> String {
        let mut fingerprint = Fingerprint::default();
        for part in [&self.backend, &self.name, &self.driver, &self.driver_info] {
            fingerprint.add(part.as_bytes());
        }
        fingerprint.add(&[self.vendor.to_le_bytes(), self.device.to_le_bytes()].concat());
        fingerprint.add(&[u8::from(self.rounds)]);
        let letters = self.name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
        let slug: String = letters.take(24).collect();
        format!("tuning-{}-{:016x}.json", slug.trim_matches('-'), fingerprint.0)
    }
}

/// What was found, by class.
pub(super) type Findings = BTreeMap<ShapeClass, Found>;

/// What was found for one class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Found {
    operation: String,
    pass: String,
    input: [usize; 3],
    samples: usize,
    /// Of variants, shaders and constants.
    fingerprint: String,
    /// How much was tried.
    pub(super) effort: Tuning,
    pub(super) choice: String,
    /// The least time of each variant that was timed.
    pub(super) microseconds: BTreeMap<String, f64>,
    /// Variants that computed wrong numbers, with what was wrong.
    pub(super) wrong: BTreeMap<String, String>,
}

impl Found {
    pub(super) fn new(class: &ShapeClass, fingerprint: u64, effort: Tuning, choice: &str) -> Self {
        Self {
            operation: class.operation.clone(),
            pass: class.pass.name().into(),
            input: class.input,
            samples: class.samples,
            fingerprint: format!("{fingerprint:016x}"),
            effort,
            choice: choice.into(),
            microseconds: BTreeMap::new(),
            wrong: BTreeMap::new(),
        }
    }

    pub(super) fn class(&self) -> Option<ShapeClass> {
        let pass = Pass::ALL.into_iter().find(|pass| pass.name() == self.pass)?;
        Some(ShapeClass { operation: self.operation.clone(), pass, input: self.input, samples: self.samples })
    }

    /// Whether it was found with these texts, and no less was tried than `effort` asks for.
    pub(super) fn serves(&self, fingerprint: u64, effort: Tuning) -> bool {
        self.fingerprint == format!("{fingerprint:016x}") && self.effort >= effort
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    format: u32,
    version: String,
    adapter: Adapter,
    found: Vec<Found>,
}

/// The file of one kind of adapter.
pub(super) struct Cache {
    path: Option<PathBuf>,
    adapter: Adapter,
}

impl Cache {
    /// The file of this kind of adapter in `folder`; where there is no folder nothing is kept.
    pub(super) fn new(folder: Option<&Path>, info: &DeviceInfo) -> Self {
        let adapter = Adapter::of(info);
        Self { path: folder.map(|folder| folder.join(adapter.file_name())), adapter }
    }

    /// Everything that is known, what was found last at the end; nothing where the file is missing or cannot be used.
    pub(super) fn load(&self) -> Vec<Found> {
        let Some(path) = self.path.as_deref().filter(|path| path.symlink_metadata().is_ok()) else {
            return Vec::new();
        };
        let found = self.read(path).unwrap_or_else(|reason| {
            tracing::warn!("{} is no tuning of this adapter and is ignored: {reason}", path.display());
            Vec::new()
        });
        found.into_iter().filter(|found| found.class().is_some()).collect()
    }

    fn read(&self, path: &Path) -> Result<Vec<Found>, String> {
        let size = path.metadata().map_err(|error| error.to_string())?;
        if !size.is_file() || size.len() > LARGEST {
            return Err(format!("it is no file of at most {LARGEST} bytes"));
        }
        let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let content: Content = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if content.adapter != self.adapter {
            return Err(format!("it is of {}", content.adapter.name));
        }
        if (content.format, content.version.as_str()) != (FORMAT, env!("CARGO_PKG_VERSION")) {
            return Err(format!("it was written by brigade {} in format {}", content.version, content.format));
        }
        Ok(content.found)
    }

    /// The file's name, which no other kind of adapter has.
    pub(super) fn name(&self) -> String {
        self.adapter.file_name()
    }

    /// Puts what was found beside what is there. What cannot be written is tuned again by the next run.
    pub(super) fn add(&self, new: &Findings) {
        let kept = match &self.path {
            Some(path) => self.write(path, new).map_err(|error| format!("{}: {error}", path.display())),
            None => Err(format!("neither {FOLDER} nor a home is set")),
        };
        kept.unwrap_or_else(|reason| warn_once(&reason));
    }

    fn write(&self, path: &Path, new: &Findings) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        // Held while the file is read and replaced, so that two runs do not lose each other's findings. Where the
        // file system knows no locks, at worst that happens.
        let lock = File::options().create(true).append(true).open(path.with_extension("lock"))?;
        let _ = lock.lock();
        let mut found = self.load();
        for new in new.values() {
            put(&mut found, new.clone());
        }
        let content =
            Content { format: FORMAT, version: env!("CARGO_PKG_VERSION").into(), adapter: self.adapter.clone(), found };
        let partial = path.with_extension(format!("{}.partial", std::process::id()));
        let written = File::create(&partial)
            .and_then(|mut file| {
                file.write_all(&serde_json::to_vec_pretty(&content).map_err(std::io::Error::other)?)?;
                file.sync_all()
            })
            .and_then(|()| std::fs::rename(&partial, path));
        if written.is_err() {
            // Best effort: the error that is told is the one of the write.
            let _ = std::fs::remove_file(&partial);
        }
        written
    }
}

/// Puts `new` behind what is there, in the place of what was found with the same texts, or else of the oldest of its class
/// where there are too many.
fn put(found: &mut Vec<Found>, new: Found) {
    let class = new.class();
    found.retain(|old| old.class() != class || old.fingerprint != new.fingerprint);
    let of_class: Vec<usize> = (0..found.len()).filter(|&index| found[index].class() == class).collect();
    if let [oldest, ..] = of_class[..]
        && of_class.len() >= OF_A_CLASS
    {
        found.remove(oldest);
    }
    found.push(new);
}

/// Says that findings are lost with this process, once for all adapters.
fn warn_once(reason: &str) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "what tuning finds cannot be kept ({reason}): the next run tunes again, and a resume may choose other kernels \
             and come to other bits; let {FOLDER} name a folder that can be written"
        );
    });
}

/// The folder that the environment names, else the platform's.
pub(super) fn folder() -> Option<PathBuf> {
    let given = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || given("HOME").or_else(|| given("USERPROFILE"));
    given(FOLDER).or_else(|| {
        let base = if cfg!(windows) {
            given("LOCALAPPDATA")
        } else {
            // As the XDG base directory specification has it, a relative path does not count.
            given("XDG_CACHE_HOME").filter(|path| path.is_absolute())
        };
        let own = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        base.or_else(|| home().map(|home| home.join(own))).map(|base| base.join("brigade"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::ReferenceExecutor;

    fn class(samples: usize) -> ShapeClass {
        ShapeClass { operation: "Conv2d { … }".into(), pass: Pass::Forward, input: [3, 8, 8], samples }
    }

    fn one(samples: usize) -> BTreeMap<ShapeClass, Found> {
        [(class(samples), Found::new(&class(samples), 7, Tuning::Quick, "naive"))].into()
    }

    #[test]
    fn what_is_added_is_found_again_by_adapters_of_the_same_kind_only() {
        let folder = tempfile::tempdir().unwrap();
        let info = ReferenceExecutor::describe();
        let cache = Cache::new(Some(folder.path()), &info);
        assert!(cache.load().is_empty());
        cache.add(&one(8));
        cache.add(&one(16));
        assert_eq!(cache.load().iter().filter_map(Found::class).collect::<Vec<_>>(), [class(8), class(16)]);
        let mut twin = info.clone();
        (twin.name, twin.identity.address) = ("reference #2".into(), "elsewhere".into());
        assert!(twin.is_like(&info));
        assert_eq!(Cache::new(Some(folder.path()), &twin).load().len(), 2);
        twin.driver_info = "another version".into();
        assert!(!twin.is_like(&info));
        assert!(Cache::new(Some(folder.path()), &twin).load().is_empty());
        // Without a folder nothing is kept, and nothing fails.
        let nowhere = Cache::new(None, &info);
        nowhere.add(&one(8));
        assert!(nowhere.load().is_empty());
    }

    #[test]
    fn the_last_findings_of_a_class_are_kept_beside_one_another() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path()), &ReferenceExecutor::describe());
        let with_texts = |fingerprint: u64, choice: &str| -> BTreeMap<ShapeClass, Found> {
            [(class(8), Found::new(&class(8), fingerprint, Tuning::Quick, choice))].into()
        };
        for (fingerprint, choice) in [(1, "a"), (2, "b"), (3, "c"), (1, "d"), (4, "e"), (5, "f")] {
            cache.add(&one(16));
            cache.add(&with_texts(fingerprint, choice));
        }
        let kept = cache.load();
        let choices: Vec<_> = kept.iter().filter(|found| found.samples == 8).map(|found| &found.choice).collect();
        assert_eq!(choices, ["c", "d", "e", "f"]);
        assert_eq!(kept.len(), OF_A_CLASS + 1);
        assert!(kept.iter().any(|found| found.serves(1, Tuning::Quick)));
    }

    #[test]
    fn files_that_cannot_be_used_are_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(folder.path()), &ReferenceExecutor::describe());
        let path = cache.path.clone().unwrap();
        cache.add(&one(8));
        let whole = std::fs::read_to_string(&path).unwrap();
        let foreign = [
            String::new(),
            "null".into(),
            "\u{0}\u{1}".into(),
            whole.chars().take(whole.len() / 2).collect(),
            whole.replace("\"format\": 1", "\"format\": 999"),
            whole.replace("\"backend\": \"reference\"", "\"backend\": \"vulkan\""),
            whole.replace("\"samples\": 8", "\"samples\": -8"),
            format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        ];
        for text in foreign {
            std::fs::write(&path, &text).unwrap();
            assert!(cache.load().is_empty(), "{}", &text[..text.len().min(60)]);
            cache.add(&one(16));
            assert_eq!(cache.load().len(), 1);
        }
        // A pass that does not exist is one entry less, no more.
        std::fs::write(&path, whole.replace("\"forward\"", "\"sideways\"")).unwrap();
        assert!(cache.load().is_empty());
        // A folder in the place of the file.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(cache.load().is_empty());
        cache.add(&one(16));
    }

    #[test]
    fn runs_that_write_at_once_lose_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    let cache = Cache::new(Some(path), &ReferenceExecutor::describe());
                    for i in 0..8 {
                        cache.add(&one(1 + 8 * thread + i));
                    }
                });
            }
        });
        let found = Cache::new(Some(path), &ReferenceExecutor::describe()).load();
        assert_eq!(found.len(), 32);
    }
}
