//! A folder of pictures: `train/<class>/*` and `test/<class>/*`.
//!
//! Classes are numbered in the order of their names, samples run class by class in the order of
//! the file names. Both orders are by bytes, so that they are the same on every machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::DynamicImage;
use rayon::prelude::*;

use crate::dataset::{About, Report, Skipped};
use crate::source::{Memory, Source, reserve};
use crate::{DataError, Dataset, Shape, files, picture};

/// The files, for messages and help.
pub(crate) const WANTED: &str = "train/<class>/*.jpg, *.jpeg or *.png and test/<class>/… with the same classes";

/// A split of at most so many bytes (decoded) is held in memory; of a larger one each picture is
/// decoded anew whenever it is read.
const IN_MEMORY: u64 = 4 << 30;

/// Bytes (decoded) and pictures, at most, between two looks at the number of bad ones.
const WAVE_BYTES: usize = 256 << 20;
const WAVE_PICTURES: usize = 512;

/// How `pictures` become bytes of one shape.
#[derive(Clone, Copy)]
struct Form {
    shape: Shape,
    /// Whether pictures of another size are brought to it, or refused.
    resize: bool,
    /// Whether the number of channels was taken from the first picture.
    guessed: bool,
}

impl Form {
    /// C×H×W bytes, and whether colour was lost against the picture's wish.
    fn read(self, path: &Path) -> Result<(Vec<u8>, bool), DataError> {
        let decoded = picture::decode(path)?;
        let (wanted, found) = ((self.shape.height(), self.shape.width()), picture::size(&decoded));
        if wanted != found && !self.resize {
            return Err(DataError::PictureSize { file: path.to_owned(), wanted, found });
        }
        let colour_lost = self.guessed && self.shape.channels() == 1 && decoded.color().has_color();
        Ok((picture::planes(path, &decoded, self.shape)?, colour_lost))
    }
}

/// The pictures of a split, decoded whenever they are read.
struct Files {
    pictures: Vec<(PathBuf, u32)>,
    form: Form,
}

impl Source for Files {
    fn len(&self) -> usize {
        self.pictures.len()
    }

    fn read(&self, index: usize, pixels: &mut [u8]) -> Result<u32, DataError> {
        let (path, label) = &self.pictures[index];
        pixels.copy_from_slice(&self.form.read(path)?.0);
        Ok(*label)
    }
}

/// Opens both splits: decodes every picture once.
pub(crate) fn open(
    folder: &Path,
    resize: Option<(usize, usize)>,
    channels: Option<usize>,
    skip_bad: usize,
) -> Result<(Dataset, Dataset), DataError> {
    open_within(IN_MEMORY, folder, resize, channels, skip_bad)
}

fn open_within(
    in_memory: u64,
    folder: &Path,
    resize: Option<(usize, usize)>,
    channels: Option<usize>,
    skip_bad: usize,
) -> Result<(Dataset, Dataset), DataError> {
    if channels.is_some_and(|channels| channels != 1 && channels != 3) {
        let reason = "1 reads pictures as grey and 3 in colour; nothing else is possible".to_owned();
        return Err(DataError::Setting { setting: "channels", reason });
    }
    let classes = classes(folder)?;
    let train = pictures(&folder.join("train"), &classes)?;
    let test = pictures(&folder.join("test"), &classes)?;

    let first = first_good(&train, skip_bad)?;
    let (height, width) = resize.unwrap_or(picture::size(&first));
    let guess = if first.color().has_color() { 3 } else { 1 };
    let shape = Shape::new(channels.unwrap_or(guess), height, width)?;
    let form = Form { shape, resize: resize.is_some(), guessed: channels.is_none() };

    let mut bad = Bad { allowed: skip_bad, report: Report::default() };
    let train = split(in_memory, folder, &train, form, &mut bad)?;
    let test = split(in_memory, folder, &test, form, &mut bad)?;
    bad.warn();
    let about = About { name: "folder".to_owned(), shape, class_names: classes, report: bad.report };
    Dataset::pair(about, train, test)
}

/// The names of the classes, which both splits must have.
fn classes(folder: &Path) -> Result<Vec<String>, DataError> {
    let of = |split: &str| -> Result<BTreeSet<String>, DataError> {
        let inner = folder.join(split);
        if !inner.is_dir() {
            let (kind, what) = ("folder", format!("sub-folder `{split}`"));
            return Err(DataError::Missing { kind, what, folder: folder.to_owned(), looked_for: WANTED.to_owned() });
        }
        let names = files::list(&inner)?.into_iter().filter(|name| inner.join(name).is_dir());
        names.map(|name| utf8(&inner.join(&name)).map(|()| name.to_string_lossy().into_owned())).collect()
    };
    let (train, test) = (of("train")?, of("test")?);
    if train.is_empty() {
        return Err(DataError::Empty { place: folder.join("train") });
    }
    if train != test {
        let only_train = train.difference(&test).cloned().collect();
        let only_test = test.difference(&train).cloned().collect();
        return Err(DataError::Classes { folder: folder.to_owned(), only_train, only_test });
    }
    Ok(train.into_iter().collect())
}

/// Class names are shown and stored as text.
fn utf8(path: &Path) -> Result<(), DataError> {
    if path.file_name().is_some_and(|name| name.to_str().is_none()) {
        let reason = format!("`{}` is not UTF-8; rename the folder", path.display());
        return Err(DataError::Setting { setting: "path", reason });
    }
    Ok(())
}

/// Every picture of a split and its label.
fn pictures(split: &Path, classes: &[String]) -> Result<Vec<(PathBuf, u32)>, DataError> {
    let mut pictures = Vec::new();
    for (label, class) in (0u32..).zip(classes) {
        let folder = split.join(class);
        let before = pictures.len();
        let names = files::list(&folder)?.into_iter().map(|name| folder.join(name));
        pictures.extend(names.filter(|path| is_picture(path)).map(|path| (path, label)));
        if pictures.len() == before {
            tracing::warn!(folder = %folder.display(), "a class without a picture");
        }
    }
    if pictures.is_empty() {
        return Err(DataError::Empty { place: split.to_owned() });
    }
    Ok(pictures)
}

fn is_picture(path: &Path) -> bool {
    let known =
        |ending: &std::ffi::OsStr| ["jpg", "jpeg", "png"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    path.extension().is_some_and(known)
}

/// The first picture that can be decoded.
fn first_good(pictures: &[(PathBuf, u32)], allowed: usize) -> Result<DynamicImage, DataError> {
    let mut bad = Bad { allowed, report: Report::default() };
    for (path, _) in pictures {
        match picture::decode(path) {
            Ok(picture) => return Ok(picture),
            Err(error) => bad.add(path, error)?,
        }
    }
    let place = pictures.first().and_then(|(path, _)| path.parent()).unwrap_or(Path::new("train"));
    Err(DataError::Empty { place: place.to_owned() })
}

/// Decodes every picture of a split once, and keeps the bytes if they are not too many.
fn split(
    in_memory: u64,
    place: &Path,
    pictures: &[(PathBuf, u32)],
    form: Form,
    bad: &mut Bad,
) -> Result<Arc<dyn Source>, DataError> {
    let bytes = (pictures.len() as u64).saturating_mul(form.shape.len() as u64);
    let keep = bytes <= in_memory;
    let mut pixels = reserve("the pictures", if keep { bytes as usize } else { 0 })?;
    let mut good = Vec::with_capacity(pictures.len());
    let wave = (WAVE_BYTES / form.shape.len()).clamp(1, WAVE_PICTURES);
    for wave in pictures.chunks(wave) {
        let read: Vec<_> = wave.par_iter().map(|(path, _)| form.read(path)).collect();
        for ((path, label), read) in wave.iter().zip(read) {
            match read {
                Ok((bytes, colour_lost)) => {
                    bad.report.colour_lost += usize::from(colour_lost);
                    good.push((path.clone(), *label));
                    if keep {
                        pixels.extend(bytes);
                    }
                }
                Err(error) => bad.add(path, error)?,
            }
        }
    }
    if good.is_empty() {
        return Err(DataError::Empty { place: place.to_owned() });
    }
    if !keep {
        return Ok(Arc::new(Files { pictures: good, form }));
    }
    let labels = good.into_iter().map(|(_, label)| label).collect();
    Ok(Arc::new(Memory::new(place, form.shape, pixels, labels)?))
}

/// Counts the bad pictures against what is allowed.
struct Bad {
    allowed: usize,
    report: Report,
}

impl Bad {
    /// Passes `error` on unless it is of the kind that may be left out, and room is left.
    fn add(&mut self, path: &Path, error: DataError) -> Result<(), DataError> {
        let is_bad = matches!(error, DataError::Picture { .. } | DataError::TooLarge { .. } | DataError::Io { .. });
        if !is_bad || self.allowed == 0 {
            return Err(error);
        }
        let found = self.report.skipped.len() + 1;
        if found > self.allowed {
            let first = self.report.skipped.first();
            let reason = first.map_or_else(|| error.to_string(), |first| first.reason.clone());
            return Err(DataError::TooManyBad { allowed: self.allowed, found, first: reason });
        }
        self.report.skipped.push(Skipped { file: path.to_owned(), reason: error.to_string() });
        Ok(())
    }

    fn warn(&self) {
        for skipped in &self.report.skipped {
            tracing::warn!(file = %skipped.file.display(), reason = skipped.reason, "picture left out");
        }
        if !self.report.skipped.is_empty() {
            tracing::warn!(count = self.report.skipped.len(), allowed = self.allowed, "pictures left out");
        }
        if self.report.colour_lost > 0 {
            tracing::warn!(
                count = self.report.colour_lost,
                "colour pictures read as grey, as the first one is; give `channels` (1 or 3)"
            );
        }
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
