//! Interleaved 1F1B: several layer-blocks on each device give the bits of one stage, in the order of the device's row.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use brigade::Schedule;
use common::{assert_same_bits, hardware, pipeline, samples, small_model, trained};

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap()
}

/// Four steps of 6 samples in 4 microbatches and a last one that is smaller, on two devices with two blocks each and on one
/// with three. One of 3 samples has 3 microbatches in a single group, of which a stage holds more than of 4 in two.
fn blocks_leave_the_bits_alone(names: &[&str]) {
    let model = small_model();
    for (last, name, starts) in
        [(5, "interleaved=2", &[0, 2, 4, 7][..]), (3, "interleaved=2", &[0, 2, 4, 7]), (5, "interleaved=3", &[0, 2, 4])]
    {
        let mut batches = samples(&model, 6, 4);
        batches.extend(samples(&model, last, 1));
        // Across adapters each layer has to stay where it is: another one may sum in another order.
        let alike = if names.len() == 1 { &[0][..] } else { starts };
        let (got, _) = trained(&mut pipeline(names, starts, schedule(name), 6, 4), &batches);
        let (plain, _) = trained(&mut pipeline(names, alike, Schedule::OneForwardOneBackward, 6, 4), &batches);
        assert_same_bits(&got, &plain);
    }
}

#[test]
fn interleaved_blocks_give_the_bits_of_one_stage_on_the_reference() {
    blocks_leave_the_bits_alone(&["reference"]);
}

#[test]
fn interleaved_blocks_give_the_bits_of_one_stage_on_llvmpipe() {
    blocks_leave_the_bits_alone(&["llvmpipe"]);
}

#[test]
fn interleaved_blocks_give_the_bits_of_one_stage_on_swiftshader() {
    blocks_leave_the_bits_alone(&["swiftshader"]);
}

#[test]
fn interleaved_blocks_give_the_bits_of_one_stage_on_gpus() {
    for name in &hardware() {
        blocks_leave_the_bits_alone(&[name]);
        blocks_leave_the_bits_alone(&[name, "llvmpipe"]);
    }
}

#[test]
fn interleaved_blocks_give_the_bits_of_1f1b_across_two_vendors() {
    blocks_leave_the_bits_alone(&["llvmpipe", "swiftshader"]);
}

/// The reference computes at once, so its records end in the order in which its blocks took turns.
#[test]
fn blocks_of_a_device_follow_its_row() {
    let model = small_model();
    let (microbatches, steps) = (5, 3);
    let mut pipeline = pipeline(&["reference"], &[0, 2, 4, 7], schedule("interleaved=2"), microbatches, microbatches);
    let (_, report) = trained(&mut pipeline, &samples(&model, microbatches, steps));
    let rows = pipeline.schedule();
    for device in 0..2 {
        let stages = [device, device + 2];
        let mut planned = Vec::new();
        let mut found = Vec::new();
        for stage in stages {
            let turns = rows.turns(stage, &vec![microbatches; steps]);
            let row = rows.row(stage, &vec![microbatches; steps]);
            let records = &report.stages[stage].records;
            assert_eq!(row, records.iter().map(|record| record.action).collect::<Vec<_>>());
            planned.extend(turns.iter().zip(&row).filter_map(|(turn, action)| Some(((*turn)?, stage, *action))));
            let done = turns.iter().zip(records).filter(|(turn, _)| turn.is_some());
            found.extend(done.map(|(_, record)| (record.end, stage, record.action)));
        }
        planned.sort_by_key(|(turn, ..)| *turn);
        found.sort_by_key(|(end, ..)| *end);
        let planned: Vec<_> = planned.into_iter().map(|(_, stage, action)| (stage, action)).collect();
        let found: Vec<_> = found.into_iter().map(|(_, stage, action)| (stage, action)).collect();
        assert_eq!(planned, found, "device {device}");
    }
}

#[test]
fn stages_that_do_not_spread_evenly_are_refused() {
    let outcome = std::panic::catch_unwind(|| pipeline(&["reference"], &[0, 2, 4], schedule("interleaved=2"), 4, 4));
    let Err(panic) = outcome else { panic!("three stages were taken for two blocks a device") };
    let message = panic.downcast_ref::<String>().unwrap();
    assert!(message.contains("Blocks") && message.contains("stages: 3"), "{message}");
}
