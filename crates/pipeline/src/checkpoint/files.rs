//! Tensors in safetensors files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::destination::Destination;
use super::{CheckpointError, disk, header};

/// A manifest has some hundred bytes for each tensor, of which there are at most 65,536.
const LARGEST_MANIFEST: u64 = 64 << 20;

/// Sides and values of a tensor.
pub type Values = (Vec<usize>, Vec<f32>);

/// Writes tensors as one safetensors file, synced to the disk. The same tensors give the same bytes.
///
/// # Errors
/// Where the file cannot be written; a partial file is removed.
pub fn write_tensors(path: &Path, tensors: &BTreeMap<String, Values>) -> Result<(), CheckpointError> {
    let invalid = |error: safetensors::SafeTensorError| CheckpointError::Invalid {
        path: path.to_owned(),
        reason: format!("cannot be written as safetensors: {error}"),
    };
    let views = tensors
        .iter()
        .map(|(name, (dims, values))| {
            let view = TensorView::new(Dtype::F32, dims.clone(), bytemuck::cast_slice(values))?;
            Ok((name.as_str(), view))
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(invalid)?;
    let bytes = serialize(views, None).map_err(invalid)?;
    write_file(path, &bytes)
}

/// Writes a whole file where `path` leads, synced to the disk: beside its place first, so that what was there before is not
/// lost where writing fails. What is no file, such as a pipe, is written to as it is.
///
/// # Errors
/// Where it cannot be written; a partial file is removed.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let failed = CheckpointError::io("writing", path);
    match Destination::of(path) {
        Err(error) => Err(failed(error)),
        Ok(Destination::Into(path)) => {
            let file = File::options().write(true).truncate(true).open(path);
            file.and_then(|mut file| file.write_all(bytes)).map_err(failed)
        }
        Ok(Destination::Beside { partial, place }) => {
            let written = disk::write(&partial, bytes).and_then(|()| disk::rename("storage.rename", &partial, &place));
            written.map_err(|error| {
                // Removing is best effort: the error that is told is the one of the write.
                let _ = std::fs::remove_file(&partial);
                failed(error)
            })
        }
    }
}

/// The CRC-32 of each tensor's bytes.
pub(super) fn checksums(tensors: &BTreeMap<String, Values>) -> BTreeMap<String, u32> {
    tensors.iter().map(|(name, (_, values))| (name.clone(), crc32fast::hash(bytemuck::cast_slice(values)))).collect()
}

/// Reads the single-precision tensors of a safetensors file.
///
/// # Errors
/// Where the file cannot be read, is no safetensors file, or has tensors of another type.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Values>, CheckpointError> {
    let bytes = checked(path)?;
    tensors(&bytes).map_err(|reason| CheckpointError::Invalid { path: path.to_owned(), reason })
}

/// The tensors of a file whose header is sound; else why there are none.
fn tensors(bytes: &[u8]) -> Result<BTreeMap<String, Values>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("is no safetensors file: {error}"))?;
    let values = |(name, view): (String, TensorView<'_>)| match view.dtype() {
        Dtype::F32 => Ok((name, (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data())))),
        other => Err(format!("tensor `{name}` is {other:?}; wanted F32")),
    };
    file.tensors().into_iter().map(values).collect()
}

/// As [`read_tensors`], of a file that is all in memory.
#[cfg(fuzzing)]
pub(crate) fn read_bytes(bytes: &[u8]) -> Result<BTreeMap<String, Values>, String> {
    header::check(&mut &*bytes, bytes.len() as u64)?;
    tensors(bytes)
}

/// The bytes of a safetensors file whose header is sound.
fn checked(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let reading = CheckpointError::io("reading", path);
    let (mut file, length) = match File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((length, file)) => (file, length),
        Err(error) => return Err(reading(error)),
    };
    if let Err(reason) = header::check(&mut file, length) {
        let reason = if begins_like_a_pickle(&mut file) { PICKLE.to_owned() } else { reason };
        return Err(CheckpointError::Invalid { path: path.to_owned(), reason });
    }
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(reading)?;
    Ok(bytes)
}

const PICKLE: &str =
    "is a pickle or an archive of one, which can run code when read; convert it with `safetensors.torch.save_file`";

/// Pickles and the archives that hold them can run code when they are read; they are never decoded. Their first bytes
/// alone say nothing: 80 02 also begins a header of 640 bytes.
fn begins_like_a_pickle(file: &mut File) -> bool {
    let mut first = [0; 4];
    let read = file.rewind().and_then(|()| file.read_exact(&mut first));
    read.is_ok() && matches!(first, [0x80, 2..=5, ..] | [b'P', b'K', 3, 4])
}

/// The text of a manifest.
pub(super) fn text_of_manifest(path: &Path) -> Result<String, CheckpointError> {
    let file = File::open(path).map_err(CheckpointError::io("reading", path))?;
    let mut text = String::new();
    file.take(LARGEST_MANIFEST + 1).read_to_string(&mut text).map_err(CheckpointError::io("reading", path))?;
    if text.len() as u64 > LARGEST_MANIFEST {
        let reason = format!("is larger than {LARGEST_MANIFEST} bytes, which no manifest is");
        return Err(CheckpointError::Invalid { path: path.to_owned(), reason });
    }
    Ok(text)
}

/// A checkpoint's files are its own: a link could lead anywhere, and a pipe could keep its reader for ever.
pub(super) fn refuse_all_but_files(path: &Path) -> Result<(), CheckpointError> {
    let reason = match std::fs::symlink_metadata(path).map(|found| found.file_type()) {
        Ok(found) if found.is_symlink() => "is a symbolic link, which is not followed; put the file itself there",
        Ok(found) if !found.is_file() => "is not a file",
        // What is not there is told where it is opened.
        _ => return Ok(()),
    };
    Err(CheckpointError::Invalid { path: path.to_owned(), reason: reason.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_whose_header_begins_like_a_pickle_is_read() {
        // Names of growing length until the header has 640 bytes: the file begins with 80 02.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        for length in 500..640 {
            let tensors = BTreeMap::from([("n".repeat(length), (vec![2], vec![1.0, 2.0]))]);
            write_tensors(&path, &tensors).unwrap();
            assert_eq!(read_tensors(&path).unwrap(), tensors);
            if std::fs::read(&path).unwrap().starts_with(b"\x80\x02") {
                return;
            }
        }
        panic!("no header of 640 bytes came about");
    }
}
