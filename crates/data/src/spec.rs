//! From a name and a path to a data set.

use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{DataError, Dataset, Shape, cifar10, folder, glyphs, idx, synthetic};

/// Samples that are made at run time, at most: normalisation and fingerprint draw each of them once before training.
const MOST_MADE: usize = 1 << 24;
/// More classes than any data set has; a slip of the keyboard above it.
const MOST_CLASSES: usize = 1 << 20;

/// The data sets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Kind {
    /// IDX files of MNIST or one of its relatives.
    Mnist,
    /// CIFAR-10, binary version.
    Cifar10,
    /// A folder of pictures, a sub-folder for each class.
    Folder,
    /// Ten shapes drawn with random strokes.
    Glyphs,
    /// Random pictures of any shape.
    Synthetic,
}

impl Kind {
    /// All kinds with their names and what they are: parsing, messages and help read this list.
    pub const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Mnist, "mnist", "MNIST or a relative: four IDX files, plain or gzip"),
        (Self::Cifar10, "cifar10", "CIFAR-10, binary version: six files"),
        (Self::Folder, "folder", "pictures (JPEG, PNG) in train/<class>/ and test/<class>/"),
        (Self::Glyphs, "glyphs", "ten drawn shapes, 1×28×28, made at run time from a seed"),
        (Self::Synthetic, "synthetic", "random pictures of any shape, for measuring speed"),
    ];

    /// `mnist`, `cifar10`, `folder`, `glyphs` or `synthetic`.
    pub fn name(self) -> &'static str {
        let row = Self::ALL.iter().find(|row| row.0 == self);
        row.map_or("", |row| row.1)
    }

    /// Whether it lies in files, so that [`Spec::path`] is needed.
    pub fn needs_path(self) -> bool {
        matches!(self, Self::Mnist | Self::Cifar10 | Self::Folder)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = DataError;

    fn from_str(name: &str) -> Result<Self, DataError> {
        let row = Self::ALL.iter().find(|row| row.1.eq_ignore_ascii_case(name));
        row.map(|row| row.0).ok_or_else(|| DataError::UnknownKind {
            found: name.to_owned(),
            known: Self::ALL.map(|row| row.1).join(", "),
        })
    }
}

impl TryFrom<String> for Kind {
    type Error = DataError;

    fn try_from(name: String) -> Result<Self, DataError> {
        name.parse()
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.name()
    }
}

/// Which data set, and how it is to be read. A setting that the kind has no use for is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which data set.
    pub kind: Kind,
    /// The folder that holds it (`mnist`, `cifar10`, `folder`).
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// Seed of `glyphs` and `synthetic`; the others ignore it.
    #[serde(default)]
    pub seed: u64,
    /// Number of training samples (`glyphs`: 10,000; `synthetic`: 1,024).
    #[serde(default)]
    pub train: Option<usize>,
    /// Number of test samples (`glyphs`: 2,000; `synthetic`: 256).
    #[serde(default)]
    pub test: Option<usize>,
    /// Shape of `synthetic` pictures; 3×224×224.
    #[serde(default)]
    pub shape: Option<Shape>,
    /// Number of classes of `synthetic`; 1,000.
    #[serde(default)]
    pub classes: Option<usize>,
    /// Rows and columns to which `folder` brings every picture, whatever its proportions.
    #[serde(default)]
    pub resize: Option<(usize, usize)>,
    /// 1 (grey) or 3 (colour): how `folder` reads pictures; by default as the first one is.
    #[serde(default)]
    pub channels: Option<usize>,
    /// How many bad pictures `folder` may leave out, over both splits.
    #[serde(default)]
    pub skip_bad: usize,
}

impl Spec {
    /// A data set with every setting at its default.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            path: None,
            seed: 0,
            train: None,
            test: None,
            shape: None,
            classes: None,
            resize: None,
            channels: None,
            skip_bad: 0,
        }
    }

    fn check(&self) -> Result<(), DataError> {
        let folder = self.kind == Kind::Folder;
        let synthetic = self.kind == Kind::Synthetic;
        let made = synthetic || self.kind == Kind::Glyphs;
        let settings = [
            ("path", self.path.is_some(), !made),
            ("train", self.train.is_some(), made),
            ("test", self.test.is_some(), made),
            ("shape", self.shape.is_some(), synthetic),
            ("classes", self.classes.is_some(), synthetic),
            ("resize", self.resize.is_some(), folder),
            ("channels", self.channels.is_some(), folder),
            ("skip_bad", self.skip_bad > 0, folder),
        ];
        if let Some((setting, ..)) = settings.into_iter().find(|&(_, given, used)| given && !used) {
            let reason = format!("`{}` has no use for it; leave it out", self.kind);
            return Err(DataError::Setting { setting, reason });
        }
        for (setting, value, most) in
            [("train", self.train, MOST_MADE), ("test", self.test, MOST_MADE), ("classes", self.classes, MOST_CLASSES)]
        {
            if value.is_some_and(|value| value == 0 || value > most) {
                return Err(DataError::Setting { setting, reason: format!("must be between 1 and {most}") });
            }
        }
        Ok(())
    }

    fn folder(&self, wanted: &str) -> Result<&std::path::Path, DataError> {
        let kind = self.kind.name();
        let path = self.path.as_deref().ok_or_else(|| DataError::NoPath { kind, wanted: wanted.to_owned() })?;
        if path.is_dir() {
            return Ok(path);
        }
        Err(DataError::Missing {
            kind,
            what: "folder".to_owned(),
            folder: path.to_owned(),
            looked_for: wanted.to_owned(),
        })
    }
}

/// Opens the training and the test split.
///
/// Reads the training split once to measure its normalisation and fingerprint, and checks every
/// label of both splits.
///
/// # Errors
/// Each [`DataError`]; those for which [`DataError::is_setting`] holds are mistakes in `spec`.
pub fn open(spec: &Spec) -> Result<(Dataset, Dataset), DataError> {
    spec.check()?;
    let counts = |train, test| (spec.train.unwrap_or(train), spec.test.unwrap_or(test));
    match spec.kind {
        Kind::Mnist => idx::open(spec.folder(idx::WANTED)?),
        Kind::Cifar10 => cifar10::open(spec.folder(cifar10::WANTED)?),
        Kind::Folder => folder::open(spec.folder(folder::WANTED)?, spec.resize, spec.channels, spec.skip_bad),
        Kind::Glyphs => glyphs::open(spec.seed, counts(10_000, 2_000)),
        Kind::Synthetic => {
            let shape = spec.shape.map_or_else(|| Shape::new(3, 224, 224), Ok)?;
            synthetic::open(spec.seed, shape, spec.classes.unwrap_or(1_000), counts(1_024, 256))
        }
    }
}
