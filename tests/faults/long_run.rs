//! What must not grow with the steps.

use brigade_pipeline::{LearningRate, Stretch};

use crate::common::{feed, pipeline, samples, small_model};

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

/// Trains `BRIGADE_LONG_RUN` steps in stretches of a tenth, 500 by default, and holds that neither what the devices
/// have allocated nor resident memory grows after the first three.
fn stays_flat(devices: &[&str]) {
    let steps = std::env::var("BRIGADE_LONG_RUN").ok().and_then(|steps| steps.parse().ok()).unwrap_or(500usize);
    let model = small_model();
    let part = steps / 10;
    let data = samples(&model, 2, part);
    let mut pipeline = pipeline(devices, &[0, 4], brigade::Schedule::LayerBlockWise, 2, 1);
    let mut found = Vec::new();
    for index in 0..10 {
        let stretch = Stretch {
            samples: 2 * part,
            first_step: index * part,
            first_sample: (2 * index * part) as u64,
            learning_rate: LearningRate::constant(0.01),
            synchronous: false,
        };
        let report = pipeline.train(&stretch, feed(&data), &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
        let live: Vec<_> = report.stages.iter().map(|stage| (stage.bytes.clone(), stage.peak_bytes)).collect();
        drop(report);
        found.push((live, resident()));
    }
    let (warm, end) = (&found[3], &found[9]);
    assert_eq!(warm.0, end.0, "what the devices hold has grown");
    let growth = end.1 as i64 - warm.1 as i64;
    eprintln!(
        "{devices:?}: {steps} steps, resident {} KiB after the warm-up, {growth:+} bytes at the end",
        warm.1 >> 10
    );
    // The allocator's own noise: a leak of 8 KiB a step would be 2.8 MiB over the 350 steps that CI does.
    assert!(growth < 2 << 20, "resident memory has grown by {growth} bytes");
}

#[test]
fn row_42_memory_stays_flat_on_reference() {
    stays_flat(&["reference"]);
}

#[test]
#[ignore = "resident memory grows on llvmpipe; `make faults` counts it as failed"]
fn row_42_memory_stays_flat_on_llvmpipe() {
    stays_flat(&["llvmpipe"]);
}

#[test]
#[ignore = "resident memory grows on swiftshader; `make faults` counts it as failed"]
fn row_42_memory_stays_flat_on_swiftshader() {
    stays_flat(&["swiftshader"]);
}
