//! One picture file: JPEG or PNG, decoded within limits.

use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, GenericImageView, ImageDecoder, ImageReader, Limits};

use crate::source::reserve;
use crate::{DataError, Shape, files, loader};

/// Pixels on a side, at most.
const MOST_PIXELS: u32 = 16_384;
/// Bytes of a file, and bytes of a decoded picture, at most.
const MOST_BYTES: u64 = 256 << 20;

/// Decodes a file whose limits are kept and whose end is there. Whatever is wrong with its
/// contents is a [`DataError::Picture`] or a [`DataError::TooLarge`], a panic of the decoder too.
pub(crate) fn decode(path: &Path) -> Result<DynamicImage, DataError> {
    let bytes = read(path)?;
    guard(path, || decode_bytes(path, &bytes))
}

/// Turns a panic of the decoder or the resampler into an error.
fn guard<T>(path: &Path, work: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|panic| Err(bad(path, format!("the decoder panicked: {}", loader::message(panic.as_ref())))))
}

fn bad(path: &Path, reason: impl Into<String>) -> DataError {
    DataError::Picture { file: path.to_owned(), reason: reason.into() }
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let (file, length) = files::open(path)?;
    if length > MOST_BYTES {
        return Err(bad(path, format!("{length} bytes, and at most {MOST_BYTES} are allowed")));
    }
    let mut bytes = reserve("a picture file", length as usize)?;
    file.take(MOST_BYTES).read_to_end(&mut bytes).map_err(files::io(path, "read it"))?;
    Ok(bytes)
}

fn decode_bytes(path: &Path, bytes: &[u8]) -> Result<DynamicImage, DataError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MOST_BYTES);
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(files::io(path, "read it"))?;
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(|cause| bad(path, cause.to_string()))?;
    let (width, height) = decoder.dimensions();
    if width.max(height) > MOST_PIXELS || decoder.total_bytes() > MOST_BYTES {
        let limit = format!("{MOST_PIXELS}×{MOST_PIXELS} and {MOST_BYTES} bytes");
        return Err(DataError::TooLarge { file: path.to_owned(), width, height, limit });
    }
    if width == 0 || height == 0 {
        return Err(bad(path, "it has no pixels"));
    }
    if is_cut_jpeg(bytes) {
        return Err(bad(path, "the file is cut short: no end of picture after its last scan"));
    }
    DynamicImage::from_decoder(decoder).map_err(|cause| bad(path, cause.to_string()))
}

/// Whether `bytes` are a JPEG without an end. The decoder would fill up what is missing with grey.
fn is_cut_jpeg(bytes: &[u8]) -> bool {
    let scan = bytes.windows(2).rposition(|pair| pair == [0xff, 0xda]).unwrap_or(0);
    bytes.starts_with(&[0xff, 0xd8]) && !bytes[scan..].windows(2).any(|pair| pair == [0xff, 0xd9])
}

/// Rows and columns.
pub(crate) fn size(picture: &DynamicImage) -> (usize, usize) {
    let (width, height) = picture.dimensions();
    (height as usize, width as usize)
}

/// The C×H×W bytes of `picture`, in one channel (grey) or three (red, green, blue), resampled to
/// the size of `shape` where it has another. Transparency is dropped. `path` is for messages.
pub(crate) fn planes(path: &Path, picture: &DynamicImage, shape: Shape) -> Result<Vec<u8>, DataError> {
    guard(path, || {
        let resized = (size(picture) != (shape.height(), shape.width())).then(|| {
            let filter = image::imageops::FilterType::Triangle;
            picture.resize_exact(shape.width() as u32, shape.height() as u32, filter)
        });
        let picture = resized.as_ref().unwrap_or(picture);
        if shape.channels() == 1 {
            return Ok(picture.to_luma8().into_raw());
        }
        let interleaved = picture.to_rgb8().into_raw();
        Ok((0..3).flat_map(|channel| interleaved.iter().skip(channel).step_by(3).copied()).collect())
    })
}
