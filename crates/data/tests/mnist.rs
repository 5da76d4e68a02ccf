//! The original MNIST, where a copy of it lies beside the project.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use brigade_data::{Kind, Loader, Sampler, Spec, Split, open};

#[test]
fn mnist_has_60000_and_10000_digits() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/mnist");
    if !path.is_dir() {
        println!("skipped mnist_has_60000_and_10000_digits: no data in `{}`", path.display());
        return;
    }
    let (train, test) = open(&Spec { path: Some(path), ..Spec::new(Kind::Mnist) }).unwrap();
    assert_eq!((train.len(), test.len()), (60_000, 10_000));
    assert_eq!((train.split(), test.split()), (Split::Train, Split::Test));
    assert_eq!(<[usize; 3]>::from(train.shape()), [1, 28, 28]);
    // The figures that everybody uses for MNIST.
    assert!((train.normalisation().mean[0] - 0.1307).abs() < 5e-5);
    assert!((train.normalisation().std[0] - 0.3081).abs() < 5e-5);
    assert_eq!(train.normalisation(), test.normalisation());
    let labels: Vec<u32> = (0..5).map(|index| train.sample(index).unwrap().1).collect();
    assert_eq!(labels, [5, 0, 4, 1, 9]);

    let sampler = Sampler::new(test.len(), 96).unwrap();
    let batches: Result<Vec<_>, _> = Loader::start(&test, sampler.epoch(0), 0).unwrap().collect();
    let batches = batches.unwrap();
    assert_eq!(batches.len(), 105);
    assert_eq!(batches.last().unwrap().len(), 16);
    let sevens = batches.iter().flat_map(|batch| &batch.labels).filter(|&&label| label == 7).count();
    assert_eq!(sevens, 1_028);
}
