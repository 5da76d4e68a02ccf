//! Adapters that are not there, lack something, go, or compute wrong numbers.

use crate::common::command::{Place, SMALL};
use crate::support::{Halfway, within_limit};

/// Two epochs of three steps.
const RUN: &str = "--epochs 2 --tune off";

#[test]
fn row_27_an_adapter_that_is_not_there_any_more_on_llvmpipe() {
    let halfway = Halfway::new(&format!("{RUN} --devices llvmpipe,llvmpipe"));
    let mut command = halfway.rest();
    command.env("VK_DRIVER_FILES", "none.json").env("VK_ICD_FILENAMES", "none.json");
    within_limit(command).refused(5, &["llvmpipe", "found: reference"]);
    halfway.goes_on();
}

#[test]
fn row_27_no_adapter() {
    let place = Place::new();
    let mut command = place.command("train --data glyphs --steps 1");
    command.env("VK_DRIVER_FILES", place.path("none.json")).env("VK_ICD_FILENAMES", place.path("none.json"));
    within_limit(command).refused(5, &["no GPU found", "mesa-vulkan-drivers", "--devices reference"]);
    let mut command = place.command("train --data glyphs --steps 1 --devices llvmpipe");
    command.env("VK_DRIVER_FILES", place.path("none.json")).env("VK_ICD_FILENAMES", place.path("none.json"));
    within_limit(command).refused(5, &["llvmpipe", "found: reference"]);
}

#[test]
fn row_27_only_software_adapters() {
    let place = Place::new();
    let refused =
        within_limit(place.command("train --data glyphs --train-samples 8 --test-samples 8 --batch 8 --steps 1"));
    refused.refused(5, &["only software adapters found", "llvmpipe", "--devices", "driver"]);
}

#[test]
fn row_27_software_with_the_flag_on_adapters() {
    let place = Place::new();
    place.write("any.toml", crate::common::command::SMALL.replace("devices = [\"reference\"]", "").as_bytes());
    within_limit(place.command("train --config @any.toml --steps 1 --software --stages 2")).done();
}

const DRIVERS: [&str; 2] = ["lvp_icd", "swiftshader_icd"];

/// The driver files of both software adapters.
fn driver_files() -> Vec<String> {
    let home = std::env::var("HOME").unwrap();
    let data = std::env::var("XDG_DATA_HOME").unwrap_or(format!("{home}/.local/share"));
    let folders =
        ["/usr/share/vulkan/icd.d".to_owned(), "/etc/vulkan/icd.d".to_owned(), format!("{data}/vulkan/icd.d")];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
    let paths = files.map(|file| file.unwrap().path().display().to_string());
    let found: Vec<_> = paths.filter(|path| DRIVERS.iter().any(|driver| path.contains(driver))).collect();
    assert!(found.len() >= 2, "run scripts/setup test");
    found
}

#[test]
fn row_35_the_order_of_the_adapters_does_not_matter_on_adapters() {
    let place = Place::new();
    let files = driver_files();
    let turned: Vec<_> = files.iter().rev().cloned().collect();
    let twice: Vec<_> = files.iter().chain(&files).cloned().collect();
    let mut weights = Vec::new();
    for files in [&files, &turned, &twice] {
        let line =
            "train --config @small.toml --tune off --steps 2 --devices llvmpipe,swiftshader --save @w.safetensors";
        let mut command = place.command(line);
        command.env("VK_DRIVER_FILES", files.join(":")).env("VK_ICD_FILENAMES", files.join(":"));
        let done = within_limit(command).done();
        let reported = |stage: &str, name: &str| {
            done.error.lines().any(|line| line.starts_with(stage) && line.to_lowercase().contains(name))
        };
        assert!(reported("stage 0", "llvmpipe") && reported("stage 1", "swiftshader"), "{done:?}");
        weights.push(place.read("w.safetensors"));
    }
    assert!(weights.windows(2).all(|pair| pair[0] == pair[1]));
    // A run that begins with one order goes on with another.
    let halfway = Halfway::new(&format!("{RUN} --devices llvmpipe,swiftshader"));
    let mut command = halfway.rest();
    command.env("VK_DRIVER_FILES", turned.join(":")).env("VK_ICD_FILENAMES", turned.join(":"));
    within_limit(command).done();
    let whole = halfway.place.read("undisturbed.safetensors");
    assert!(halfway.place.read("saved/step-00000006/weights.safetensors") == whole);
}

/// Every result of the first device is wrong from the start.
#[track_caller]
fn wrong_numbers(devices: &str, name: &str, kind: &str) {
    let halfway = Halfway::new(&format!("{RUN} --devices {devices}"));
    let outcome = halfway.rest_with(&format!("device0.wait@1+:{kind}"));
    outcome.refused(5, &[name, "kernel", "computes wrong numbers", "update the driver or leave this device out"]);
    halfway.goes_on();
}

#[test]
fn row_36_wrong_numbers_on_reference() {
    wrong_numbers("reference", "reference", "wrong");
}

#[test]
fn row_36_wrong_numbers_on_llvmpipe() {
    wrong_numbers("llvmpipe", "llvmpipe", "wrong");
}

#[test]
fn row_36_nan_on_swiftshader() {
    wrong_numbers("swiftshader", "SwiftShader", "nan");
}

#[test]
fn row_36_another_variant_on_llvmpipe() {
    let place = Place::new();
    let outcome = place.train_with("device0.wait@1:wrong", "--steps 2 --tune off --devices llvmpipe").done();
    assert!(outcome.error.contains("is left out"), "{outcome:?}");
}

#[test]
fn row_30_the_plan_does_not_fit_in_memory() {
    let place = Place::new();
    let line = "train --config @small.toml --stages 2 --batch 64 --microbatches 1 --memory-budget 0.5 --events @events";
    let refused = within_limit(place.command(line));
    let refused =
        refused.refused(6, &["stage 0 (reference) needs", "stage 1 (reference) needs", "of 0.50 MiB", "too much"]);
    // What is advised fits indeed, and nothing has run before.
    let batch = refused.error.split("--batch ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    assert!(!String::from_utf8(place.read("events")).unwrap().contains("step"));
    let line = format!("train --config @small.toml --stages 2 --batch {batch} --steps 1 --memory-budget 0.5");
    within_limit(place.command(&line)).done();
}

/// Weights, gradients and momentum of 500 layers of 4 GiB each are more than any machine has.
#[cfg(target_os = "linux")]
#[test]
fn row_30_the_plan_does_not_fit_in_the_memory_of_the_machine() {
    let place = Place::new();
    let (start, end) = SMALL.split_at(SMALL.find("[[layers]]").unwrap());
    let layers = "[[layers]]\nop = \"linear\"\nout_features = 32768\n".repeat(501);
    place.write("small.toml", format!("{start}{layers}{}", &end[end.rfind("[[layers]]").unwrap()..]).as_bytes());
    let outcome = within_limit(place.command("train --config @small.toml --stages 2"));
    let need = bytes_needed(&outcome.error.replace("adapters need ", "adapters needs "));
    outcome.refused(6, &["memory of this machine", "together, and it has", "no smaller batch fits", "schedule"]);
    assert!((6e12..7e12).contains(&need), "{need}");
}

#[test]
fn row_30_a_budget_holds_on_llvmpipe() {
    let place = Place::new();
    let line = "train --config @small.toml --devices llvmpipe --tune off --epochs 2 --memory-budget";
    let refused = within_limit(place.command(&format!("{line} 0.001"))).refused(6, &["llvmpipe", "needs", "too much"]);
    // What the plan says is enough, with evaluation and a smaller last step; less than it rounds up by is not.
    let run = |bytes: f64| within_limit(place.command(&format!("{line} {}", bytes / 1_048_576.0)));
    let need = bytes_needed(&refused.error);
    run(need).done();
    run(need - 10_486.0).refused(6, &["llvmpipe", "needs", "too much"]);
}

#[test]
fn row_30_a_run_goes_on_with_the_memory_it_needs_on_swiftshader() {
    let halfway = Halfway::new(&format!("{RUN} --devices swiftshader"));
    let mut command = halfway.rest();
    command.args(["--memory-budget", "0.001"]);
    within_limit(command).refused(6, &["SwiftShader", "needs", "too much"]);
    halfway.goes_on();
}

/// What `needs … MiB` says.
fn bytes_needed(message: &str) -> f64 {
    let mib: f64 = message.split("needs ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    mib * 1_048_576.0
}

/// Without subgroups the run goes on with other variants; without workgroups of a useful size there is none.
#[track_caller]
fn lacks(device: &str, name: &str) {
    let halfway = Halfway::new(&format!("{RUN} --devices {device}"));
    let words = [name, "no variant of", "it allows 16 invocations", "needs 256 invocations"];
    halfway.rest_with("device.limits@1+:missing").refused(5, &words);
    halfway.goes_on();
    let run = format!("--steps 2 --tune off --devices {device}");
    halfway.place.train_with("device.features@1+:missing", &run).done();
}

#[test]
fn row_28_a_feature_or_limit_is_missing_on_llvmpipe() {
    lacks("llvmpipe", "llvmpipe");
}

#[test]
fn row_28_a_feature_or_limit_is_missing_on_swiftshader() {
    lacks("swiftshader", "SwiftShader");
}
