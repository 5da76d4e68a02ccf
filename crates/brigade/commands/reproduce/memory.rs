//! Bytes of device memory: pipeline against replicas, planned and by ledger.

use brigade::{Failure, Placement, Schedule, Sequential};
use brigade_devices::CountingExecutor;
use brigade_pipeline::DataParallelReport;
use brigade_pipeline::plan::{MemoryPlan, Plan, PlanOptions, RunLength};
use brigade_pipeline::staleness::StalenessOptions;
use serde::Serialize;

use super::runs::{Bytes, Counted};
use super::{BATCHES, CUTS, SCHEDULES, WORKERS};

/// The table of memory.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    batch: usize,
    /// Absent with `--quick`.
    pub(super) counted: Option<CountedMemory>,
    /// Every byte of a step of every batch, as the ledgers would have it.
    pub(super) planned: Vec<Row>,
}

/// By the ledgers of real runs.
#[derive(Debug, Serialize)]
pub(super) struct CountedMemory {
    /// The workers of the shared bus.
    pub(super) shared_bus_workers: Bytes,
    /// Weights and momentum of the shared bus, on the host.
    pub(super) shared_bus_host: Bytes,
    /// Both: the baseline.
    pub(super) shared_bus_total: u64,
    pub(super) pipelines: Vec<PipelineMemory>,
}

/// A pipeline's ledgers.
#[derive(Debug, Serialize)]
pub(super) struct PipelineMemory {
    pub(super) schedule: Schedule,
    pub(super) ledger: Bytes,
    pub(super) stages: Vec<u64>,
    /// 1 − pipeline / baseline.
    pub(super) saving: f64,
    /// The same, the baseline's host left out.
    pub(super) saving_on_devices: f64,
}

/// One batch, planned.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) batch: usize,
    pub(super) shared_bus: u64,
    pub(super) layer_block_wise: u64,
    pub(super) one_f_one_b_async: u64,
}

impl Memory {
    pub(super) fn new(
        model: &Sequential,
        batch: usize,
        device: &CountingExecutor,
        counted: Option<&Counted>,
    ) -> Result<Self, Failure> {
        let planned = BATCHES.iter().map(|&batch| row(model, batch, device)).collect::<Result<_, _>>()?;
        Ok(Self { batch, counted: counted.map(CountedMemory::of), planned })
    }

    /// Bytes of the pipeline under `schedule` and of the baseline, by ledger.
    pub(super) fn totals(&self, schedule: Schedule) -> Option<(u64, u64)> {
        let counted = self.counted.as_ref()?;
        let pipeline = counted.pipelines.iter().find(|pipeline| pipeline.schedule == schedule)?;
        Some((pipeline.ledger.total, counted.shared_bus_total))
    }
}

impl CountedMemory {
    fn of(counted: &Counted) -> Self {
        let DataParallelReport { workers, host } = &counted.baseline;
        let shared_bus_workers = Bytes::of(workers.iter().map(|worker| worker.bytes.as_slice()));
        let host: Vec<_> = host.by_purpose().collect();
        let shared_bus_host = Bytes::of([host.as_slice()]);
        let shared_bus_total = shared_bus_workers.total + shared_bus_host.total;
        let saving = |bytes: u64, of: u64| 1.0 - bytes as f64 / of.max(1) as f64;
        let pipeline = |(schedule, stages): &(Schedule, Vec<brigade_pipeline::StageReport>)| {
            let ledger = Bytes::of(stages.iter().map(|stage| stage.bytes.as_slice()));
            PipelineMemory {
                schedule: *schedule,
                stages: stages.iter().map(|stage| Bytes::of([stage.bytes.as_slice()]).total).collect(),
                saving: saving(ledger.total, shared_bus_total),
                saving_on_devices: saving(ledger.total, shared_bus_workers.total),
                ledger,
            }
        };
        let pipelines = counted.pipelines.iter().map(pipeline).collect();
        Self { pipelines, shared_bus_workers, shared_bus_host, shared_bus_total }
    }
}

fn row(model: &Sequential, batch: usize, device: &CountingExecutor) -> Result<Row, Failure> {
    let ranges: Vec<_> =
        Placement::by_hand(model, &["-"; WORKERS], &CUTS)?.stages.into_iter().map(|(_, range)| range).collect();
    let pipeline = |schedule| {
        let options = PlanOptions {
            schedule,
            batch,
            microbatches: 1,
            staleness: StalenessOptions::default(),
            run: Some(RunLength { epochs: 1, training: batch, evaluated: 0 }),
        };
        let plan = Plan::new(model, &ranges, options, &vec![device.clone(); WORKERS])?;
        Ok::<u64, Failure>(plan.stages.iter().map(|stage| stage.memory.total).sum())
    };
    let replica = MemoryPlan::replica(model, batch, device.clone())?;
    let host = MemoryPlan::shared_host(model)?;
    Ok(Row {
        batch,
        shared_bus: WORKERS as u64 * replica.total + host.total,
        layer_block_wise: pipeline(SCHEDULES[0])?,
        one_f_one_b_async: pipeline(SCHEDULES[1])?,
    })
}
