//! `brigade plan` refuses what `train` refuses, whatever is asked of it; and interleaved layer-blocks by the command line.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::{Outcome, Place, brigade};

const USAGE: i32 = 2;
const MEMORY: i32 = 6;

/// Of a network of twelve layers, no device named.
fn plan(flags: &str) -> Outcome {
    let flags: Vec<_> = flags.split_whitespace().collect();
    brigade(&[&["plan", "--model", "lenet5"], &flags[..]].concat())
}

#[test]
fn a_plan_without_devices_is_refused_as_a_run_is() {
    for grid in ["", "--grid 2"] {
        plan(&format!("--stages 4 --schedule mixed=1,0 {grid}")).refused(USAGE, &["mixed=1,0", "2 links", "4 stages"]);
        plan(&format!("--stages 3 --schedule interleaved=2 {grid}")).refused(USAGE, &["interleaved=2", "3 stages"]);
        plan(&format!("--stages 4 --schedule interleaved=99999999999 {grid}")).refused(USAGE, &["99999999999"]);
    }
    plan("--schedule interleaved=99999999999").refused(USAGE, &["99999999999 stages"]);
    plan("--schedule interleaved=18446744073709551615 --devices reference,reference").refused(USAGE, &["stages"]);
    plan("--stages 2 --memory-budget 0.01").refused(MEMORY, &["stage 0", "stage 1", "0.01 MiB, too much"]);
    // Neither half of this batch has the microbatches that the policy wants.
    let doubled = "--stages 4 --schedule 1f1b-async --weights double-buffered --microbatches 4 --batch 4";
    plan(&format!("{doubled} --memory-budget 0.01")).refused(MEMORY, &["neither a smaller batch nor more stages fit"]);
    plan("--stages 4 --weights double-buffered").refused(USAGE, &["double-buffered", "microbatches"]);
}

#[test]
fn numbers_beyond_any_picture_are_refused() {
    for steps in ["0", "4097", "10000000", "18446744073709551615"] {
        plan(&format!("--stages 2 --grid {steps}")).refused(USAGE, &["grid", steps]);
    }
    plan("--batch 100000 --microbatches 65537").refused(USAGE, &["microbatches: 65537", "65536"]);
    let picture = plan("--stages 2 --schedule 1f1b --microbatches 4 --grid 1");
    assert!(picture.done().out.contains("stage 1     F0 B0"), "no picture");
    let document = plan("--stages 2 --schedule 1f1b --microbatches 4 --grid 1 --json").json();
    assert!(document["grid"].as_str().unwrap().contains("stage 1     F0 B0"), "{document}");
    assert_eq!(document["stages"].as_array().unwrap().len(), 2);
}

/// A run never meets more versions of the weights than it has activation sets: an update that waits for longer needs no more.
#[test]
fn a_plan_of_rare_updates_needs_no_longer_than_another() {
    let total = |flags: &str| -> u64 {
        let plan = plan(&format!("--stages 4 --json {flags}")).json();
        plan["stages"].as_array().unwrap().iter().map(|stage| stage["memory"]["total"].as_u64().unwrap()).sum()
    };
    for weights in ["single", "stashed", "double-buffered"] {
        let of = |steps: usize| total(&format!("--weights {weights} --correction accumulation={steps}"));
        // The first stage has seven sets, the others five, three and one: 105 fits them all a whole number of times.
        let usual = of(105);
        assert!(usual > 0);
        assert_eq!(of(1_000_000_005 / 105 * 105), usual, "{weights}");
        assert_eq!(of(18_446_744_073_709_551_615 / 105 * 105), usual, "{weights}");
    }
    // As many activation sets as microbatches.
    assert!(total("--schedule gpipe --batch 1024 --microbatches 1024") > 0);
}

#[test]
fn named_devices_have_a_block_each_in_turn() {
    let place = Place::new();
    let stages =
        |flags: &str| place.small("plan", &format!("--json {flags}")).json()["stages"].as_array().unwrap().len();
    for (flags, wanted) in [
        ("--devices reference,reference --schedule interleaved=2", 4),
        ("--devices reference,reference --schedule interleaved=2 --stages 4", 4),
        ("--devices reference,reference,reference,reference --schedule interleaved=2 --stages 4", 4),
        ("--devices reference --schedule interleaved=3", 3),
        ("--devices reference --schedule interleaved=2 --stages 6", 6),
        ("--devices reference,reference --schedule interleaved=2 --cuts conv1,relu1,pool1", 4),
    ] {
        assert_eq!(stages(&format!("{flags} --microbatches 4")), wanted, "{flags}");
    }
    let blocks = "--devices reference,reference --schedule interleaved=2 --microbatches 4 --steps 2";
    place.small("train", &format!("{blocks} --save @blocks")).done();
    place.small("train", "--schedule 1f1b --microbatches 4 --steps 2 --save @whole").done();
    assert!(place.read("blocks") == place.read("whole"), "blocks change the bits");
    let three = "--devices reference,reference,reference --schedule interleaved=2 --stages 4";
    place.small("train", three).refused(USAGE, &["2 stages and 3 devices"]);
}

/// Blocks of a device share its memory.
#[test]
fn a_budget_is_for_all_blocks_of_a_device() {
    let place = Place::new();
    let flags = "--devices reference --schedule interleaved=3 --microbatches 4";
    let plan = place.small("plan", &format!("{flags} --json")).json();
    let peaks = plan["stages"].as_array().unwrap().iter().map(|stage| stage["memory"]["peak"].as_u64().unwrap());
    let budget = |bytes: u64| format!("{flags} --memory-budget {}", bytes as f64 / 1_048_576.0);
    let all: u64 = peaks.sum();
    place.small("plan", &budget(all)).done();
    for command in ["plan", "train"] {
        place.small(command, &budget(all - 1)).refused(MEMORY, &["stage 0, 1, 2 (reference) needs", "too much"]);
    }
}

/// The bubble of two devices with two blocks each, where four stages of one each would have (4 − 1)/(4 + 4 − 1).
#[test]
fn a_bench_counts_devices_and_their_blocks() {
    let flags =
        "bench pipeline --model lenet5 --devices reference --stages 4 --schedule interleaved=2 --batch 4 --json";
    let flags = format!("{flags} --microbatches 4 --steps 2 --rounds 1");
    let report = brigade(&flags.split(' ').collect::<Vec<_>>()).json();
    let run = &report["runs"][0];
    let bubble = |which: &str| run["bubble"][which].as_f64().unwrap();
    assert!((bubble("formula") - 1.0 / 9.0).abs() < 1e-12, "{run}");
    let milliseconds = run["stage_milliseconds"].as_array().unwrap().iter().map(|time| time.as_f64().unwrap());
    let busy = milliseconds.sum::<f64>() / 1e3 * 8.0;
    let seconds = 8.0 / run["images_per_second"].as_f64().unwrap();
    // Sums of a few numbers in double precision.
    assert!((bubble("measured") - (1.0 - busy / (2.0 * seconds))).abs() < 1e-9, "{run}");
}
