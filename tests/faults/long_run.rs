//! What must not grow with the steps.

use brigade::{Placement, Schedule, Trainer};
use brigade_pipeline::{LearningRate, Stretch};

use crate::common::{feed, samples, small_model};

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    4096 * text.split(' ').nth(1).unwrap().parse::<u64>().unwrap()
}

/// Trains `BRIGADE_LONG_RUN` steps in stretches of a tenth, 500 by default, and holds that neither what the devices
/// have allocated nor resident memory grows after the first four. `touching` steps come before them.
///
/// The pipeline is started as the command starts it. On executors that no self-test has used, llvmpipe (Mesa 22.3) makes
/// shaders again at every dispatch whose uniforms differ from the last one's, and never frees them.
fn stays_flat(device: &str, touching: usize) {
    let steps = std::env::var("BRIGADE_LONG_RUN").ok().and_then(|steps| steps.parse().ok()).unwrap_or(500usize);
    let model = small_model();
    let part = steps / 10;
    let mut first_step = 0;
    let data = samples(&model, 2, part.max(touching));
    let placement = Placement::balanced(&model, &[device, device]).unwrap();
    let trainer = Trainer::new(model, placement).schedule(Schedule::LayerBlockWise, 1).batch(2).threads(Some(1));
    let mut pipeline = trainer.start().unwrap();
    let mut stretch = |steps: usize| {
        let stretch = Stretch {
            first_step,
            first_sample: 2 * first_step as u64,
            ..Stretch::new(2 * steps, LearningRate::constant(0.01))
        };
        first_step += steps;
        let batches = feed(&data[..steps]);
        let report = pipeline.train(&stretch, batches, &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap();
        let live: Vec<_> = report.stages.iter().map(|stage| (stage.bytes.clone(), stage.peak_bytes)).collect();
        drop(report);
        (live, resident())
    };
    if touching > 0 {
        stretch(touching);
    }
    let found: Vec<_> = (0..10).map(|_| stretch(part)).collect();
    let (warm, end) = (&found[3], &found[9]);
    assert_eq!(warm.0, end.0, "what the devices hold has grown");
    let growth = end.1 as i64 - warm.1 as i64;
    eprintln!("{device}: {steps} steps, resident {} KiB after the warm-up, {growth:+} bytes at the end", warm.1 >> 10);
    // The allocator's own noise: a leak of 8 KiB a step would be 2.3 MiB over the 300 steps that CI compares.
    assert!(growth < 2 << 20, "resident memory has grown by {growth} bytes");
}

#[test]
fn row_42_memory_stays_flat_on_reference() {
    stays_flat("reference", 0);
}

#[test]
fn row_42_memory_stays_flat_on_llvmpipe() {
    stays_flat("llvmpipe", 0);
}

/// What the process has allocated is the same after each step (within 50 KiB over 3,000 steps, by heaptrack), but pages of
/// it are touched for the first time for long, ever fewer: 3.5 MiB in 600 steps, 1.3 in the next 600, 0.6 in the next.
#[test]
fn row_42_memory_stays_flat_on_swiftshader() {
    stays_flat("swiftshader", 800);
}
