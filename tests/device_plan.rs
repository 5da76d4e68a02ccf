//! What a plan says of memory is what the ledgers hold at the end of the run, to the byte and by purpose.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use brigade::{LearningRate, Pipeline, Schedule, Sequential};
use brigade_devices::{CountingExecutor, Executor, Purpose};
use brigade_pipeline::plan::{MemoryPlan, Plan, PlanOptions, RunLength};
use brigade_pipeline::schedule::Slack;
use brigade_pipeline::staleness::{Corrections, StalenessOptions};
use brigade_pipeline::{DataParallel, DataParallelOptions, PipelineOptions, Samples, Stretch, StretchReport};
use common::{OPTIMISER, SEED, executor, feed, hardware, samples, small_model};

const BATCH: usize = 6;
const NO_SLACK: Schedule = Schedule::OneForwardOneBackwardAsync;

/// Cuts that leave a rectifier alone in its stage, which its neighbours compute.
const ALONE: [usize; 3] = [0, 1, 2];

/// Schedule, microbatches of a step, policy, corrections.
type Way = (Schedule, usize, &'static str, &'static str);

const WAYS: &[Way] = &[
    (Schedule::LayerBlockWise, 1, "single", "none"),
    (NO_SLACK, 2, "stashed", "momentum-prediction"),
    (Schedule::Mixed(Slack::from_bits(0b01, 2)), 3, "single", "discrepancy,accumulation=2"),
    (NO_SLACK, 3, "double-buffered", "synchronous-finish=1"),
    (Schedule::OneForwardOneBackward, 3, "single", "none"),
    (Schedule::ZeroBubble, 3, "single", "none"),
    (Schedule::GPipe, 4, "single", "none"),
];

fn staleness(weights: &str, corrections: &str) -> StalenessOptions {
    let corrections = Corrections::parse(corrections.split(',')).unwrap();
    StalenessOptions { weights: weights.parse().unwrap(), corrections }
}

fn stretch(batches: &[Samples], first_step: usize, synchronous: bool) -> Stretch {
    let samples = batches.iter().map(|samples| samples.labels.len()).sum();
    Stretch { first_step, synchronous, ..Stretch::new(samples, LearningRate::constant(0.01)) }
}

fn train(pipeline: &mut Pipeline, batches: &[Samples], stretch: &Stretch) -> StretchReport {
    pipeline.train(stretch, feed(batches), &mut |_, _| ControlFlow::Continue(())).unwrap()
}

/// Three epochs of four steps, the last of three samples, with an evaluation of two steps after the first; then an epoch
/// that flushes where the corrections want one.
fn run(pipeline: &mut Pipeline, model: &Sequential, finish: bool) -> StretchReport {
    let mut batches = samples(model, BATCH, 3);
    batches.extend(samples(model, 3, 1));
    train(pipeline, &batches, &stretch(&batches, 0, false));
    let evaluated = [samples(model, BATCH, 1), samples(model, 1, 1)].concat();
    pipeline.evaluate(BATCH + 1, feed(&evaluated)).unwrap();
    train(pipeline, &batches, &stretch(&batches, 4, false));
    train(pipeline, &batches, &stretch(&batches, 8, finish))
}

fn by_purpose(memory: &MemoryPlan) -> BTreeMap<Purpose, u64> {
    let MemoryPlan { weights, gradients, optimiser, weight_versions, .. } = *memory;
    let MemoryPlan { activations, activation_gradients, staging, workspace, small, .. } = *memory;
    let all = [
        (Purpose::Weights, weights),
        (Purpose::Gradients, gradients),
        (Purpose::Optimiser, optimiser),
        (Purpose::WeightVersions, weight_versions),
        (Purpose::Activations, activations),
        (Purpose::ActivationGradients, activation_gradients),
        (Purpose::Staging, staging),
        (Purpose::Workspace, workspace),
        (Purpose::Small, small),
    ];
    all.into_iter().filter(|(_, bytes)| *bytes > 0).collect()
}

fn held(bytes: &[(Purpose, u64)]) -> BTreeMap<Purpose, u64> {
    bytes.iter().copied().filter(|(_, bytes)| *bytes > 0).collect()
}

fn ranges(model: &Sequential, starts: &[usize]) -> Vec<Range<usize>> {
    let ends = starts[1..].iter().copied().chain([model.layers.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

fn holds(model: &Sequential, names: &[&str], starts: &[usize], (schedule, microbatches, weights, corrections): Way) {
    let ranges = ranges(model, starts);
    let executors: Vec<Box<dyn Executor>> = (0..starts.len()).map(|s| executor(names[s % names.len()])).collect();
    let counting: Vec<_> = executors.iter().map(|executor| CountingExecutor::new(executor.info().clone())).collect();
    let staleness = staleness(weights, corrections);
    let run_length = Some(RunLength { epochs: 3, training: 3 * BATCH + 3, evaluated: BATCH + 1 });
    let plan = PlanOptions { schedule, batch: BATCH, microbatches, staleness, run: run_length };
    let plan = Plan::new(model, &ranges, plan, &counting).unwrap();
    let options = PipelineOptions {
        schedule,
        batch: BATCH,
        microbatches,
        seed: SEED,
        optimiser: OPTIMISER,
        loss_scale: 1.0,
        staleness,
        record: false,
        link_checksums: false,
    };
    let stages = ranges.into_iter().zip(executors).collect();
    let mut pipeline = Pipeline::start(model, stages, options).unwrap();
    let report = run(&mut pipeline, model, corrections.contains("synchronous-finish"));
    for (planned, stage) in plan.stages.iter().zip(&report.stages) {
        let what = format!("{names:?} {schedule} × {microbatches} {weights} {corrections}, stage {}", stage.stage);
        assert_eq!(by_purpose(&planned.memory), held(&stage.bytes), "{what}");
        assert_eq!(planned.memory.total, stage.bytes.iter().map(|(_, bytes)| bytes).sum::<u64>(), "{what}");
    }
}

#[test]
fn ledgers_are_the_plan_on_both_vendors_in_one_pipeline() {
    for &way in WAYS {
        holds(&small_model(), &["llvmpipe", "swiftshader"], &[0, 3, 6], way);
    }
    holds(&small_model(), &["llvmpipe", "swiftshader"], &ALONE, WAYS[0]);
}

#[test]
fn ledgers_are_the_plan_on_gpus_beside_a_software_adapter() {
    for name in &hardware() {
        for &way in WAYS {
            holds(&small_model(), &[name, "llvmpipe"], &[0, 3, 6], way);
        }
        holds(&brigade::built_in("cnn-small").unwrap(), &[name], &[0, 3, 7], WAYS[0]);
    }
}

#[test]
fn ledgers_are_the_plan_on_the_reference() {
    for &way in WAYS {
        holds(&small_model(), &["reference"], &[0, 3, 6], way);
        holds(&small_model(), &["reference"], &ALONE, way);
    }
}

/// Two layer-blocks on each device.
#[test]
fn ledgers_are_the_plan_where_blocks_interleave() {
    let way = ("interleaved=2".parse().unwrap(), 5, "single", "none");
    holds(&small_model(), &["llvmpipe", "swiftshader"], &[0, 2, 4, 7], way);
}

/// Messages of megabytes, for which slots are counted one by one.
#[test]
fn ledgers_are_the_plan_with_large_messages() {
    let model = brigade::built_in("cnn-small").unwrap();
    for way in [WAYS[0], WAYS[1], WAYS[4]] {
        holds(&model, &["llvmpipe"], &[0, 3, 7], way);
    }
    holds(&model, &["llvmpipe"], &[0], WAYS[4]);
}

#[test]
fn ledgers_of_replicas_are_the_plan() {
    let model = brigade::built_in("cnn-small").unwrap();
    let executors: Vec<_> = (0..2).map(|_| executor("llvmpipe")).collect();
    let counting = CountingExecutor::new(executors[0].info().clone());
    let options = DataParallelOptions { batch: BATCH, seed: SEED, optimiser: OPTIMISER };
    let mut replicas = DataParallel::start(&model, executors, options).unwrap();
    for batch in samples(&model, BATCH, 3) {
        replicas.train(batch, 0.01).unwrap();
    }
    let report = replicas.report().unwrap();
    let plan = MemoryPlan::replica(&model, BATCH / 2, counting).unwrap();
    for worker in &report.workers {
        assert_eq!(by_purpose(&plan), held(&worker.bytes), "worker {}", worker.worker);
    }
    let host: Vec<_> = report.host.by_purpose().collect();
    let plan = MemoryPlan::shared_host(&model).unwrap();
    assert_eq!(by_purpose(&plan), held(&host));
    assert_eq!(plan.peak, report.host.peak_bytes());
}
