//! Words, values, layers and devices that cannot be.

use super::common::command::{Outcome, Place, SMALL, brigade, command};
use super::{DEVICE, USAGE, train};

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
