//! Real runs of one step each, for what they count: bytes on the links and bytes in the ledgers.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use brigade::{DeviceInfo, Failure, LearningRate, Placement, Schedule, Sequential, Trainer};
use brigade_devices::Purpose;
use brigade_kernels::Random;
use brigade_pipeline::{DataParallelReport, Samples, StageReport, Stretch};
use serde::Serialize;

use super::{CUTS, SCHEDULES, WORKERS};

use crate::output;

/// Largest buffer where no device is opened.
pub(super) const UNNAMED_BUFFER_BYTES: u64 = 1 << 30;

/// Counting needs no progress in learning, only finite numbers.
const LEARNING_RATE: f32 = 1e-4;

/// What every run with one batch counted.
pub(super) struct Counted {
    pub(super) batch: usize,
    /// The pipeline under each of [`SCHEDULES`].
    pub(super) pipelines: Vec<(Schedule, Vec<StageReport>)>,
    pub(super) baseline: DataParallelReport,
}

/// Bytes by purpose, and in all.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Bytes {
    pub(super) total: u64,
    pub(super) by_purpose: BTreeMap<Purpose, u64>,
}

impl Bytes {
    pub(super) fn of<'a>(ledgers: impl IntoIterator<Item = &'a [(Purpose, u64)]>) -> Self {
        let mut sum = Self::default();
        for &(purpose, bytes) in ledgers.into_iter().flatten() {
            sum.total += bytes;
            *sum.by_purpose.entry(purpose).or_default() += bytes;
        }
        sum
    }
}

impl Counted {
    /// One step of the pipeline under each schedule, and one of the baseline with the same batch for each worker.
    pub(super) fn run(model: &Sequential, device: &DeviceInfo, batch: usize) -> Result<Self, Failure> {
        let placement = Placement::by_hand(model, &[device.name.as_str(); WORKERS], &CUTS)?;
        let trainer = Trainer::new(model.clone(), placement);
        let mut pipelines = Vec::new();
        for schedule in SCHEDULES {
            output::tell(format_args!("counting: {schedule}, batch {batch}"));
            pipelines
                .push((schedule, pipeline_step(&trainer.clone().schedule(schedule, 1).batch(batch), model, batch)?));
        }
        output::tell(format_args!("counting: shared bus, {WORKERS} workers with a batch of {batch} each"));
        let mut baseline = trainer.batch(WORKERS * batch).start_replicas()?;
        baseline.train(samples(model, WORKERS * batch), LEARNING_RATE)?;
        Ok(Self { batch, pipelines, baseline: baseline.report()? })
    }

    /// What the stages under layer-block-wise counted.
    pub(super) fn stages(&self) -> &[StageReport] {
        self.pipelines.first().map_or(&[], |(_, stages)| stages)
    }
}

fn pipeline_step(trainer: &Trainer, model: &Sequential, batch: usize) -> Result<Vec<StageReport>, Failure> {
    let stretch = Stretch::new(batch, LearningRate::constant(LEARNING_RATE));
    let batches = Box::new(std::iter::once(Ok(samples(model, batch))));
    let mut pipeline = trainer.start()?;
    Ok(pipeline.train(&stretch, batches, &mut |_, _| ControlFlow::Continue(()))?.stages)
}

/// Random pictures and labels.
pub(super) fn samples(model: &Sequential, count: usize) -> Samples {
    let mut random = Random::new(1);
    let brigade::Shape { c, h, w } = model.input;
    let inputs = (0..count * c * h * w).map(|_| random.between(-1.0, 1.0) as f32).collect();
    let labels = (0..count).map(|_| random.integer(0, model.classes() - 1) as u32).collect();
    Samples::new(inputs, labels)
}
