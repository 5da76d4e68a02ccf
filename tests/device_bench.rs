//! `brigade bench kernels`, `bench step` and `bench checkpoint` in small: what they print has the form and the sense that it should.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::brigade;
use serde_json::Value;

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn kernels_are_verified_and_held_against_a_ceiling() {
    let flags = ["bench", "kernels", "--devices", "llvmpipe", "--filter", "relu", "--rounds", "1", "--json"];
    let report = brigade(&flags).json();
    let device = &report["devices"][0];
    assert!(device["device"].as_str().unwrap().contains("llvmpipe"));
    assert_eq!(device["threads"], 1);
    assert!(number(&device["ceiling"]["gflops"]) > 0.0 && number(&device["ceiling"]["gbytes_per_second"]) > 0.0);
    let kernels = device["kernels"].as_array().unwrap();
    for pass in ["forward", "backward_input"] {
        assert!(kernels.iter().any(|kernel| kernel["pass"] == pass), "{kernels:?}");
    }
    for kernel in kernels {
        assert_eq!((kernel["operation"].as_str(), kernel["verified"].as_bool()), (Some("relu"), Some(true)));
        for error in kernel["errors"].as_array().unwrap() {
            assert!(number(&error["error"]) <= number(&error["tolerance"]), "{kernel}");
        }
        let time = &kernel["milliseconds"];
        assert!(0.0 < number(&time["least"]) && number(&time["least"]) <= number(&time["median"]), "{kernel}");
        assert!(number(&time["median"]) <= number(&time["most"]), "{kernel}");
        assert!(number(&kernel["ceiling_share"]) > 0.0, "{kernel}");
    }
}

#[test]
fn the_naive_variant_is_the_yardstick() {
    let filter = "linear/4096-128/backward_input";
    let flags = ["bench", "kernels", "--devices", "llvmpipe", "--filter", filter, "--rounds", "1", "--json"];
    let report = brigade(&flags).json();
    let kernels = report["devices"][0]["kernels"].as_array().unwrap();
    assert!(kernels.len() > 1 && kernels.iter().all(|kernel| kernel["pass"] == "backward_input"), "{kernels:?}");
    let naive = kernels.iter().find(|kernel| kernel["variant"] == "naive").unwrap();
    assert!((number(&naive["times_naive"]) - 1.0).abs() < 1e-9);
    for kernel in kernels {
        let times = number(&naive["milliseconds"]["median"]) / number(&kernel["milliseconds"]["median"]);
        assert!((number(&kernel["times_naive"]) / times - 1.0).abs() < 1e-9, "{kernel}");
    }
}

#[test]
fn the_text_of_a_variant_can_be_read() {
    let shown = brigade(&["bench", "kernels", "--show", "relu/forward/elementwise"]).done().out;
    assert!(shown.contains("// relu/forward elementwise") && shown.contains("@compute"), "{shown}");
    assert!(!shown.contains("{%"), "{shown}");
    brigade(&["bench", "kernels", "--show", "relu/forward/none"]).refused(2, &["relu/forward/elementwise"]);
    brigade(&["bench", "kernels", "--devices", "reference", "--filter", "gelu"]).refused(2, &["gelu", "relu/large"]);
}

/// The published formula stands beside the measured times and is made with them; one stage never waits.
#[test]
fn a_bubble_has_its_formula_beside_it() {
    let flags = ["bench", "pipeline", "--model", "lenet5", "--devices", "reference", "--stages", "1,2", "--json"];
    let more = ["--batch", "2", "--microbatches", "2", "--steps", "1", "--rounds", "1", "--schedule"];
    for (schedule, of_two) in [("1f1b", Some(1.0 / 3.0)), ("zero-bubble", None), ("layer-block-wise", None)] {
        let report = brigade(&[&flags[..], &more[..], &[schedule]].concat()).json();
        let bubble = |run: usize| report["runs"][run]["bubble"].clone();
        let formula = bubble(1)["formula"].as_f64();
        if let Some(of_two) = of_two {
            assert!((formula.unwrap() - of_two).abs() < 1e-9, "{report}");
        }
        assert_eq!(formula.is_some(), schedule != "layer-block-wise", "{report}");
        if formula.is_some() {
            assert_eq!((number(&bubble(0)["formula"]), bubble(0)["formula_is_exact"].as_bool()), (0.0, Some(true)));
            assert!((0.0..1.0).contains(&number(&bubble(1)["simulated"])), "{report}");
        }
    }
}

#[test]
fn a_step_is_made_of_kernels_waiting_and_little_else() {
    for stages in ["1", "2"] {
        let flags = ["bench", "step", "--model", "lenet5", "--batch", "4", "--devices", "llvmpipe", "--json"];
        let more = ["--threads", "1", "--steps", "2", "--rounds", "1", "--stages", stages];
        let report = brigade(&[&flags[..], &more[..]].concat()).json();
        assert_eq!(report["steps"], 2);
        assert!(number(&report["milliseconds"]["median"]) > 0.0 && number(&report["images_per_second"]) > 0.0);
        let parts = report["stages"].as_array().unwrap();
        assert_eq!(parts.len().to_string(), stages);
        for stage in parts {
            let step = number(&stage["step_milliseconds"]);
            let kernel = number(&stage["kernel_milliseconds"]);
            let waiting = number(&stage["waiting_milliseconds"]);
            let other = number(&stage["other_milliseconds"]);
            assert!(0.0 < kernel && kernel < step && waiting >= 0.0, "{stage}");
            assert!((kernel + waiting + other - step).abs() < 1e-6 * step, "{stage}");
            // Forward, backward, update: an encoder, a submission and a compute pass each.
            assert_eq!((number(&stage["submissions"]), number(&stage["compute_passes"])), (3.0, 3.0), "{stage}");
            let kernels = stage["kernels"].as_array().unwrap();
            let sum: f64 = kernels.iter().map(|kernel| number(&kernel["milliseconds"])).sum();
            assert!((sum - kernel).abs() < 1e-6 * kernel, "{stage}");
            assert!(kernels.iter().any(|kernel| kernel["operation"] == "sgd" && kernel["count"] == 1.0), "{stage}");
        }
    }
}

#[test]
fn what_checkpoints_cost_is_held_against_training_without() {
    let place = common::command::Place::new();
    let flags = "bench checkpoint --model lenet5 --batch 4 --devices llvmpipe --stages 2 --threads 1 --tune off \
                 --checkpoint-every 3 --checkpoints 2 --rounds 2 --json --out @measured";
    let report = place.run(flags).json();
    assert_eq!((&report["steps"], &report["rounds"]), (&9.into(), &2.into()));
    let ways = report["ways"].as_array().unwrap();
    let names: Vec<_> = ways.iter().map(|way| way["way"].as_str().unwrap()).collect();
    assert_eq!(names, ["bare", "snapshots", "checkpoints", "link-checksums"]);
    for way in ways {
        let time = &way["milliseconds"];
        assert!(0.0 < number(&time["least"]) && number(&time["least"]) <= number(&time["most"]), "{way}");
        assert!(number(&way["cost"]["least"]) <= number(&way["cost"]["median"]), "{way}");
    }
    assert_eq!(number(&ways[0]["cost"]["most"]), 0.0);
    // Emptying the pipes and filling them again every three steps is nothing that noise could hide.
    assert!(number(&ways[1]["cost"]["median"]) > 0.0, "{}", ways[1]);
    assert!(!place.path("measured").exists());
    // It removes nothing that it has not made.
    place.write("kept", b"");
    place.run("bench checkpoint --devices reference --out @kept").refused(2, &["--out"]);
    assert!(place.path("kept").exists());
}
