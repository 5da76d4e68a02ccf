//! A data set as the pipeline's source of samples.

use brigade_data::{Dataset, Loader, Sampler};
use brigade_kernels::Shape;
use brigade_pipeline::model::Sequential;
use brigade_pipeline::{Batches, BoxError, Samples, Source};

use crate::failure::Failure;

/// The two splits of a data set; the training split shuffled afresh by the seed at each epoch.
#[derive(Debug, Clone)]
pub struct Data {
    /// What is trained on.
    pub train: Dataset,
    /// What accuracy is measured on.
    pub test: Dataset,
    seed: u64,
}

impl Data {
    /// Opens a data set. `seed` gives the order of the training samples.
    ///
    /// # Errors
    /// Where the files are missing, damaged or hold labels out of range.
    pub fn open(spec: &brigade_data::Spec, seed: u64) -> Result<Self, Failure> {
        let (train, test) = brigade_data::open(spec)?;
        Ok(Self { train, test, seed })
    }

    /// Whether the pictures and classes are those of the model.
    ///
    /// # Errors
    /// Says what the model takes and what the data set has.
    pub fn check_against(&self, model: &Sequential) -> Result<(), Failure> {
        let shape = self.train.shape();
        let shape = Shape::new(shape.channels(), shape.height(), shape.width());
        if shape != model.input {
            return Err(Failure::usage(format!(
                "model `{}` takes pictures of {}, and the data set has {shape}; choose another model or resize",
                model.name, model.input
            )));
        }
        if self.train.classes() > model.classes() {
            return Err(Failure::usage(format!(
                "model `{}` knows {} classes, and the data set has {}",
                model.name,
                model.classes(),
                self.train.classes()
            )));
        }
        Ok(())
    }

    fn batches(
        &self,
        dataset: &Dataset,
        sampler: &Sampler,
        epoch: usize,
        first: usize,
    ) -> Result<Batches<'_>, BoxError> {
        let loader = Loader::start(dataset, sampler.epoch(epoch as u64), first)?;
        Ok(Box::new(loader.map(|batch| {
            let batch = batch?;
            Ok(Samples::new(batch.pixels, batch.labels))
        })))
    }
}

impl Source for Data {
    fn training_samples(&self) -> usize {
        self.train.len()
    }

    fn test_samples(&self) -> usize {
        self.test.len()
    }

    fn training(&self, epoch: usize, batch: usize, first: usize) -> Result<Batches<'_>, BoxError> {
        let sampler = Sampler::new(self.train.len(), batch)?.shuffled(self.seed);
        self.batches(&self.train, &sampler, epoch, first)
    }

    fn test(&self, batch: usize) -> Result<Batches<'_>, BoxError> {
        let sampler = Sampler::new(self.test.len(), batch)?;
        self.batches(&self.test, &sampler, 0, 0)
    }
}
