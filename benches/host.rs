//! What the host does beside the devices: schedules, simulation, data, checksums, checkpoints. `cargo bench`
#![allow(clippy::unwrap_used, reason = "a measurement that fails ends")]

use std::hint::black_box;

use brigade_data::{Kind, Sampler, Spec};
use brigade_kernels::{Random, ops};
use brigade_pipeline::model::built_in;
use brigade_pipeline::partition::balanced;
use brigade_pipeline::schedule::{Durations, Kind as ScheduleKind, Schedule, Transfer, simulate};
use brigade_pipeline::{Checkpoint, Manifest, NamedTensor, Store};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const STAGES: usize = 8;
const STEPS: usize = 64;

fn schedules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule");
    let steps = [4; STEPS];
    for kind in ["layer-block-wise", "1f1b", "gpipe"] {
        let schedule = Schedule::new(kind.parse::<ScheduleKind>().unwrap(), STAGES);
        group.bench_function(format!("rows of {kind}"), |bench| {
            bench.iter(|| (0..STAGES).map(|stage| schedule.row(stage, &steps).len()).sum::<usize>());
        });
        let durations = [Durations::whole(1.0, 2.0, 0.1); STAGES];
        let transfers = [Transfer::alike(0.1); STAGES - 1];
        group.bench_function(format!("simulation of {kind}"), |bench| {
            bench.iter(|| {
                simulate(&schedule, &steps, &durations, &transfers, |link| schedule.capacity(link, 4))
                    .unwrap()
                    .makespan()
            });
        });
    }
    let costs: Vec<u64> = (1..=64).map(|layer| layer * 7919 % 101 + 1).collect();
    group.bench_function("partition of 64 layers", |bench| bench.iter(|| balanced(&costs, STAGES).unwrap()));
    group.finish();
}

fn data(criterion: &mut Criterion) {
    let mut spec = Spec::new(Kind::Glyphs);
    (spec.train, spec.test) = (Some(2000), Some(1));
    let (train, _) = brigade_data::open(&spec).unwrap();
    let mut group = criterion.benchmark_group("data");
    let sampler = Sampler::new(60_000, 32).unwrap().shuffled(1);
    group.bench_function("order of 60,000 samples", |bench| bench.iter(|| sampler.epoch(black_box(3)).batches()));
    let indices: Vec<u32> = (0..32).map(|index| index * 61).collect();
    group.throughput(Throughput::Elements(32));
    group.bench_function("batch of 32 glyphs", |bench| bench.iter(|| train.batch(&indices).unwrap()));
    group.finish();
}

fn checkpoints(criterion: &mut Criterion) {
    let model = built_in("cnn-small").unwrap();
    let tensors: Vec<NamedTensor> = model
        .layers
        .iter()
        .flat_map(|layer| layer.parameters.iter().map(|parameter| (layer.name.clone(), parameter)))
        .map(|(layer, parameter)| {
            let elements = parameter.elements().unwrap();
            NamedTensor {
                name: format!("{layer}.{}", parameter.name),
                dims: parameter.dims.clone(),
                weights: vec![0.5; elements],
                momentum: vec![0.25; elements],
                carried: std::collections::BTreeMap::new(),
            }
        })
        .collect();
    let bytes: usize = tensors.iter().map(|tensor| 8 * tensor.weights.len()).sum();
    let manifest = Manifest::new(model.spec.clone(), 1, 32);
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Bytes(bytes as u64));
    let values: Vec<u8> = vec![7; bytes];
    group.bench_function("checksum", |bench| bench.iter(|| crc32fast::hash(black_box(&values))));
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    group.bench_function("save", |bench| bench.iter(|| store.save(&manifest, &tensors).unwrap()));
    let saved = store.save(&manifest, &tensors).unwrap();
    group.bench_function("open and verify", |bench| bench.iter(|| Checkpoint::open(&saved).unwrap()));
    group.bench_function("manifest to JSON", |bench| bench.iter(|| serde_json::to_string(&manifest).unwrap()));
    group.finish();
}

fn kernels(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("kernels");
    for entry in ops::OPERATIONS.iter().filter(|entry| ["conv2d", "linear"].contains(&entry.name)) {
        group.bench_function(format!("a random case of {}", entry.name), |bench| {
            bench.iter_batched(|| Random::new(7), |mut random| (entry.generate)(&mut random), BatchSize::SmallInput);
        });
        group.bench_function(format!("text of {}", entry.name), |bench| {
            bench.iter(|| entry.shader.source(&[]).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, schedules, data, checkpoints, kernels);
criterion_main!(benches);
