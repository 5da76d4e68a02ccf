//! Cuts by what the layers take on the devices.

use brigade_devices::{DeviceInfo, Selection, Task};
use brigade_pipeline::schedule::Kind;
use brigade_pipeline::staleness::StalenessOptions;
use brigade_pipeline::{LayerTimes, Pipeline, PipelineOptions, Placement};

use super::open::watched;
use super::{Trainer, resolve, threads_each};
use crate::failure::Failure;

impl Trainer {
    /// The same run cut anew by what the layers take on its devices, such that the slowest stage takes as little time as
    /// possible. Where the run never flushes, the cuts decide what is stale, and so its bits.
    ///
    /// # Errors
    /// Where a device is not there, or has no room for a layer.
    pub fn measured(&self) -> Result<Self, Failure> {
        let devices: Vec<_> = self.devices().collect();
        let placement = Placement::by_times(&self.model, &devices, self.layer_times()?)?;
        Ok(Self { placement, ..self.clone() })
    }

    /// Nanoseconds that each layer's forward, backward and update take on each device of the placement: of one
    /// microbatch, with the kernels that a run would use. Adapters of one kind are measured once, and a device holds one
    /// layer at a time.
    fn layer_times(&self) -> Result<LayerTimes, Failure> {
        let devices = resolve(&self.placement)?;
        let threads = self.threads.unwrap_or_else(|| threads_each(&devices));
        let layers: Vec<_> = (0..self.model.layers.len()).map(|layer| layer..layer + 1).collect();
        let PipelineOptions { batch, microbatches, .. } = self.options;
        let microbatch = PipelineOptions {
            schedule: Kind::LayerBlockWise,
            batch: batch.div_ceil(microbatches.max(1)),
            microbatches: 1,
            staleness: StalenessOptions::default(),
            ..self.options
        };
        let tasks = Pipeline::tasks(&self.model, &layers, &microbatch)?;
        let (selections, _) = self.tuned(&devices, &vec![tasks.concat(); devices.len()], threads)?;
        let mut measured: Vec<(&DeviceInfo, Vec<u64>)> = Vec::new();
        for (device, selection) in devices.iter().zip(&selections) {
            let known = measured.iter().find(|(other, _)| other.is_like(device)).map(|(_, times)| times.clone());
            let times = known.map_or_else(|| self.times_on(device, selection, &tasks, threads), Ok)?;
            measured.push((device, times));
        }
        Ok(measured.into_iter().map(|(device, times)| (device.name.clone(), times)).collect())
    }

    fn times_on(
        &self,
        device: &DeviceInfo,
        selection: &Selection,
        tasks: &[Vec<Task>],
        threads: usize,
    ) -> Result<Vec<u64>, Failure> {
        let mut executor = self.open(device, threads)?;
        executor.selection_mut().adopt(selection);
        let tasks = tasks.to_vec();
        watched(device, "the measuring of layers", move || {
            let time = |tasks: &Vec<Task>| {
                let time = brigade_devices::time_of(executor.as_mut(), tasks)?;
                Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
            };
            tasks.iter().map(time).collect()
        })
    }
}
