//! MNIST and its relatives: IDX files, plain or gzip.
//!
//! An IDX file is: two zero bytes; the type of its items (8: bytes); the number of dimensions; each
//! dimension as four bytes, big-endian; the items.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::files;
use crate::source::{check_labels, reserve};
use crate::{DataError, Dataset, Shape};

/// Digits, in MNIST and in everything that stands in for it.
const CLASSES: usize = 10;

/// Deflate cannot pack more than 1032 bytes into one.
const MOST_PACKED: u64 = 1032;

/// What a file should hold, and its number of dimensions.
pub(crate) const IMAGES: (&str, u8) = ("pictures", 3);
pub(crate) const LABELS: (&str, u8) = ("labels", 1);

/// The four files and their accepted names, for messages and help.
pub(crate) const WANTED: &str = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and \
     t10k-labels-idx1-ubyte (also with `.idx`, also with `.gz`)";

/// Opens the four files in `folder`.
pub(crate) fn open(folder: &Path) -> Result<(Dataset, Dataset), DataError> {
    let (train_shape, train_pixels, train_labels) = split(folder, "train")?;
    let (test_shape, test_pixels, test_labels) = split(folder, "t10k")?;
    if train_shape != test_shape {
        return Err(DataError::Splits { name: "mnist".to_owned(), train: train_shape, test: test_shape });
    }
    let names = (0..CLASSES).map(|digit| digit.to_string()).collect();
    Dataset::in_memory("mnist", train_shape, names, (train_pixels, train_labels), (test_pixels, test_labels))
}

/// Shape, N×1×H×W bytes and N labels of one split.
fn split(folder: &Path, prefix: &str) -> Result<(Shape, Vec<u8>, Vec<u32>), DataError> {
    let images = find(folder, prefix, "images", 3)?;
    let labels = find(folder, prefix, "labels", 1)?;
    let (_, label_bytes) = read(&labels, LABELS)?;
    let (dimensions, pixels) = read(&images, IMAGES)?;
    let [pictures, height, width] = dimensions[..] else {
        return Err(DataError::Empty { place: images }); // cannot be: three dimensions were asked for
    };
    if pictures == 0 || height == 0 || width == 0 {
        return Err(DataError::Empty { place: images });
    }
    if pictures != label_bytes.len() {
        return Err(DataError::Count { images, labels, pictures, count: label_bytes.len() });
    }
    let label_values: Vec<u32> = label_bytes.into_iter().map(u32::from).collect();
    check_labels(&labels, &label_values, CLASSES)?;
    Ok((Shape::new(1, height, width)?, pixels, label_values))
}

fn find(folder: &Path, prefix: &str, part: &str, rank: u8) -> Result<PathBuf, DataError> {
    let names: Vec<String> = ["-", "."]
        .iter()
        .flat_map(|dot| ["", ".gz"].map(|gz| format!("{prefix}-{part}{dot}idx{rank}-ubyte{gz}")))
        .collect();
    files::find("mnist", &format!("file of {prefix} {part}"), folder, &names)
}

/// Dimensions and items of one file, unpacked if its first bytes say that it is packed.
fn read(path: &Path, wanted: (&'static str, u8)) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let (file, length) = files::open(path)?;
    read_from(path, file, length, wanted)
}

/// As [`read`], from `file`, of which `length` bytes are on disk. `path` is for messages.
pub(crate) fn read_from(
    path: &Path,
    mut file: impl Read + Seek,
    length: u64,
    wanted: (&'static str, u8),
) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let mut start = Vec::new();
    (&mut file).take(2).read_to_end(&mut start).map_err(files::io(path, "read it"))?;
    file.rewind().map_err(files::io(path, "read it"))?;
    let file = std::io::BufReader::new(file);
    if start == [0x1f, 0x8b] {
        parse(path, MultiGzDecoder::new(file), length, true, wanted)
    } else {
        parse(path, file, length, false, wanted)
    }
}

/// Reads an IDX file of `wanted` from `input`, which is what `length` bytes on disk hold.
fn parse(
    path: &Path,
    mut input: impl Read,
    length: u64,
    packed: bool,
    (what, rank): (&'static str, u8),
) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let doing = if packed { "unpack it" } else { "read it" };
    let header_length = 4 + 4 * u64::from(rank);
    let mut header = Vec::new();
    input.by_ref().take(header_length).read_to_end(&mut header).map_err(files::io(path, doing))?;
    let words: Vec<u32> =
        header.chunks_exact(4).map(|word| word.iter().fold(0, |value, &byte| value << 8 | u32::from(byte))).collect();
    let magic = 0x0800 | u32::from(rank);
    if let Some(&found) = words.first().filter(|&&found| found != magic) {
        return Err(DataError::Magic { file: path.to_owned(), what, wanted: magic, found });
    }
    let wrong_length = |wanted, found| DataError::Length { file: path.to_owned(), wanted, found };
    if words.len() != usize::from(rank) + 1 {
        return Err(wrong_length(header_length, header.len() as u64));
    }

    if let [_, _, rows, columns] = words[..]
        && u64::from(rows) * u64::from(columns) > Shape::MOST as u64
    {
        return Err(DataError::Pixels { file: path.to_owned(), rows, columns, most: Shape::MOST });
    }
    let items = words[1..].iter().fold(1u64, |product, &size| product.saturating_mul(u64::from(size)));
    let wanted = items.saturating_add(header_length);
    if !packed && wanted != length {
        return Err(wrong_length(wanted, length));
    }
    if packed && wanted / MOST_PACKED > length {
        return Err(DataError::Packed { file: path.to_owned(), wanted, packed: length });
    }
    // One byte more than wanted: to see whether the file goes on, and to reach gzip's checksum.
    let capacity = usize::try_from(items).map_or(usize::MAX, |items| items.saturating_add(1));
    let mut body = reserve(what, if packed { capacity.min(1 << 26) } else { capacity })?;
    input.take(items.saturating_add(1)).read_to_end(&mut body).map_err(files::io(path, doing))?;
    if body.len() as u64 != items {
        return Err(wrong_length(wanted, header_length + body.len() as u64));
    }
    Ok((words[1..].iter().map(|&size| size as usize).collect(), body))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// An IDX file of the given dimensions whose items are `items`.
    fn idx(dimensions: &[u32], items: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, 8, dimensions.len() as u8];
        dimensions.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
        bytes.extend(items);
        bytes
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(bytes).unwrap();
        packer.finish().unwrap()
    }

    /// A good data set of 3 + 2 pictures of 1×2×2, one file of which is then replaced.
    fn folder(replace: &str, by: Option<&[u8]>) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("train-images-idx3-ubyte", idx(&[3, 2, 2], &[7; 12])),
            ("train-labels.idx1-ubyte", idx(&[3], &[0, 9, 4])),
            ("t10k-images-idx3-ubyte.gz", gzip(&idx(&[2, 2, 2], &[9; 8]))),
            ("t10k-labels-idx1-ubyte", gzip(&idx(&[2], &[1, 2]))),
        ];
        for (name, bytes) in &files {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        if !replace.is_empty() {
            let path = folder.path().join(replace);
            by.map_or_else(|| std::fs::remove_file(&path), |bytes| std::fs::write(&path, bytes)).unwrap();
        }
        folder
    }

    fn error(replace: &str, by: &[u8]) -> String {
        open(folder(replace, Some(by)).path()).unwrap_err().to_string()
    }

    #[test]
    fn plain_gzip_dashed_and_dotted_files_are_read() {
        let (train, test) = open(folder("", None).path()).unwrap();
        assert_eq!((train.len(), test.len(), train.classes()), (3, 2, 10));
        assert_eq!(train.shape(), Shape::new(1, 2, 2).unwrap());
        assert_eq!(train.sample(1).unwrap(), (vec![7; 4], 9));
        assert_eq!(test.sample(1).unwrap(), (vec![9; 4], 2));
    }

    #[test]
    fn errors_name_file_wanted_and_found() {
        let images = "train-images-idx3-ubyte";
        let found = error(images, &idx(&[3], &[0; 3]));
        assert!(found.contains(images) && found.contains("0x00000803") && found.contains("0x00000801"), "{found}");
        let found = error(images, &idx(&[3, 2, 2], &[7; 11]));
        assert!(found.contains("wanted 28 bytes") && found.contains("found 27"), "{found}");
        let found = error(images, &idx(&[3, 2, 2], &[7; 13]));
        assert!(found.contains("found at least 29"), "{found}");
        assert!(error(images, &[0, 0, 8]).contains("found 3;"));
        assert!(error(images, &[]).contains("found 0;"));
        assert!(error(images, &idx(&[0, 2, 2], &[])).contains("empty"));
        assert!(error(images, &idx(&[3, 0, 2], &[])).contains("empty"));
        assert!(error(images, &idx(&[4, 2, 2], &[7; 16])).contains("4 pictures"));
        let found = error("train-labels.idx1-ubyte", &idx(&[3], &[0, 10, 4]));
        assert!(found.contains("sample 1 has label 10, and there are 10 classes"), "{found}");
        let found = open(folder(images, None).path()).unwrap_err().to_string();
        assert!(found.contains("train-images.idx3-ubyte.gz"), "{found}");
    }

    #[test]
    fn a_header_of_2_to_the_96_bytes_allocates_nothing() {
        let header = idx(&[u32::MAX; 3], &[]);
        assert!(error("train-images-idx3-ubyte", &header).contains("4294967295 rows"));
        assert!(error("t10k-images-idx3-ubyte.gz", &gzip(&header)).contains("4294967295 columns"));
        let many = idx(&[u32::MAX, 28, 28], &[]);
        assert!(error("train-images-idx3-ubyte", &many).contains("wanted"));
        assert!(error("t10k-images-idx3-ubyte.gz", &gzip(&many)).contains("cannot hold so many"));
    }

    #[test]
    fn gzip_that_is_too_long_too_short_or_damaged_is_refused() {
        let name = "t10k-images-idx3-ubyte.gz";
        let mut endless = idx(&[2, 2, 2], &[9; 8]);
        endless.resize(50_000_000, 0);
        assert!(error(name, &gzip(&endless)).contains("found at least 25"));
        assert!(error(name, &gzip(&idx(&[2, 2, 2], &[9; 7]))).contains("found 23"));
        let mut damaged = gzip(&idx(&[2, 2, 2], &[9; 8]));
        let crc = damaged.len() - 6;
        damaged[crc] ^= 1;
        assert!(error(name, &damaged).contains("cannot unpack it"));
        damaged.truncate(20);
        assert!(error(name, &damaged).contains("cannot unpack it"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), packed: bool, good_start: bool) {
            let mut bytes = bytes;
            if good_start {
                bytes.splice(0..0, [0, 0, 8, 3, 0, 0, 0]);
            }
            let packed_bytes = if packed { gzip(&bytes) } else { bytes };
            for (name, damage) in [("train-images-idx3-ubyte", 0), ("t10k-labels-idx1-ubyte", 1)] {
                let cut = &packed_bytes[..packed_bytes.len().saturating_sub(damage)];
                let _ = open(folder(name, Some(cut)).path());
            }
        }
    }
}
