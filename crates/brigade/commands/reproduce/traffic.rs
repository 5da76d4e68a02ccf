//! Bytes moved in a step: pipeline, shared bus, ring all-reduce.

use brigade::{Failure, Placement, Sequential};
use brigade_pipeline::StageReport;
use serde::Serialize;

use super::runs::Counted;
use super::{CUTS, WORKERS};

const FLOAT: u64 = 4;

/// The table of transfers.
#[derive(Debug, Serialize)]
pub(super) struct Traffic {
    batch: usize,
    pub(super) pipeline_bytes: u64,
    pub(super) shared_bus_bytes: u64,
    pub(super) ratio: f64,
    pub(super) ring_bytes: u64,
    pub(super) ring_ratio: f64,
    pub(super) formula: Sums,
    /// From a real run.
    pub(super) counted: Option<Sums>,
    /// What the pipeline's sum is made of, counted.
    pub(super) counted_parts: Option<Parts>,
    /// Every batch by formula, and counted where there was a run.
    pub(super) rows: Vec<Row>,
}

/// The two sums that can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Sums {
    pub(super) pipeline_bytes: u64,
    pub(super) shared_bus_bytes: u64,
}

/// Bytes of one step of the pipeline.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Parts {
    /// Over all links, forward.
    pub(super) activations: u64,
    /// Over all links, backward.
    pub(super) gradients: u64,
    /// Fed into the first stage.
    pub(super) input: u64,
    /// Of the network's output, which the published table counts; here it stays on the last device.
    pub(super) output: u64,
}

/// One batch.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Row {
    pub(super) batch: usize,
    pub(super) pipeline_bytes: u64,
    pub(super) shared_bus_bytes: u64,
    pub(super) ring_bytes: u64,
    /// Shared bus over pipeline.
    pub(super) ratio: f64,
    /// Ring over pipeline.
    pub(super) ring_ratio: f64,
    /// The two sums of a real run.
    pub(super) counted: Option<Sums>,
}

impl Traffic {
    /// Of every one of `batches`; of `batch` first of all.
    pub(super) fn new(
        model: &Sequential,
        batch: usize,
        batches: &[usize],
        counted: &[Counted],
    ) -> Result<Self, Failure> {
        let run = |batch: usize| counted.iter().find(|counted| counted.batch == batch);
        let row = |batch: usize| Ok::<_, Failure>(Row { counted: run(batch).map(Sums::counted), ..row(model, batch)? });
        let here = row(batch)?;
        Ok(Self {
            batch,
            pipeline_bytes: here.pipeline_bytes,
            shared_bus_bytes: here.shared_bus_bytes,
            ratio: here.ratio,
            ring_bytes: here.ring_bytes,
            ring_ratio: here.ring_ratio,
            formula: Sums { pipeline_bytes: here.pipeline_bytes, shared_bus_bytes: here.shared_bus_bytes },
            counted: here.counted,
            counted_parts: run(batch).map(|counted| Parts::of(counted.stages())),
            rows: batches.iter().map(|&batch| row(batch)).collect::<Result<_, _>>()?,
        })
    }
}

impl Sums {
    fn counted(counted: &Counted) -> Self {
        let parts = Parts::of(counted.stages());
        Self {
            pipeline_bytes: parts.activations + parts.gradients + parts.input + parts.output,
            shared_bus_bytes: counted.baseline.workers.iter().map(|w| w.gradient_bytes + w.weight_bytes).sum(),
        }
    }
}

impl Parts {
    fn of(stages: &[StageReport]) -> Self {
        let sum = |bytes: fn(&StageReport) -> u64| stages.iter().map(bytes).sum();
        Self {
            activations: sum(|stage| stage.activation_bytes),
            gradients: sum(|stage| stage.gradient_bytes),
            input: sum(|stage| stage.input_bytes),
            output: sum(|stage| stage.output_bytes),
        }
    }
}

/// Pipeline: both ways over every cut, the input and the output. Shared bus: W and dW of each of n workers, 2·n·W. Ring
/// all-reduce: 2·(n − 1)·W over all workers.
fn row(model: &Sequential, batch: usize) -> Result<Row, Failure> {
    let placement = Placement::by_hand(model, &["-"; WORKERS], &CUTS)?;
    let elements = |shape: brigade::Shape| (shape.c * shape.h * shape.w) as u64;
    let cuts: u64 = placement.stages.iter().skip(1).map(|(_, range)| elements(model.layers[range.start].input)).sum();
    let pipeline_bytes = FLOAT * batch as u64 * (2 * cuts + elements(model.input) + model.classes() as u64);
    let (workers, parameters) = (WORKERS as u64, FLOAT * model.parameter_elements() as u64);
    let (shared_bus_bytes, ring_bytes) = (2 * workers * parameters, 2 * (workers - 1) * parameters);
    let over = |bytes: u64| hundredths(bytes as f64 / pipeline_bytes as f64);
    let (ratio, ring_ratio) = (over(shared_bus_bytes), over(ring_bytes));
    Ok(Row { batch, pipeline_bytes, shared_bus_bytes, ring_bytes, ratio, ring_ratio, counted: None })
}

fn hundredths(ratio: f64) -> f64 {
    (100.0 * ratio).round() / 100.0
}
