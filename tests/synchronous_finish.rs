//! A synchronous finish: under a schedule that flushes it changes nothing; elsewhere its steps are those of the definition,
//! whatever corrections the steps before had.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade::Schedule;
use common::definition::{Run, STEPS};
use common::{assert_same_bits, pipeline, samples, small_model, trained_with_finish};

const THREE: &[usize] = &[0, 2, 6];
const FOUR: &[usize] = &[0, 2, 4, 7];

/// On the way back a block meets the activations of its own forward, however many microbatches its device runs ahead.
#[test]
fn a_finish_changes_nothing_where_every_step_flushes() {
    let (batch, microbatches) = (8, 8);
    let batches = samples(&small_model(), batch, 4);
    for schedule in ["gpipe", "1f1b", "zero-bubble", "interleaved=2", "interleaved=4"] {
        let trained = |finish: usize| {
            let mut pipeline = pipeline(&["reference"], FOUR, schedule.parse().unwrap(), batch, microbatches);
            trained_with_finish(&mut pipeline, &batches, finish)
        };
        eprintln!("{schedule}");
        assert_same_bits(&trained(2), &trained(0));
    }
}

#[test]
fn a_finish_is_its_definition() {
    for (starts, schedule, microbatches, weights, corrections) in [
        (FOUR, Schedule::LayerBlockWise, 1, "single", "none"),
        (THREE, Schedule::OneForwardOneBackwardAsync, 2, "stashed", "momentum-prediction"),
        (THREE, Schedule::OneForwardOneBackwardAsync, 2, "double-buffered", "none"),
        (THREE, Schedule::LayerBlockWise, 1, "single", "discrepancy,rate-per-stage=8"),
        (THREE, Schedule::LayerBlockWise, 1, "single", "spike-compensation"),
        // Two steps are left over when the finish begins: their gradients are not used.
        (THREE, Schedule::LayerBlockWise, 2, "single", "accumulation=4"),
        (&[0], Schedule::LayerBlockWise, 1, "single", "accumulation=1000"),
        // Steps stay as long as they were.
        (THREE, Schedule::OneForwardOneBackwardAsync, 1, "single", "look-ahead"),
    ] {
        eprintln!("{} stages, {schedule}, {microbatches} microbatches, {weights}, {corrections}", starts.len());
        Run { starts, schedule, microbatches, weights, corrections }.holds_with_finish("reference", STEPS - 10);
    }
}
