//! Every weight policy and every correction is what its definition says: the pipeline must give the same bits as
//! `common/definition.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use brigade::Schedule;
use brigade_pipeline::schedule::Slack;
use brigade_pipeline::staleness::{Correction, WeightPolicy};
use common::definition::{BATCH, Run, STEPS};
use common::{assert_same_bits, corrected_pipeline, hardware, samples, small_model, trained};

const TWO: &[usize] = &[0, 4];
const THREE: &[usize] = &[0, 2, 6];
const FOUR: &[usize] = &[0, 2, 4, 7];
const SLACK: Schedule = Schedule::LayerBlockWise;
const NO_SLACK: Schedule = Schedule::OneForwardOneBackwardAsync;
/// On the first and the last of three links.
const OUTER: Schedule = Schedule::Mixed(Slack::from_bits(0b101, 3));

/// Stages, schedule, microbatches of a step, policy, corrections.
type Row = (&'static [usize], Schedule, usize, &'static str, &'static str);

const RUNS: &[Row] = &[
    (THREE, NO_SLACK, 1, "single", "none"),
    (FOUR, SLACK, 2, "single", "none"),
    (FOUR, OUTER, 1, "single", "none"),
    (FOUR, OUTER, 2, "stashed", "momentum-prediction"),
    (FOUR, SLACK, 1, "single", "momentum-prediction"),
    (THREE, SLACK, 2, "single", "momentum-prediction"),
    (FOUR, NO_SLACK, 1, "single", "linear-prediction"),
    (THREE, SLACK, 1, "single", "look-ahead"),
    (FOUR, SLACK, 1, "single", "spike-compensation"),
    (THREE, SLACK, 1, "single", "discrepancy"),
    (FOUR, NO_SLACK, 2, "single", "discrepancy,rate-per-stage=8"),
    (THREE, SLACK, 1, "single", "rate-per-stage=8"),
    (THREE, SLACK, 1, "single", "accumulation=3"),
    (TWO, SLACK, 1, "single", "linear-prediction,spike-compensation"),
    (THREE, NO_SLACK, 1, "single", "momentum-prediction,spike-compensation,rate-per-stage=8,accumulation=2"),
    (FOUR, SLACK, 1, "stashed", "none"),
    (THREE, NO_SLACK, 2, "stashed", "none"),
    (THREE, SLACK, 1, "stashed", "momentum-prediction"),
    (FOUR, NO_SLACK, 4, "double-buffered", "none"),
    (TWO, SLACK, 1, "double-buffered", "accumulation=2"),
    (THREE, NO_SLACK, 2, "double-buffered", "linear-prediction"),
];

fn holds((starts, schedule, microbatches, weights, corrections): Row, name: &str) {
    eprintln!("{} stages, {schedule}, {microbatches} microbatches, {weights}, {corrections}", starts.len());
    Run { starts, schedule, microbatches, weights, corrections }.holds_on(name);
}

fn every_run_holds_on(name: &str) {
    for &run in RUNS {
        holds(run, name);
    }
}

#[test]
fn policies_and_corrections_are_their_definition_on_the_reference() {
    every_run_holds_on("reference");
}

#[test]
fn policies_and_corrections_are_their_definition_on_llvmpipe() {
    every_run_holds_on("llvmpipe");
}

#[test]
fn policies_and_corrections_are_their_definition_on_gpus() {
    for name in &hardware() {
        every_run_holds_on(name);
    }
}

#[test]
fn corrections_are_their_definition_on_swiftshader() {
    runs_that_have_everything().into_iter().filter(|run| run.3 == "single").for_each(|run| holds(run, "swiftshader"));
}

#[test]
fn older_versions_are_their_definition_on_swiftshader() {
    runs_that_have_everything().into_iter().filter(|run| run.3 != "single").for_each(|run| holds(run, "swiftshader"));
}

/// Opening a device takes SwiftShader half a second: few runs over few stages that have every policy and every correction,
/// by name. One after the other, each is the one that adds most to those before.
fn runs_that_have_everything() -> Vec<Row> {
    let names = |(_, _, _, weights, corrections): Row| -> BTreeSet<&str> {
        let corrections = corrections.split(',').map(|word| word.split('=').next().unwrap());
        corrections.chain([weights]).collect()
    };
    let (mut chosen, mut tried) = (Vec::new(), BTreeSet::new());
    let adds = |tried: &BTreeSet<&str>, run: Row| (names(run).difference(tried).count(), Reverse(run.0.len()));
    while let Some(&run) = RUNS.iter().max_by_key(|&&run| adds(&tried, run)).filter(|&&run| adds(&tried, run).0 > 0) {
        tried.extend(names(run));
        chosen.push(run);
    }
    // A synchronous finish has a test of its own.
    let corrections = Correction::ALL.into_iter().map(Correction::name).filter(|&name| name != "synchronous-finish");
    let all: BTreeSet<_> = corrections.chain(WeightPolicy::ALL.map(WeightPolicy::name)).collect();
    assert!(tried.is_superset(&all), "no run has {:?}", all.difference(&tried));
    chosen
}

/// Where the schedule flushes nothing is stale, and every policy and correction leaves the bits alone.
#[test]
fn nothing_is_corrected_where_nothing_is_stale() {
    let batches = samples(&small_model(), BATCH, STEPS);
    let run = |weights: &str, corrections: &str| {
        let run =
            Run { starts: THREE, schedule: Schedule::OneForwardOneBackward, microbatches: 2, weights, corrections };
        trained(&mut corrected_pipeline(&["llvmpipe"], THREE, run.schedule, [BATCH, 2], run.options()), &batches).0
    };
    let wanted = run("single", "none");
    for (weights, corrections) in [
        ("stashed", "none"),
        ("double-buffered", "none"),
        ("single", "discrepancy,rate-per-stage=8"),
        ("single", "momentum-prediction,spike-compensation"),
        ("single", "look-ahead,accumulation=3"),
    ] {
        assert_same_bits(&run(weights, corrections), &wanted);
    }
}

/// Double-buffered weights are one update old at every stage, so the bits do not depend on the number of stages.
#[test]
fn double_buffered_weights_do_not_depend_on_the_stages() {
    let batches = samples(&small_model(), BATCH, STEPS);
    let run = |starts: &[usize]| {
        let run = Run { starts, schedule: NO_SLACK, microbatches: 4, weights: "double-buffered", corrections: "none" };
        trained(&mut corrected_pipeline(&["llvmpipe"], starts, NO_SLACK, [BATCH, 4], run.options()), &batches).0
    };
    let wanted = run(&[0]);
    for starts in [TWO, THREE, FOUR] {
        assert_same_bits(&run(starts), &wanted);
    }
}
