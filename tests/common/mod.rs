//! What several tests share: a small model, random samples, executors, and the built command.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "each test uses a part of it, and fails by panicking")]

pub(crate) mod command;
pub(crate) mod definition;
pub(crate) mod network;

use brigade::{LearningRate, ModelSpec, Optimiser, Pipeline, Schedule, Sequential};
use brigade_devices::{Executor, OpenOptions, ReferenceExecutor, find, list, open};
use brigade_kernels::Random;
use brigade_pipeline::staleness::StalenessOptions;
use brigade_pipeline::{Batches, NamedTensor, PipelineOptions, Samples, Stretch, StretchReport};
use serde_json::json;

pub(crate) const OPTIMISER: Optimiser = Optimiser { momentum: 0.9, weight_decay: 1e-3, nesterov: false };
pub(crate) const SEED: u64 = 5;

/// Every kind of layer, small: nine layers on 1×12×12 pictures of 10 classes.
pub(crate) fn small_model() -> Sequential {
    let spec: ModelSpec = serde_json::from_value(json!({
        "name": "small",
        "input": {"c": 1, "h": 12, "w": 12},
        "layers": [
            {"op": "conv2d", "out_channels": 4, "kernel": 3, "padding": 1},
            {"op": "relu"},
            {"op": "max_pool2d", "kernel": 2},
            {"op": "conv2d", "out_channels": 6, "kernel": 3},
            {"op": "local_response_norm", "size": 3},
            {"op": "avg_pool2d", "kernel": 2},
            {"op": "linear", "out_features": 16},
            {"op": "dropout", "p": 0.25},
            {"op": "linear", "out_features": 10}
        ]
    }))
    .unwrap();
    Sequential::new(&spec).unwrap()
}

/// `steps` batches of random pictures and labels.
pub(crate) fn samples(model: &Sequential, batch: usize, steps: usize) -> Vec<Samples> {
    let mut random = Random::new(11);
    let width = model.input.elements().unwrap();
    (0..steps)
        .map(|_| {
            let inputs = (0..batch * width).map(|_| random.between(-1.0, 1.0) as f32).collect();
            let labels = (0..batch).map(|_| random.integer(0, model.classes() - 1) as u32).collect();
            Samples::new(inputs, labels)
        })
        .collect()
}

pub(crate) fn feed(samples: &[Samples]) -> Batches<'_> {
    Box::new(samples.iter().cloned().map(Ok))
}

/// An executor by name; `reference` is always there, the software adapters after `scripts/setup test`.
pub(crate) fn executor(name: &str) -> Box<dyn Executor> {
    if name == "reference" {
        return Box::new(ReferenceExecutor::new());
    }
    let list = list();
    let info = find(&list, name).unwrap_or_else(|error| panic!("run scripts/setup test: {error}"));
    open(info, &OpenOptions { threads: Some(1), ..OpenOptions::default() }).unwrap()
}

/// The GPUs of this machine, by name: none on one that has only software adapters.
pub(crate) fn hardware() -> Vec<String> {
    list().into_iter().filter(|info| !info.is_software()).map(|info| info.name).collect()
}

/// A pipeline of the small model cut before the given layers, all stages on executors of the given names in turn.
pub(crate) fn pipeline(
    names: &[&str],
    starts: &[usize],
    schedule: Schedule,
    batch: usize,
    microbatches: usize,
) -> Pipeline {
    scaled_pipeline(names, starts, schedule, [batch, microbatches], 1.0)
}

/// As [`pipeline`], with a weight policy and corrections.
pub(crate) fn corrected_pipeline(
    names: &[&str],
    starts: &[usize],
    schedule: Schedule,
    sizes: [usize; 2],
    staleness: StalenessOptions,
) -> Pipeline {
    pipeline_with(names, starts, schedule, sizes, (1.0, staleness))
}

/// As [`pipeline`], with a loss scale.
pub(crate) fn scaled_pipeline(
    names: &[&str],
    starts: &[usize],
    schedule: Schedule,
    sizes: [usize; 2],
    loss_scale: f32,
) -> Pipeline {
    pipeline_with(names, starts, schedule, sizes, (loss_scale, StalenessOptions::default()))
}

fn pipeline_with(
    names: &[&str],
    starts: &[usize],
    schedule: Schedule,
    [batch, microbatches]: [usize; 2],
    (loss_scale, staleness): (f32, StalenessOptions),
) -> Pipeline {
    pipeline_of(&small_model(), names, starts, schedule, [batch, microbatches], (loss_scale, staleness))
}

/// A pipeline of a model cut before the given layers.
pub(crate) fn pipeline_of(
    model: &Sequential,
    names: &[&str],
    starts: &[usize],
    schedule: Schedule,
    [batch, microbatches]: [usize; 2],
    (loss_scale, staleness): (f32, StalenessOptions),
) -> Pipeline {
    let ends = starts[1..].iter().copied().chain([model.layers.len()]);
    let ranges = starts.iter().copied().zip(ends).map(|(start, end)| start..end);
    let stages = ranges.enumerate().map(|(s, range)| (range, executor(names[s % names.len()]))).collect();
    let options = PipelineOptions {
        schedule,
        batch,
        microbatches,
        seed: SEED,
        optimiser: OPTIMISER,
        loss_scale,
        staleness,
        record: true,
        link_checksums: false,
    };
    Pipeline::start(model, stages, options).unwrap()
}

/// Trains over the samples and gives weights and momentum, and what was counted.
pub(crate) fn trained(pipeline: &mut Pipeline, samples: &[Samples]) -> (Vec<NamedTensor>, StretchReport) {
    let report = train(pipeline, samples, (0, false));
    (parameters(pipeline), report)
}

/// As [`trained`]; the last `finish` steps are a stretch of their own, a synchronous one.
pub(crate) fn trained_with_finish(pipeline: &mut Pipeline, samples: &[Samples], finish: usize) -> Vec<NamedTensor> {
    let (stale, synchronous) = samples.split_at(samples.len() - finish);
    for (part, begin) in [(stale, (0, false)), (synchronous, (stale.len(), true))] {
        if !part.is_empty() {
            train(pipeline, part, begin);
        }
    }
    parameters(pipeline)
}

/// Trains over a stretch that begins with the run's step `first_step`.
fn train(pipeline: &mut Pipeline, samples: &[Samples], (first_step, synchronous): (usize, bool)) -> StretchReport {
    let count = |samples: &[Samples]| samples.iter().map(|samples| samples.labels.len()).sum();
    let stretch = Stretch {
        first_step,
        // Every step before was as large as the first of these.
        first_sample: (first_step * count(&samples[..1])) as u64,
        synchronous,
        ..Stretch::new(count(samples), LearningRate { initial: 0.05, milestones: vec![12], factor: 0.5 })
    };
    pipeline.train(&stretch, feed(samples), &mut |_, _| std::ops::ControlFlow::Continue(())).unwrap()
}

fn parameters(pipeline: &mut Pipeline) -> Vec<NamedTensor> {
    let parameters = pipeline.parameters().unwrap().into_iter();
    parameters.map(|tensor| NamedTensor { carried: Default::default(), ..tensor }).collect()
}

/// Equal bit for bit, with the first difference named.
pub(crate) fn assert_same_bits(got: &[NamedTensor], wanted: &[NamedTensor]) {
    assert_eq!(got.len(), wanted.len());
    for (got, wanted) in got.iter().zip(wanted) {
        assert_eq!(got.name, wanted.name);
        for (what, got_values, wanted_values) in
            [("weights", &got.weights, &wanted.weights), ("momentum", &got.momentum, &wanted.momentum)]
        {
            let different = got_values.iter().zip(wanted_values).position(|(g, w)| g.to_bits() != w.to_bits());
            assert_eq!(different, None, "{what} of {} differ", got.name);
            assert_eq!(got_values.len(), wanted_values.len());
        }
    }
}
