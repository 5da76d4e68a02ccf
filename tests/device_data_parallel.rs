//! Data parallelism over a shared bus gives the weights of one device over the same batch, and counts what its
//! formula says.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use brigade::Schedule;
use brigade_pipeline::{DataParallel, DataParallelOptions, DataParallelReport, NamedTensor, Samples};
use common::{OPTIMISER, SEED, assert_same_bits, executor, pipeline, samples, small_model, trained};

const BATCH: usize = 6;

fn start(names: &[&str]) -> DataParallel {
    let executors = names.iter().map(|name| executor(name)).collect();
    let options = DataParallelOptions { batch: BATCH, seed: SEED, optimiser: OPTIMISER };
    DataParallel::start(&small_model(), executors, options).unwrap()
}

fn replicas(names: &[&str], batches: &[Samples]) -> (Vec<NamedTensor>, DataParallelReport) {
    let mut replicas = start(names);
    for samples in batches {
        replicas.train(samples.clone(), 0.05).unwrap();
    }
    (replicas.parameters(), replicas.report().unwrap())
}

fn one_device(name: &str, batches: &[Samples]) -> Vec<NamedTensor> {
    trained(&mut pipeline(&[name], &[0], Schedule::OneForwardOneBackward, BATCH, 1), batches).0
}

/// ‖got − wanted‖ / ‖wanted‖ over all weights.
fn distance(got: &[NamedTensor], wanted: &[NamedTensor]) -> f64 {
    let values = |tensors: &[NamedTensor]| -> Vec<f64> {
        tensors.iter().flat_map(|tensor| tensor.weights.iter().copied().map(f64::from)).collect()
    };
    let (got, wanted) = (values(got), values(wanted));
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    (square(&mut got.iter().zip(&wanted).map(|(g, w)| g - w)) / square(&mut wanted.iter().copied())).sqrt()
}

#[test]
fn one_replica_on_the_reference_gives_the_bits_of_one_stage() {
    let batches = samples(&small_model(), BATCH, 5);
    assert_same_bits(&replicas(&["reference"], &batches).0, &one_device("reference", &batches));
}

/// The sum over workers rounds once for each worker, the one device once for each sample: a few units in the last
/// place (6e-8) of every gradient, over five steps.
#[test]
fn several_replicas_give_the_weights_of_one_device_but_for_rounding() {
    let batches = samples(&small_model(), BATCH, 5);
    for name in ["reference", "llvmpipe"] {
        let wanted = one_device(name, &batches);
        let error = distance(&replicas(&[name; 4], &batches).0, &wanted);
        assert!(error < 2e-6, "{name}: {error:e}");
    }
    // The tolerance sees a single sample that is left out.
    let mut fewer = batches.clone();
    fewer.iter_mut().for_each(|samples| {
        Arc::make_mut(&mut samples.labels).truncate(BATCH - 1);
        Arc::make_mut(&mut samples.inputs).truncate((BATCH - 1) * 144);
    });
    assert!(distance(&replicas(&["reference"; 4], &fewer).0, &one_device("reference", &batches)) > 1e-4);
}

#[test]
fn two_runs_over_two_vendors_give_the_same_bits() {
    let batches = samples(&small_model(), BATCH, 4);
    let run = || replicas(&["llvmpipe", "swiftshader", "reference"], &batches).0;
    assert_same_bits(&run(), &run());
}

#[test]
fn every_worker_sends_and_receives_all_parameters_each_step() {
    let batches = samples(&small_model(), BATCH, 3);
    let (_, report) = replicas(&["llvmpipe"; 2], &batches);
    let parameters = 4 * small_model().parameter_elements() as u64;
    for worker in &report.workers {
        assert_eq!((worker.gradient_bytes, worker.weight_bytes), (3 * parameters, 3 * parameters));
    }
}

#[test]
fn a_batch_smaller_than_the_workers_is_refused() {
    let mut replicas = start(&["reference"; 3]);
    let error = replicas.train(samples(&small_model(), 2, 1).remove(0), 0.05).unwrap_err();
    assert!(error.to_string().contains("3 microbatches"), "{error}");
}
