//! Under a schedule that flushes, a pipeline gives the bits that one stage gives for the same microbatches.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade::Schedule;
use common::{assert_same_bits, feed, hardware, pipeline, samples, scaled_pipeline, small_model, trained};

/// Five steps of 6 samples and a last one of 5, in 4 microbatches: sizes 2, 2, 1, 1 and 2, 1, 1, 1.
fn bits_do_not_depend_on_the_stages(name: &str) {
    let model = small_model();
    let mut batches = samples(&model, 6, 5);
    batches.extend(samples(&model, 5, 1));
    let (wanted, _) = trained(&mut pipeline(&[name], &[0], Schedule::OneForwardOneBackward, 6, 4), &batches);
    for schedule in [Schedule::OneForwardOneBackward, Schedule::GPipe, Schedule::ZeroBubble] {
        for starts in [&[0, 4][..], &[0, 2, 4, 7]] {
            let (got, _) = trained(&mut pipeline(&[name], starts, schedule, 6, 4), &batches);
            assert_same_bits(&got, &wanted);
        }
    }
}

#[test]
fn a_flushing_pipeline_is_transparent_on_the_reference() {
    bits_do_not_depend_on_the_stages("reference");
}

#[test]
fn a_flushing_pipeline_is_transparent_on_llvmpipe() {
    bits_do_not_depend_on_the_stages("llvmpipe");
}

#[test]
fn a_flushing_pipeline_is_transparent_on_swiftshader() {
    bits_do_not_depend_on_the_stages("swiftshader");
}

#[test]
fn a_flushing_pipeline_is_transparent_on_gpus() {
    for name in &hardware() {
        bits_do_not_depend_on_the_stages(name);
    }
}

/// Multiplying by a power of two and dividing by it again is exact: in f32 no bit may change.
#[test]
fn a_loss_scale_leaves_no_trace() {
    let batches = samples(&small_model(), 6, 5);
    for name in ["reference", "llvmpipe"] {
        let run = |scale| trained(&mut scaled_pipeline(&[name], &[0, 4], Schedule::GPipe, [6, 3], scale), &batches).0;
        assert_same_bits(&run(1024.0), &run(1.0));
    }
}

#[test]
fn runs_across_two_vendors_repeat_to_the_bit() {
    repeats(["llvmpipe", "swiftshader"]);
    for name in &hardware() {
        repeats([name, "llvmpipe"]);
    }
}

fn repeats(names: [&str; 2]) {
    let batches = samples(&small_model(), 4, 12);
    let run = || trained(&mut pipeline(&names, &[0, 2, 4, 7], Schedule::LayerBlockWise, 4, 1), &batches);
    let ((first, report), (second, _)) = (run(), run());
    assert_same_bits(&first, &second);
    // Stage 1 sends 4×6×4×4 to stage 2 and its gradient back: 12 steps of 4 samples of 4 bytes.
    let cut = 12 * 4 * 4 * (6 * 4 * 4);
    assert_eq!((report.stages[1].activation_bytes, report.stages[2].gradient_bytes), (cut, cut));
}

#[test]
fn row_17_any_last_batch_gives_the_gradient_of_the_unsplit_one() {
    // One step over n samples at once and in microbatches: the sums differ in order only. 1e-5·√(additions) with
    // the largest sum of the model, 4 samples × 100 pixels, is 2e-4 of a gradient; the step is 0.05 of it.
    let model = small_model();
    for n in 1..=7 {
        let batch = samples(&model, n, 1);
        let (whole, _) = trained(&mut pipeline(&["reference"], &[0], Schedule::GPipe, 7, 1), &batch);
        let (split, _) = trained(&mut pipeline(&["reference"], &[0, 4], Schedule::GPipe, 7, 3), &batch);
        for (whole, split) in whole.iter().zip(&split) {
            for (a, b) in whole.momentum.iter().zip(&split.momentum) {
                assert!((a - b).abs() <= 2e-4 * a.abs().max(1e-3), "{n} samples, {}: {a} {b}", whole.name);
            }
        }
    }
}

#[test]
fn evaluation_counts_every_sample_on_any_number_of_stages() {
    let model = small_model();
    let mut batches = samples(&model, 8, 3);
    batches.extend(samples(&model, 3, 1));
    let evaluate = |starts: &[usize]| {
        let mut pipeline = pipeline(&["reference"], starts, Schedule::LayerBlockWise, 8, 1);
        pipeline.evaluate(27, feed(&batches)).unwrap()
    };
    let (one, four) = (evaluate(&[0]), evaluate(&[0, 2, 4, 7]));
    assert_eq!(one, four);
    assert_eq!(one.samples, 27);
}
