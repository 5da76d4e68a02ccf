//! Bad input to the command; tests called `row_NN_words` hold a row of `faults/rows.txt`: each ends with its exit status and a message that names the
//! offender and how to mend it, and nothing panics.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::io::Write;

use common::command::{Outcome, Place, SMALL, brigade, command, flip_bit};

const USAGE: i32 = 2;
const DATA: i32 = 3;
const CHECKPOINT: i32 = 4;
const DEVICE: i32 = 5;
const STORAGE: i32 = 7;

/// `brigade train` with the small model and more flags.
fn train(flags: &str) -> Outcome {
    Place::new().small("train", flags)
}

/// `brigade train` with a run file of this text.
fn train_file(text: &str) -> Outcome {
    let place = Place::new();
    place.write("run.toml", text.as_bytes());
    place.run("train --config @run.toml")
}

/// The small model with a part of its text replaced.
fn train_edited(from: &str, to: &str) -> Outcome {
    assert!(SMALL.contains(from));
    train_file(&SMALL.replacen(from, to, 1))
}

#[test]
fn unknown_words_are_refused_with_those_that_are_known() {
    brigade(&["train", "--model", "lenet6", "--devices", "reference"]).refused(USAGE, &["`lenet6`", "lenet5"]);
    train("--schedule gpip").refused(USAGE, &["`gpip`", "gpipe", "layer-block-wise"]);
    train("--weights triple").refused(USAGE, &["weights", "`triple`", "single"]);
    train("--correction all").refused(USAGE, &["correction", "`all`", "none"]);
    train("--tune most").refused(USAGE, &["tune", "`most`", "off", "quick", "full"]);
    train("--data mnist2").refused(USAGE, &["`mnist2`", "glyphs", "cifar10"]);
    brigade(&["train", "--batchsize", "3"]).refused(USAGE, &["--batchsize", "--batch"]);
    brigade(&["trian"]).refused(USAGE, &["trian", "train"]);
}

#[test]
fn row_15_a_device_that_is_not_there_is_refused_with_the_list() {
    train("--devices rtx9090").refused(DEVICE, &["`rtx9090`", "found:", "reference", "`brigade devices`"]);
    brigade(&["check", "--devices", "rtx9090"]).refused(DEVICE, &["`rtx9090`", "reference"]);
}

#[test]
fn a_part_of_a_name_that_several_devices_have_is_refused() {
    // Where no driver is installed, only the reference has this letter, and the name is not ambiguous.
    let list = brigade(&["devices", "--json"]).json();
    let names: Vec<_> = list["devices"].as_array().unwrap().iter().map(|d| d["name"].as_str().unwrap()).collect();
    let matching: Vec<_> = names.iter().copied().filter(|name| name.to_lowercase().contains('r')).collect();
    if matching.len() > 1 {
        train("--devices r").refused(USAGE, &[&["`r` could be"], &matching[..], &["more of the name"]].concat());
    }
}

#[test]
fn without_any_adapter_the_message_says_what_to_install() {
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        let mut train = command(&["train", "--steps", "1"]);
        let outcome: Outcome = train.env(variable, "/nonexistent").output().unwrap().into();
        // A GPU under Metal or DX12 does not ask Vulkan's loader.
        if cfg!(target_os = "linux") {
            outcome.refused(DEVICE, &["no GPU found", "Install the GPU's driver", "`--devices reference`"]);
        }
    }
}

#[test]
fn software_adapters_are_never_chosen_silently() {
    let list = brigade(&["devices", "--json"]).json();
    let kinds: Vec<_> = list["devices"].as_array().unwrap().iter().map(|d| d["kind"].as_str().unwrap()).collect();
    if kinds.contains(&"software") && kinds.iter().all(|kind| ["software", "reference"].contains(kind)) {
        brigade(&["train", "--steps", "1"]).refused(DEVICE, &["only software adapters", "--devices", "driver"]);
    }
}

#[test]
fn row_14_an_unknown_key_is_named_with_its_line_and_the_nearest() {
    let outcome = train_file("seed = 1\n\nlerning-rate = 0.1\n");
    outcome.refused(USAGE, &["run.toml, line 3", "`lerning-rate`", "`learning-rate`"]);
    train_file("seed = \"one\"\n").refused(USAGE, &["run.toml, line 1"]);
    train_file("seed = \n").refused(USAGE, &["run.toml, line 1"]);
    brigade(&["train", "--config", "/nonexistent.toml"]).refused(USAGE, &["/nonexistent.toml"]);
    let place = Place::new();
    place.write("binary.toml", b"\xff\xfe\x00");
    place.run("train --config @binary.toml").refused(USAGE, &["binary.toml"]);
    // Written as holes: it takes no room on the disk, and would take all memory to read.
    let large = std::fs::File::create(place.path("large.toml")).unwrap();
    large.set_len(1 << 40).unwrap();
    place.run("train --config @large.toml").refused(USAGE, &["large.toml", "larger than 1048576 bytes"]);
}

#[test]
fn row_14_a_value_out_of_range_is_named_with_its_line() {
    for value in ["nan", "-0.1", "1e400"] {
        let text = format!("seed = 1\nlearning-rate = {value}\n");
        train_file(&text).refused(USAGE, &["run.toml, line 2", "learning-rate"]);
    }
    train_file("momentum = 1.0\n").refused(USAGE, &["run.toml, line 1", "momentum: 1 "]);
    train_file("\nbatch = 0\n").refused(USAGE, &["run.toml, line 2", "batch: 0"]);
}

#[test]
fn row_16_layers_that_cannot_be_are_named() {
    train_edited("\"relu\"", "\"gelu\"").refused(USAGE, &["`gelu1`", "`gelu`", "conv2d"]);
    train_edited("\"relu\"", "\"softmax_cross_entropy\"")
        .refused(USAGE, &["`softmax_cross_entropy` cannot be a layer"]);
    train_edited("stride = 2", "strides = 2").refused(USAGE, &["`conv1`", "`strides`", "`stride`"]);
    train_edited("stride = 2", "stride = 0").refused(USAGE, &["`conv1`", "stride"]);
    train_edited("kernel = 5", "kernel = 29").refused(USAGE, &["`conv1`", "1×28×28", "29"]);
    train_edited("p = 0.25", "p = 1.5").refused(USAGE, &["`dropout1`", "1.5"]);
    train_edited("op = \"relu\"", "op = \"relu\"\nname = \"conv1\"").refused(USAGE, &["`conv1`", "own name"]);
    train_edited("input = [1, 28, 28]", "").refused(USAGE, &["`input = [channels, rows, columns]`"]);
    train_edited("input = [1, 28, 28]", "input = [3, 28, 28]").refused(USAGE, &["3×28×28", "1×28×28"]);
    train_file("layers = []\ninput = [1, 28, 28]\n").refused(USAGE, &["no layers"]);
}

#[test]
fn row_16_sizes_that_overflow_are_refused() {
    train_edited("out_channels = 4", "out_channels = 9223372036854775807").refused(USAGE, &["`conv1`"]);
    train_edited("out_features = 12", "out_features = 9223372036854775807").refused(USAGE, &["`fc1`"]);
    train_edited("kernel = 5", "kernel = 5\npadding = 9223372036854775807").refused(USAGE, &["`conv1`"]);
    let huge = "input = [9223372036854775807, 9223372036854775807, 9223372036854775807]";
    train_edited("input = [1, 28, 28]", huge).refused(USAGE, &["`conv1`"]);
    for flags in ["--batch 18446744073709551615", "--stages 18446744073709551615"] {
        let word = &flags[2..8].trim_end();
        train(flags).refused(USAGE, &[word, "18446744073709551615"]);
        Place::new().small("plan", flags).refused(USAGE, &[word, "18446744073709551615"]);
    }
    let bench = ["bench", "pipeline", "--devices", "reference", "--stages", "18446744073709551615"];
    brigade(&bench).refused(USAGE, &["18446744073709551615 stages", "layers"]);
    let most = "--schedule 1f1b --batch 18446744073709551615 --microbatches 18446744073709551615";
    train(most).refused(USAGE, &["batch"]);
}

#[test]
fn row_15_cuts_and_stages_that_cannot_be_are_refused() {
    train("--cuts conv9").refused(USAGE, &["`conv9`", "conv1, relu1, pool1"]);
    train("--cuts relu1,conv1").refused(USAGE, &["`conv1`"]);
    train("--cuts fc2").refused(USAGE, &["`fc2`", "conv1"]);
    train("--cuts relu1 --stages 3").refused(USAGE, &["1 cuts make 2 stages", "3 stages"]);
    train("--stages 7").refused(USAGE, &["7 stages", "6 layers"]);
    train("--stages 0").refused(USAGE, &["stages: 0"]);
    train("--devices reference,reference --stages 3").refused(USAGE, &["3 stages and 2 devices"]);
    // As many stages as layers, and a device named twice, are unusual and right.
    train("--devices reference,reference --steps 1").done();
    train("--stages 6 --steps 1").done();
}

#[test]
fn row_15_numbers_out_of_range_are_refused() {
    train("--batch 0").refused(USAGE, &["batch: 0", "at least 1"]);
    train("--epochs 0").refused(USAGE, &["epochs: 0"]);
    train("--steps 0").refused(USAGE, &["steps: 0"]);
    train("--threads 0").refused(USAGE, &["threads: 0"]);
    for schedule in ["1f1b", "gpipe", "layer-block-wise"] {
        for microbatches in ["0", "9"] {
            let outcome = train(&format!("--schedule {schedule} --microbatches {microbatches}"));
            outcome.refused(USAGE, &["microbatches", microbatches, "from 1 to", "8"]);
        }
    }
    for rate in ["nan", "-1", "1e400", "inf"] {
        train(&format!("--learning-rate {rate}")).refused(USAGE, &["learning-rate", "not a number from 0"]);
    }
    // The last one becomes 1 in single precision.
    for momentum in ["1", "-0.5", "nan", "0.9999999999"] {
        train(&format!("--momentum {momentum}")).refused(USAGE, &["momentum", momentum.trim_matches('n')]);
    }
    train("--weight-decay -1").refused(USAGE, &["weight-decay", "-1"]);
    train("--batch=-1").refused(USAGE, &["-1", "--batch"]);
    train("--seed 1.5").refused(USAGE, &["1.5", "--seed"]);
}

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

/// A folder with the small model's checkpoints after each of two epochs (steps 3 and 6) in `ck`.
fn two_checkpoints() -> Place {
    let place = Place::new();
    place.small("train", "--epochs 2 --checkpoint-dir @ck").done();
    place
}

const NEWEST: &str = "ck/step-00000006";

#[test]
fn resuming_without_a_checkpoint_is_refused() {
    let place = Place::new();
    place.small("train", "--resume").refused(USAGE, &["--resume needs --checkpoint-dir"]);
    std::fs::create_dir(place.path("empty")).unwrap();
    for directory in ["empty", "missing"] {
        let outcome = place.small("train", &format!("--resume --checkpoint-dir @{directory}"));
        outcome.refused(CHECKPOINT, &[directory, "no checkpoint", "manifest.json"]);
        place.small("eval", &format!("--checkpoint @{directory}")).refused(CHECKPOINT, &[directory]);
    }
}

#[test]
fn row_01_a_checkpoint_that_was_cut_is_refused() {
    let place = two_checkpoints();
    let name = format!("{NEWEST}/weights.safetensors");
    let whole = place.read(&name);
    for length in [0, 7, 8, 30, whole.len() / 2, whole.len() - 1] {
        place.write(&name, &whole[..length]);
        let outcome = place.small("eval", &format!("--checkpoint @{NEWEST}"));
        outcome.refused(CHECKPOINT, &["weights.safetensors", &format!("{length} bytes")]);
    }
    place.write(&name, &[&whole[..], b"!"].concat());
    place.small("eval", &format!("--checkpoint @{NEWEST}")).refused(CHECKPOINT, &["weights.safetensors"]);
}

#[test]
fn row_02_one_flipped_bit_of_a_tensor_is_found() {
    let place = two_checkpoints();
    for file in ["weights", "momentum"] {
        let name = format!("{NEWEST}/{file}.safetensors");
        let whole = place.read(&name);
        flip_bit(&place.path(&name), whole.len() - 1);
        let outcome = place.small("eval", &format!("--checkpoint @{NEWEST}"));
        outcome.refused(CHECKPOINT, &[file, "tensor `fc2.weight` is damaged", "older checkpoint"]);
        place.write(&name, &whole);
    }
}

#[test]
fn row_01_resuming_falls_back_to_the_newest_that_verifies() {
    let place = two_checkpoints();
    flip_bit(
        &place.path(&format!("{NEWEST}/momentum.safetensors")),
        place.read(&format!("{NEWEST}/momentum.safetensors")).len() - 1,
    );
    let outcome = place.small("train", "--epochs 2 --checkpoint-dir @ck --resume --save @a");
    let outcome = outcome.done();
    assert!(outcome.error.contains("is damaged") && outcome.error.contains("at step 3"), "{outcome:?}");
    assert!(outcome.error.contains("3 steps must be trained again"), "{outcome:?}");
    place.small("train", "--epochs 2 --save @b").done();
    assert!(place.read("a") == place.read("b"), "the resumed run differs from an undisturbed one");
    for step in ["00000003", "00000006"] {
        place.write(&format!("ck/step-{step}/weights.safetensors"), b"");
    }
    place.small("train", "--checkpoint-dir @ck --resume").refused(CHECKPOINT, &["step-00000006", "0 bytes"]);
}

#[test]
fn row_05_pickles_and_other_foreign_files_are_not_decoded() {
    let place = Place::new();
    let pickles: [&[u8]; 4] =
        [b"\x80\x02}q\x00.", b"\x80\x04\x95\x0a", b"\x80\x05\x95\x0a", b"PK\x03\x04\x14\x00\x00\x00\x00"];
    for bytes in pickles {
        place.write("model.pt", bytes);
        place.small("eval", "--checkpoint @model.pt").refused(CHECKPOINT, &["model.pt", "can run code", "convert it"]);
    }
    let headers: [&[u8]; 5] = [
        &[0xff; 64],                 // a header of 2^64 − 1 bytes
        b"\x02\0\0\0\0\0\0\0[]",     // no object
        b"\x03\0\0\0\0\0\0\0{\xff}", // not UTF-8
        b"\x3b\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,16]}}  ", // another length
        b"\x48\0\0\0\0\0\0\0{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,0]}}",
    ];
    for bytes in headers {
        place.write("model.safetensors", bytes);
        place.small("eval", "--checkpoint @model.safetensors").refused(CHECKPOINT, &["model.safetensors"]);
    }
}

#[test]
fn row_08_a_manifest_that_lies_is_refused() {
    let place = two_checkpoints();
    let name = format!("{NEWEST}/manifest.json");
    let whole = String::from_utf8(place.read(&name)).unwrap();
    let edits = [
        ("\"format\": 1", "\"format\": 2", "format 2"),
        ("\"format\"", "\"fromat\"", "`format`"),
        ("{", "[", "manifest"),
    ];
    for (from, to, word) in edits {
        place.write(&name, whole.replacen(from, to, 1).as_bytes());
        place.small("eval", &format!("--checkpoint @{NEWEST}")).refused(CHECKPOINT, &["manifest.json", word]);
    }
    // A position beyond any run ends at once or is refused, and never panics.
    for field in ["step", "epoch", "batch", "samples"] {
        let value = whole.find(&format!("\"{field}\": ")).unwrap() + field.len() + 4;
        let digits = whole[value..].find(|c: char| !c.is_ascii_digit()).unwrap();
        let text = format!("{}18446744073709551615{}", &whole[..value], &whole[value + digits..]);
        place.write(&name, text.as_bytes());
        let outcome = place.small("train", "--epochs 3 --checkpoint-dir @ck --resume");
        assert!([0, CHECKPOINT].contains(&outcome.status), "{field}: {outcome:?}");
        place.small("train", "--epochs 2 --checkpoint-dir @ck").done();
    }
}

#[test]
fn row_07_another_models_tensors_are_refused() {
    let place = two_checkpoints();
    let resume =
        "train --model lenet5 --devices reference --checkpoint-dir @ck --resume --train-samples 22 --test-samples 16";
    let words =
        ["another model's tensors", "`conv1.weight` should be [20, 1, 5, 5] and is [4, 1, 5, 5]", "`conv2.weight`"];
    place.run(resume).refused(CHECKPOINT, &words);
    let eval = format!("eval --model lenet5 --devices reference --checkpoint @{NEWEST}");
    place.run(&eval).refused(CHECKPOINT, &words);
}

#[test]
fn row_13_changed_training_data_is_refused() {
    let place = two_checkpoints();
    let outcome = place.small("train", "--train-samples 23 --checkpoint-dir @ck --resume --epochs 3");
    outcome.refused(CHECKPOINT, &["training data has changed", "fingerprint", "--allow-changed-data"]);
    let flags = "--train-samples 23 --checkpoint-dir @ck --resume --epochs 3 --allow-changed-data";
    assert!(place.small("train", flags).done().error.contains("warning: the training data has changed"));
}

#[test]
fn another_order_of_the_samples_is_refused() {
    let place = Place::new();
    place.small("train", "--steps 4 --epochs 2 --checkpoint-dir @ck").done();
    let resume = |flags: &str| place.small("train", &format!("--checkpoint-dir @ck --resume --epochs 3 {flags}"));
    resume("--seed 2").refused(CHECKPOINT, &["seed is 1", "--seed 1"]);
    resume("--batch 4").refused(CHECKPOINT, &["batches of 8", "--batch 8"]);
    // Between two epochs another batch is possible.
    place.small("train", "--checkpoint-dir @ck --resume --epochs 2").done();
    resume("--batch 4").done();
}

#[test]
fn row_21_places_that_cannot_be_written_are_refused() {
    // A path below a regular file cannot be made by any user, root included.
    for flag in ["--save", "--checkpoint-dir", "--events"] {
        let outcome = train(&format!("{flag} @small.toml/x --steps 1"));
        let outcome = outcome.refused(STORAGE, &["small.toml/x", "choose another place"]);
        assert!(!outcome.error.contains("step 1"), "{outcome:?}");
    }
}

#[test]
fn a_name_to_save_under_leaves_what_is_there_until_the_end() {
    let place = Place::new();
    place.write("kept", b"kept");
    place.small("train", "--save @kept --devices none-such").refused(DEVICE, &["none-such"]);
    assert_eq!(place.read("kept"), b"kept");
    place.small("train", "--save @new --devices none-such").refused(DEVICE, &["none-such"]);
    assert!(!place.path("new").exists());
}
