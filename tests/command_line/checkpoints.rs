//! Checkpoints that are missing, damaged, foreign or of something else.

use super::common::command::{Place, flip_bit};
use super::{CHECKPOINT, NUMERICS, USAGE};

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
fn saving_into_a_checkpoint_is_refused() {
    let place = two_checkpoints();
    let parent = place.path("ck").canonicalize().unwrap();
    std::fs::create_dir(place.path("copy")).unwrap();
    std::fs::copy(place.path(&format!("{NEWEST}/manifest.json")), place.path("copy/manifest.json")).unwrap();
    for (checkpoint, parent) in [
        (NEWEST, parent.as_path()),
        ("ck/step-00000003/.", parent.as_path()),
        ("ck/step-00000009", parent.as_path()),
        ("copy", parent.parent().unwrap()),
    ] {
        for flags in ["--resume", ""] {
            let outcome = place.small("train", &format!("--epochs 4 --checkpoint-dir @{checkpoint} {flags}"));
            outcome.refused(USAGE, &[checkpoint, "is a checkpoint", &format!("in, {}", parent.display())]);
        }
    }
    let files = ["manifest.json", "momentum.safetensors", "weights.safetensors"];
    let mut found: Vec<_> =
        std::fs::read_dir(place.path(NEWEST)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, files);
    assert!(!place.path("ck/step-00000009").exists());
    place.small("eval", &format!("--checkpoint @{NEWEST}")).done();
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

/// One bit of the samples that were seen changes the masks of dropout, and so every weight that comes after.
#[test]
fn row_02_one_flipped_bit_of_a_manifest_is_found() {
    let place = two_checkpoints();
    let name = format!("{NEWEST}/manifest.json");
    let whole = String::from_utf8(place.read(&name)).unwrap();
    place.small("train", "--epochs 3 --save @wanted").done();
    for (from, to) in [("\"samples\": 44", "\"samples\": 45"), ("\"step\": 6", "\"step\": 7")] {
        let edited = whole.replacen(from, to, 1);
        assert_ne!(edited, whole);
        place.write(&name, edited.as_bytes());
        place.small("eval", &format!("--checkpoint @{NEWEST}")).refused(CHECKPOINT, &["manifest.json", "is damaged"]);
        let outcome = place.small("train", "--epochs 3 --checkpoint-dir @ck --resume --save @found").done();
        for words in ["manifest.json: is damaged", "3 steps must be trained again", "at step 3"] {
            assert!(outcome.error.contains(words), "no `{words}` in {outcome:?}");
        }
        assert!(place.read("found") == place.read("wanted"), "the resumed run differs from an undisturbed one");
        std::fs::remove_dir_all(place.path("ck/step-00000009")).unwrap();
    }
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
        ("\"format\": 3", "\"format\": 4", "format 4"),
        ("\"samples\": 44", "\"samples\": 45", "is damaged"),
        ("\"checksum\"", "\"cheksum\"", "no field `checksum`"),
        ("\"format\"", "\"fromat\"", "`format`"),
        ("{", "[", "manifest"),
    ];
    for (from, to, word) in edits {
        place.write(&name, whole.replacen(from, to, 1).as_bytes());
        place.small("eval", &format!("--checkpoint @{NEWEST}")).refused(CHECKPOINT, &["manifest.json", word]);
    }
    // A position beyond any run, and a batch beyond an epoch of 22 samples in steps of 8.
    let huge = "18446744073709551615";
    for (field, value) in [("step", huge), ("epoch", huge), ("batch", huge), ("samples", huge), ("batch", "3")] {
        let from = whole.find(&format!("\"{field}\": ")).unwrap() + field.len() + 4;
        let digits = whole[from..].find(|c: char| !c.is_ascii_digit()).unwrap();
        let edited = format!("{}{value}{}", &whole[..from], &whole[from + digits..]);
        place.write_manifest(&name, serde_json::from_str(&edited).unwrap());
        let outcome = place.small("train", "--epochs 3 --checkpoint-dir @ck --resume");
        outcome.refused(CHECKPOINT, &["manifest.json", &format!("position.{field} is {value}"), "another one"]);
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
fn row_08_a_manifest_whose_model_cannot_be_is_refused() {
    let place = two_checkpoints();
    let name = format!("{NEWEST}/manifest.json");
    let whole = String::from_utf8(place.read(&name)).unwrap();
    let data = "--devices reference --train-samples 22 --test-samples 16";
    for (from, to, word) in [
        ("\"relu\"", "\"gelu\"", "`gelu`"),
        ("\"kernel\": 5", "\"kernel\": 29", "conv1"),
        ("\"p\": 0.25", "\"p\": 2", "dropout1"),
    ] {
        let edited = whole.replacen(from, to, 1);
        assert_ne!(edited, whole);
        place.write_manifest(&name, serde_json::from_str(&edited).unwrap());
        let eval = format!("eval {data} --checkpoint @{NEWEST}");
        place.run(&eval).refused(CHECKPOINT, &["step-00000006/manifest.json", "model", word]);
    }
}

#[test]
fn row_08_a_normalisation_of_other_channels_is_refused() {
    let place = two_checkpoints();
    let name = format!("{NEWEST}/manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&place.read(&name)).unwrap();
    for normalisation in [serde_json::json!([[0.5, 0.5], [0.5, 0.5]]), serde_json::json!([[0.5, -0.5]])] {
        manifest["normalisation"] = normalisation;
        place.write_manifest(&name, manifest.clone());
        let outcome = place.small("eval", &format!("--checkpoint @{NEWEST}"));
        outcome.refused(CHECKPOINT, &["step-00000006/manifest.json", "normalisation", "wanted 1"]);
    }
}

#[test]
fn row_40_weights_that_are_no_numbers_are_not_evaluated() {
    let place = Place::new();
    place.small("train", "--save @weights").done();
    let whole = place.read("weights");
    let edited = |value: f32| {
        let mut bytes = whole.clone();
        let last = bytes.len() - 4;
        bytes[last..].copy_from_slice(&value.to_le_bytes());
        place.write("edited", &bytes);
        place.small("eval", "--checkpoint @edited")
    };
    edited(f32::NAN).refused(NUMERICS, &["edited", "`fc2.weight`", "no numbers"]);
    edited(f32::NEG_INFINITY).refused(NUMERICS, &["edited", "`fc2.weight`"]);
    // Numbers whose products are none.
    let mut all = whole.clone();
    let data = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    all[data..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&1e30f32.to_le_bytes()));
    place.write("huge", &all);
    place.small("eval", "--checkpoint @huge --json").refused(NUMERICS, &["huge", "test loss"]);
}
