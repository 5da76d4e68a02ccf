//! A split of a data set, and batches of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::source::{Memory, Source, check_labels, reserve};
use crate::summary::Summary;
use crate::{DataError, Normalisation, Shape};

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What the network learns from.
    Train,
    /// What it is judged on.
    Test,
}

/// What happened while a data set was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Pictures left out because they are bad, over both splits, in order.
    pub skipped: Vec<Skipped>,
    /// Pictures in colour that were read as grey because the first one is grey.
    pub colour_lost: usize,
}

/// A picture that was left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// What both splits have in common.
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) class_names: Vec<String>,
    pub(crate) report: Report,
}

/// One split of a data set. Cheap to clone: the pictures are shared.
#[derive(Clone)]
pub struct Dataset {
    split: Split,
    source: Arc<dyn Source>,
    about: Arc<About>,
    summary: Summary,
    /// Of each channel, the float for each byte: the normalisation in the form in which it is applied.
    tables: Arc<Vec<[f32; 256]>>,
}

/// Some samples, ready for the first layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Normalised pixels, N×C×H×W.
    pub pixels: Vec<f32>,
    /// N labels, each below the number of classes.
    pub labels: Vec<u32>,
    /// N numbers of the samples in their split.
    pub indices: Vec<u32>,
}

impl Batch {
    /// `N`, the number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no sample in it.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }
}

/// From this many values on, a batch is prepared by the thread pool: below, waking it costs more.
const PARALLEL: usize = 1 << 18;

impl Dataset {
    /// A data set held in memory: for each split N×C×H×W bytes and N labels.
    ///
    /// # Errors
    /// [`DataError::Empty`], [`DataError::Length`] and [`DataError::Label`], with `name` in place of a file.
    pub fn in_memory(
        name: &str,
        shape: Shape,
        class_names: Vec<String>,
        train: (Vec<u8>, Vec<u32>),
        test: (Vec<u8>, Vec<u32>),
    ) -> Result<(Self, Self), DataError> {
        let place = Path::new(name);
        check_labels(place, &train.1, class_names.len())?;
        check_labels(place, &test.1, class_names.len())?;
        let train = Memory::new(place, shape, train.0, train.1)?;
        let test = Memory::new(place, shape, test.0, test.1)?;
        let about = About { name: name.to_owned(), shape, class_names, report: Report::default() };
        Self::pair(about, Arc::new(train), Arc::new(test))
    }

    /// Both splits, after the one pass over the training split that measures it.
    pub(crate) fn pair(about: About, train: Arc<dyn Source>, test: Arc<dyn Source>) -> Result<(Self, Self), DataError> {
        for count in [train.len(), test.len()] {
            if u32::try_from(count).is_err() {
                let reason = format!("{count} samples; at most {} can be numbered", u32::MAX);
                return Err(DataError::Setting { setting: "count", reason });
            }
        }
        let summary = Summary::measure(train.as_ref(), about.shape, about.class_names.len())?;
        let tables = Arc::new(summary.normalisation.tables());
        let train = Self { split: Split::Train, source: train, about: Arc::new(about), summary, tables };
        let test = Self { split: Split::Test, source: test, ..train.clone() };
        Ok((train, test))
    }

    /// The data set's name: `mnist`, `cifar10` …
    pub fn name(&self) -> &str {
        &self.about.name
    }

    /// Which split this is.
    pub fn split(&self) -> Split {
        self.split
    }

    /// Number of samples, at least 1.
    #[allow(clippy::len_without_is_empty)] // never empty
    pub fn len(&self) -> usize {
        self.source.len()
    }

    /// Shape of every picture.
    pub fn shape(&self) -> Shape {
        self.about.shape
    }

    /// Number of classes; every label is below it.
    pub fn classes(&self) -> usize {
        self.about.class_names.len()
    }

    /// A name for each class: its number where nothing better is known.
    pub fn class_names(&self) -> &[String] {
        &self.about.class_names
    }

    /// What was left out and changed while both splits were opened.
    pub fn report(&self) -> &Report {
        &self.about.report
    }

    /// What the pixels are normalised with: that of the training split, in the test split too.
    pub fn normalisation(&self) -> &Normalisation {
        &self.summary.normalisation
    }

    /// CRC-32 of the training split: its count, shape and number of classes, every picture and
    /// every label, in order. The same in both splits.
    pub fn fingerprint(&self) -> u32 {
        self.summary.fingerprint
    }

    /// The same split under another normalisation, such as that of a checkpoint.
    ///
    /// # Errors
    /// [`DataError::Setting`] unless it has `C` finite means and standard deviations ≥ 0.
    pub fn with_normalisation(mut self, normalisation: Normalisation) -> Result<Self, DataError> {
        normalisation.check(self.shape().channels())?;
        self.tables = Arc::new(normalisation.tables());
        self.summary.normalisation = normalisation;
        Ok(self)
    }

    /// The raw bytes (C×H×W) of sample `index`, and its label.
    ///
    /// # Errors
    /// [`DataError::Index`] past the end; whatever reading the file meets where pictures are not held in memory.
    pub fn sample(&self, index: usize) -> Result<(Vec<u8>, u32), DataError> {
        self.check_index(index)?;
        let mut pixels = reserve("one picture", self.shape().len())?;
        pixels.resize(self.shape().len(), 0);
        let label = self.source.read(index, &mut pixels)?;
        Ok((pixels, label))
    }

    /// The batch of the samples `indices`, in that order.
    ///
    /// # Errors
    /// As [`Dataset::sample`], and [`DataError::Memory`].
    pub fn batch(&self, indices: &[u32]) -> Result<Batch, DataError> {
        let mut batch = Batch::default();
        self.fill(indices, &mut batch, &AtomicBool::new(false))?;
        Ok(batch)
    }

    /// Overwrites `batch` with the samples `indices`, reusing its memory. Gives up early, with
    /// whatever contents, once `stop` is set.
    pub(crate) fn fill(&self, indices: &[u32], batch: &mut Batch, stop: &AtomicBool) -> Result<(), DataError> {
        let picture = self.shape().len();
        let values = indices.len().saturating_mul(picture);
        for &index in indices {
            self.check_index(index as usize)?;
        }
        if batch.pixels.capacity() < values {
            batch.pixels = reserve("a batch", values)?;
        }
        batch.pixels.resize(values, 0.0);
        batch.labels.clear();
        batch.labels.resize(indices.len(), 0);
        batch.indices.clear();
        batch.indices.extend_from_slice(indices);

        let one = |raw: &mut Vec<u8>, ((&index, pixels), label): ((&u32, &mut [f32]), &mut u32)| {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            raw.resize(picture, 0);
            *label = self.source.read(index as usize, raw)?;
            self.normalise(raw, pixels);
            Ok(())
        };
        if values < PARALLEL {
            let mut raw = Vec::new();
            let mut samples = indices.iter().zip(batch.pixels.chunks_exact_mut(picture)).zip(&mut batch.labels);
            return samples.try_for_each(|sample| one(&mut raw, sample));
        }
        let pixels = batch.pixels.par_chunks_exact_mut(picture);
        let samples = indices.par_iter().zip(pixels).zip(batch.labels.par_iter_mut());
        samples.try_for_each_init(Vec::new, one)
    }

    fn normalise(&self, raw: &[u8], pixels: &mut [f32]) {
        let plane = self.shape().plane();
        let planes = raw.chunks_exact(plane).zip(pixels.chunks_exact_mut(plane));
        for ((from, to), table) in planes.zip(self.tables.iter()) {
            for (&byte, pixel) in from.iter().zip(to) {
                *pixel = table[usize::from(byte)];
            }
        }
    }

    fn check_index(&self, index: usize) -> Result<(), DataError> {
        if index < self.len() {
            return Ok(());
        }
        Err(DataError::Index { index, count: self.len() })
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, split, count) = (self.name(), self.split, self.len());
        write!(f, "{name} {split:?}: {count} × {}, {} classes", self.shape(), self.classes())
    }
}
