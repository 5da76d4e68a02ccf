use std::fs;

use proptest::prelude::*;

use super::*;

/// The bytes of a picture file of `height` × `width` pixels.
fn encoded(name: &str, height: u32, width: u32, grey: bool, value: u8) -> Vec<u8> {
    let picture = if grey {
        DynamicImage::ImageLuma8(image::GrayImage::from_pixel(width, height, image::Luma([value])))
    } else {
        let colour = |x: u32, y: u32| image::Rgb([value, x as u8, y as u8]);
        DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, colour))
    };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let format = image::ImageFormat::from_path(name).unwrap();
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Two classes, `ant` and `bee`, with 2 + 1 training and 1 + 1 test pictures of 4 rows × 5 columns.
fn folder(grey: bool) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let files = ["train/bee/1.png", "train/ant/2.png", "train/ant/1.PNG", "test/ant/x.jpg", "test/bee/y.jpeg"];
    for (value, name) in (10..).step_by(10).zip(files) {
        put(folder.path(), name, &encoded(name, 4, 5, grey, value));
    }
    put(folder.path(), "train/ant/notes.txt", b"not a picture");
    put(folder.path(), "train/ant/.hidden.png", b"not a picture");
    folder
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn message(result: Result<(Dataset, Dataset), DataError>) -> String {
    result.unwrap_err().to_string()
}

/// A PNG whose header says `width` × `height`, and nothing else.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    chunk.extend(width.to_be_bytes());
    chunk.extend(height.to_be_bytes());
    chunk.extend([8, 2, 0, 0, 0]);
    let crc = crc32fast::hash(&chunk);
    let data = [&[0, 0, 0, 0][..], b"IDAT", &crc32fast::hash(b"IDAT").to_be_bytes()].concat();
    [b"\x89PNG\r\n\x1a\n\0\0\0\x0d", &chunk[..], &crc.to_be_bytes(), &data].concat()
}

#[test]
fn classes_and_files_are_in_order_and_channels_outermost() {
    let folder = folder(false);
    let (train, test) = open(folder.path(), None, None, 0).unwrap();
    assert_eq!(train.class_names(), ["ant", "bee"]);
    assert_eq!((train.len(), test.len(), train.shape()), (3, 2, Shape::new(3, 4, 5).unwrap()));
    let labels: Vec<u32> = (0..3).map(|index| train.sample(index).unwrap().1).collect();
    assert_eq!(labels, [0, 0, 1]);
    let (pixels, _) = train.sample(0).unwrap(); // ant/1.PNG, the third of the list
    assert_eq!(pixels[..20], [30; 20]);
    assert_eq!(pixels[20..26], [0, 1, 2, 3, 4, 0]); // green counts columns
    assert_eq!(pixels[40..46], [0, 0, 0, 0, 0, 1]); // blue counts rows
}

#[test]
fn grey_stays_grey_unless_asked() {
    let folder = folder(true);
    assert_eq!(open(folder.path(), None, None, 0).unwrap().0.shape().channels(), 1);
    assert_eq!(open(folder.path(), None, Some(3), 0).unwrap().0.shape().channels(), 3);
    assert!(message(open(folder.path(), None, Some(2), 0)).contains("channels"));
    put(folder.path(), "train/bee/2.png", &encoded("2.png", 4, 5, false, 0));
    assert_eq!(open(folder.path(), None, None, 0).unwrap().0.report().colour_lost, 1);
    assert_eq!(open(folder.path(), None, Some(1), 0).unwrap().0.report().colour_lost, 0);
}

#[test]
fn decoding_at_each_reading_gives_the_same() {
    let folder = folder(false);
    let (train, _) = open(folder.path(), None, None, 0).unwrap();
    let (lazy, _) = open_within(0, folder.path(), None, None, 0).unwrap();
    assert_eq!(train.fingerprint(), lazy.fingerprint());
    assert_eq!(train.batch(&[2, 0]).unwrap(), lazy.batch(&[2, 0]).unwrap());
    fs::remove_file(folder.path().join("train/bee/1.png")).unwrap();
    assert!(lazy.batch(&[2]).unwrap_err().to_string().contains("1.png"));
}

#[test]
fn another_size_is_refused_or_resampled() {
    let folder = folder(false);
    put(folder.path(), "test/ant/wide.png", &encoded("wide.png", 4, 9, false, 0));
    let found = message(open(folder.path(), None, None, 9));
    assert!(found.contains("wide.png` is 4 rows × 9 columns and the others are 4 × 5"), "{found}");
    let (_, test) = open(folder.path(), Some((6, 3)), None, 0).unwrap();
    assert_eq!((test.len(), test.shape()), (3, Shape::new(3, 6, 3).unwrap()));
    assert!(message(open(folder.path(), Some((0, 3)), None, 0)).contains("shape"));
}

#[test]
fn bad_pictures_are_named_or_counted_and_left_out() {
    let folder = folder(false);
    put(folder.path(), "train/ant/0.png", b"no picture at all");
    let whole = encoded("cut.jpg", 64, 64, false, 9);
    put(folder.path(), "test/bee/cut.jpg", &whole[..whole.len() * 3 / 4]);
    assert!(message(open(folder.path(), None, None, 0)).contains("0.png"));
    let found = message(open(folder.path(), None, None, 1));
    assert!(found.contains("2 pictures are bad") && found.contains("0.png"), "{found}");
    let (train, test) = open(folder.path(), None, None, 2).unwrap();
    assert_eq!((train.len(), test.len()), (3, 2));
    assert!(train.report().skipped[1].reason.contains("cut short"), "{:?}", train.report());
}

#[test]
fn a_picture_of_60000_by_60000_is_refused_from_its_header() {
    let folder = folder(false);
    put(folder.path(), "train/ant/0.png", &png_header(60_000, 60_000));
    let found = message(open(folder.path(), None, None, 0));
    assert!(found.contains("60000×60000"), "{found}");
    let mut jpeg = encoded("a.jpg", 8, 8, false, 0);
    let frame = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xea, 0x60, 0xea, 0x60]);
    put(folder.path(), "train/ant/0.png", &jpeg);
    let found = message(open(folder.path(), None, None, 0));
    assert!(found.contains("60000×60000"), "{found}");
}

#[test]
fn splits_must_agree_and_hold_something() {
    let folder = folder(false);
    put(folder.path(), "train/cat/1.png", &encoded("1.png", 4, 5, false, 0));
    assert!(message(open(folder.path(), None, None, 0)).contains("only in train: [\"cat\"]"));
    fs::remove_dir_all(folder.path().join("test")).unwrap();
    assert!(message(open(folder.path(), None, None, 0)).contains("`test`"));
    fs::create_dir_all(folder.path().join("test/ant")).unwrap();
    fs::create_dir_all(folder.path().join("test/bee")).unwrap();
    fs::remove_dir_all(folder.path().join("train/cat")).unwrap();
    assert!(message(open(folder.path(), None, None, 0)).contains("empty"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn no_damage_panics(at in 0usize..600, byte: u8, cut in 0usize..600, jpeg: bool) {
        let name = if jpeg { "a.jpg" } else { "a.png" };
        let mut bytes = encoded(name, 12, 9, false, 77);
        let place = at % bytes.len();
        bytes[place] = byte;
        bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(300)));
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), name, &bytes);
        let _ = picture::decode(&folder.path().join(name));
    }
}
