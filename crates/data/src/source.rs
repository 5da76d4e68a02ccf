//! The seam behind which the formats sit.

use std::path::Path;

use crate::{DataError, Shape};

/// Where a split's pictures come from.
pub(crate) trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Writes picture `index` (below [`Source::len`]) into `pixels` (`C×H×W` bytes, all of them
    /// written) and returns its label.
    fn read(&self, index: usize, pixels: &mut [u8]) -> Result<u32, DataError>;
}

/// A split that is held in memory.
pub(crate) struct Memory {
    /// N×C×H×W bytes.
    pixels: Vec<u8>,
    /// N labels; as many pictures are there.
    labels: Vec<u32>,
    /// C·H·W.
    picture: usize,
}

impl Memory {
    /// `pixels` are N×C×H×W bytes; a wrong number of them is a [`DataError::Length`] of `place`.
    pub(crate) fn new(place: &Path, shape: Shape, pixels: Vec<u8>, labels: Vec<u32>) -> Result<Self, DataError> {
        let picture = shape.len();
        if labels.is_empty() {
            return Err(DataError::Empty { place: place.to_owned() });
        }
        let wanted = labels.len() as u64 * picture as u64;
        if pixels.len() as u64 != wanted {
            let found = pixels.len() as u64;
            return Err(DataError::Length { file: place.to_owned(), wanted, found });
        }
        Ok(Self { pixels, labels, picture })
    }
}

impl Source for Memory {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn read(&self, index: usize, pixels: &mut [u8]) -> Result<u32, DataError> {
        let start = index * self.picture;
        pixels.copy_from_slice(&self.pixels[start..start + self.picture]);
        Ok(self.labels[index])
    }
}

/// Fails on the first of `labels` that is not below `classes`.
pub(crate) fn check_labels(file: &Path, labels: &[u32], classes: usize) -> Result<(), DataError> {
    match labels.iter().position(|&label| label as usize >= classes) {
        None => Ok(()),
        Some(sample) => Err(DataError::Label { file: file.to_owned(), sample, label: labels[sample], classes }),
    }
}

/// An empty vector with room for `len` items, or [`DataError::Memory`].
pub(crate) fn reserve<T>(what: &str, len: usize) -> Result<Vec<T>, DataError> {
    let mut room = Vec::new();
    match room.try_reserve_exact(len) {
        Ok(()) => Ok(room),
        Err(_) => {
            let bytes = (len as u64).saturating_mul(size_of::<T>() as u64);
            Err(DataError::Memory { what: what.to_owned(), bytes })
        }
    }
}
