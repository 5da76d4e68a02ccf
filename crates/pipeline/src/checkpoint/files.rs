//! Tensors in safetensors files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};

use super::CheckpointError;

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
    write_synced(path, &bytes)
}

/// Writes a whole file and syncs it: beside its place first, so that what was there before is not lost where writing
/// fails. Where the place is taken by something that is no file, such as a pipe, that is written to as it is.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let failed = CheckpointError::io("writing", path);
    if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
        return File::options().write(true).open(path).and_then(|mut file| file.write_all(bytes)).map_err(failed);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|error| {
        // Removing is best effort: the error that is told is the one of the write.
        let _ = std::fs::remove_file(&partial);
        failed(error)
    })
}

/// Reads the single-precision tensors of a safetensors file.
///
/// # Errors
/// Where the file cannot be read, is no safetensors file, or has tensors of another type.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Values>, CheckpointError> {
    let bytes = std::fs::read(path).map_err(CheckpointError::io("reading", path))?;
    let invalid = |reason: String| CheckpointError::Invalid { path: path.to_owned(), reason };
    let file = SafeTensors::deserialize(&bytes).map_err(|error| invalid(reason(&bytes, &error)))?;
    file.tensors()
        .into_iter()
        .map(|(name, view)| match view.dtype() {
            Dtype::F32 => Ok((name, (view.shape().to_vec(), bytemuck::pod_collect_to_vec(view.data())))),
            other => Err(invalid(format!("tensor `{name}` is {other:?}; wanted F32"))),
        })
        .collect()
}

/// Why bytes are no safetensors file. Pickles and the archives that hold them can run code when they are read; they
/// are never decoded. Their first bytes alone say nothing: 80 02 also begins a header of 640 bytes.
fn reason(bytes: &[u8], error: &safetensors::SafeTensorError) -> String {
    if matches!(bytes, [0x80, 2..=5, ..] | [b'P', b'K', 3, 4, ..]) {
        return "is a pickle or an archive of one, which can run code when read; \
                convert it with `safetensors.torch.save_file`"
            .into();
    }
    format!("is no whole safetensors file ({} bytes found): {error}", bytes.len())
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
