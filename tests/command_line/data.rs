//! Data sets that are missing, damaged or lie.

use std::io::Write;

use super::common::command::{Outcome, Place, SMALL};
use super::{DATA, DEVICE};

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

/// 16 training and 8 test pictures; the test split is packed.
fn mnist() -> Place {
    let place = Place::new();
    let pictures = |count: u32| idx(&[count, 28, 28], &(0..count * 784).map(|i| (i % 251) as u8).collect::<Vec<_>>());
    let labels = |count: u8| idx(&[count.into()], &(0..count).map(|i| i % 10).collect::<Vec<_>>());
    place.write("train-images-idx3-ubyte", &pictures(16));
    place.write("train-labels-idx1-ubyte", &labels(16));
    place.write("t10k-images-idx3-ubyte.gz", &gzip(&pictures(8)));
    place.write("t10k-labels-idx1-ubyte.gz", &gzip(&labels(8)));
    place.write("small.toml", SMALL.replace("train-samples = 22\ntest-samples = 16\n", "").as_bytes());
    place
}

fn train_mnist(place: &Place) -> Outcome {
    // The device is not there: data must be refused before any device is looked for.
    place.small("train", &format!("--steps 1 --data mnist --devices none-such --path {}", place.text("")))
}

#[test]
fn mnist_that_is_whole_trains() {
    let place = mnist();
    place.small("train", &format!("--steps 1 --data mnist --path {}", place.text(""))).done();
    train_mnist(&place).refused(DEVICE, &["none-such"]);
}

#[test]
fn row_10_mnist_that_is_not_there_is_refused() {
    let place = mnist();
    place.small("train", "--data mnist --path /nonexistent").refused(DATA, &["/nonexistent", "train-images"]);
    place.small("train", "--data mnist").refused(DATA, &["needs a path", "train-images"]);
    std::fs::remove_file(place.path("train-labels-idx1-ubyte")).unwrap();
    train_mnist(&place).refused(DATA, &["train labels", "train-labels-idx1-ubyte", "put the file there"]);
}

#[test]
fn row_10_idx_files_that_are_cut_are_refused() {
    let (images, packed) = ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz");
    let whole = mnist().read(images);
    for length in [0, 3, 15, 16, 1000, whole.len() - 1] {
        let place = mnist();
        place.write(images, &whole[..length]);
        train_mnist(&place).refused(DATA, &[images, "wanted", "found", "original"]);
    }
    let whole = mnist().read(packed);
    for length in [0, 2, 10, whole.len() / 2, whole.len() - 1] {
        let place = mnist();
        place.write(packed, &whole[..length]);
        train_mnist(&place).refused(DATA, &[packed]);
    }
}

#[test]
fn row_12_idx_files_that_lie_are_refused() {
    let place = mnist();
    place.write("train-images-idx3-ubyte", &idx(&[16], &[0; 16]));
    train_mnist(&place).refused(DATA, &["train-images-idx3-ubyte", "0x00000803", "0x00000801", "byte 0"]);
    let place = mnist();
    place.write("train-labels-idx1-ubyte", &idx(&[15], &[0; 15]));
    train_mnist(&place).refused(DATA, &["16 pictures", "15 labels", "train-labels-idx1-ubyte"]);
    let place = mnist();
    let mut labels = [3; 16];
    labels[7] = 10;
    place.write("train-labels-idx1-ubyte", &idx(&[16], &labels));
    train_mnist(&place).refused(DATA, &["train-labels-idx1-ubyte", "sample 7", "label 10", "10 classes"]);
}

#[test]
fn row_10_a_cifar_file_that_is_no_whole_number_of_records_is_refused() {
    let place = Place::new();
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        place.write(&format!("{name}.bin"), &[1; 2 * 3073]);
    }
    let train = format!("train --model cnn-small --devices none-such --data cifar10 --path {}", place.text(""));
    place.run(&train).refused(DEVICE, &["none-such"]);
    place.write("data_batch_3.bin", &[1; 3073 + 5]);
    place.run(&train).refused(DATA, &["data_batch_3.bin", "3073", "found 3078", "5 bytes past record 1"]);
    let mut records = [1; 2 * 3073];
    records[3073] = 10;
    place.write("data_batch_3.bin", &records);
    place.run(&train).refused(DATA, &["data_batch_3.bin", "sample 1", "label 10"]);
}

/// A chunk of a PNG file.
fn png_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut checksum = flate2::Crc::new();
    checksum.update(kind);
    checksum.update(data);
    [&(data.len() as u32).to_be_bytes(), &kind[..], data, &checksum.sum().to_be_bytes()].concat()
}

/// A grey PNG of the given size with hardly any picture data behind its header.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 0, 0, 0, 0]);
    [b"\x89PNG\r\n\x1a\n".to_vec(), png_chunk(b"IHDR", &header), png_chunk(b"IDAT", &[0x78, 0x9c])].concat()
}

#[test]
fn row_11_pictures_that_cannot_be_decoded_or_are_too_large_are_refused() {
    let place = Place::new();
    for folder in ["set/train/a", "set/train/b", "set/test/a", "set/test/b"] {
        std::fs::create_dir_all(place.path(folder)).unwrap();
        place.write(&format!("{folder}/1.png"), b"no picture");
    }
    let train = "train --devices none-such --data folder --path @set";
    place.run(train).refused(DATA, &["1.png", "--skip-bad"]);
    for folder in ["set/train/a", "set/train/b", "set/test/a", "set/test/b"] {
        place.write(&format!("{folder}/1.png"), &png_header(60_000, 60_000));
    }
    place.run(train).refused(DATA, &["1.png", "60000×60000", "--skip-bad"]);
    place.run("train --devices none-such --data folder --path @nowhere").refused(DATA, &["nowhere"]);
}
