//! CIFAR-10 in its binary version: records of one label and 3×32×32 bytes, five training files and one test file.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::files;
use crate::source::{check_labels, reserve};
use crate::{DataError, Dataset, Shape};

const PICTURE: usize = 3 * 32 * 32;
const RECORD: usize = 1 + PICTURE;

/// The classes, in the order of their labels.
const CLASSES: [&str; 10] = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// The files, for messages and help.
pub(crate) const WANTED: &str = "data_batch_1.bin … data_batch_5.bin and test_batch.bin (the binary version)";

/// Opens the six files in `folder`, or in the sub-folder into which the archive unpacks.
pub(crate) fn open(folder: &Path) -> Result<(Dataset, Dataset), DataError> {
    let inner = folder.join("cifar-10-batches-bin");
    let folder = if inner.is_dir() { inner.as_path() } else { folder };
    let training: Vec<String> = (1..=5).map(|number| format!("data_batch_{number}.bin")).collect();
    let train = split(folder, &training)?;
    let test = split(folder, &["test_batch.bin".to_owned()])?;
    let names = CLASSES.map(str::to_owned).to_vec();
    Dataset::in_memory("cifar10", Shape::new(3, 32, 32)?, names, train, test)
}

/// N×3×32×32 bytes and N labels: the records of all files, one after the other.
fn split(folder: &Path, names: &[String]) -> Result<(Vec<u8>, Vec<u32>), DataError> {
    let paths: Result<Vec<PathBuf>, DataError> =
        names.iter().map(|name| files::find("cifar10", name, folder, std::slice::from_ref(name))).collect();
    let (mut pixels, mut labels) = (Vec::new(), Vec::new());
    for path in paths? {
        let (file, length) = files::open(&path)?;
        let (own_pixels, own_labels) = records(&path, file, length)?;
        pixels.extend(own_pixels);
        labels.extend(own_labels);
    }
    Ok((pixels, labels))
}

/// Pixels and labels of `file`, of which `length` bytes are on disk. `path` is for messages.
pub(crate) fn records(path: &Path, file: impl Read, length: u64) -> Result<(Vec<u8>, Vec<u32>), DataError> {
    let bytes = read(path, file, length)?;
    let records = bytes.chunks_exact(RECORD);
    let labels: Vec<u32> = records.clone().map(|record| u32::from(record[0])).collect();
    check_labels(path, &labels, CLASSES.len())?;
    Ok((records.flat_map(|record| &record[1..]).copied().collect(), labels))
}

/// The whole of a file, which is one record or more.
fn read(path: &Path, file: impl Read, length: u64) -> Result<Vec<u8>, DataError> {
    if length == 0 {
        return Err(DataError::Empty { place: path.to_owned() });
    }
    let wrong_length = |found| DataError::Record { file: path.to_owned(), record: RECORD as u64, found };
    if !length.is_multiple_of(RECORD as u64) {
        return Err(wrong_length(length));
    }
    let mut bytes = reserve("a CIFAR-10 file", usize::try_from(length).unwrap_or(usize::MAX))?;
    file.take(length).read_to_end(&mut bytes).map_err(files::io(path, "read it"))?;
    if bytes.len() % RECORD != 0 {
        return Err(wrong_length(bytes.len() as u64)); // it shrank meanwhile
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Six good files of `count` records each, whose labels and pixels count up.
    fn folder(count: u8) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let record = |label| [vec![label], vec![label * 10; PICTURE]].concat();
        let bytes: Vec<u8> = (0..count).flat_map(record).collect();
        for number in 1..=5 {
            std::fs::write(folder.path().join(format!("data_batch_{number}.bin")), &bytes).unwrap();
        }
        std::fs::write(folder.path().join("test_batch.bin"), &bytes).unwrap();
        folder
    }

    #[test]
    fn records_of_all_files_follow_each_other() {
        let (train, test) = open(folder(3).path()).unwrap();
        assert_eq!((train.len(), test.len()), (15, 3));
        assert_eq!(train.sample(13).unwrap(), (vec![10; PICTURE], 1));
        assert_eq!(train.class_names()[9], "truck");
    }

    #[test]
    fn a_part_of_a_record_is_refused() {
        let folder = folder(2);
        let path = folder.path().join("data_batch_3.bin");
        std::fs::write(&path, vec![0; 2 * RECORD + 5]).unwrap();
        let found = open(folder.path()).unwrap_err().to_string();
        let all_there = ["data_batch_3.bin", "multiple of 3073", "found 6151", "5 bytes past record 2"];
        assert!(all_there.iter().all(|part| found.contains(part)), "{found}");
        std::fs::write(&path, []).unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("empty"));
        std::fs::remove_file(&path).unwrap();
        assert!(open(folder.path()).unwrap_err().to_string().contains("no data_batch_3.bin at"));
        std::fs::create_dir(&path).unwrap();
        assert!(open(folder.path()).is_err());
    }

    #[test]
    fn a_label_of_10_is_refused() {
        let folder = folder(1);
        let mut bytes = vec![0; 3 * RECORD];
        bytes[2 * RECORD] = 10;
        std::fs::write(folder.path().join("test_batch.bin"), bytes).unwrap();
        let found = open(folder.path()).unwrap_err().to_string();
        assert!(found.contains("test_batch.bin") && found.contains("sample 2 has label 10"), "{found}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), whole in 0usize..3) {
            let folder = folder(1);
            let bytes: Vec<u8> = bytes.iter().copied().cycle().take(bytes.len() + whole * RECORD).collect();
            std::fs::write(folder.path().join("data_batch_2.bin"), bytes).unwrap();
            let _ = open(folder.path());
        }
    }
}
