//! Bytes of device memory: pipeline against replicas, planned and by ledger.

use brigade::{Failure, Placement, Schedule, Sequential};
use brigade_devices::CountingExecutor;
use brigade_pipeline::DataParallelReport;
use brigade_pipeline::plan::{MemoryPlan, Plan, PlanOptions, RunLength};
use brigade_pipeline::staleness::StalenessOptions;
use serde::Serialize;

use super::runs::{Bytes, Counted};
use super::{CUTS, SCHEDULES, WORKERS};

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

/// One batch.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) batch: usize,
    /// Planned: what executors without a device counted.
    #[serde(flatten)]
    pub(super) totals: Totals,
    /// By the ledgers of a real run, where there was one.
    pub(super) counted: Option<Totals>,
}

/// Bytes of memory in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Totals {
    pub(super) shared_bus: u64,
    pub(super) layer_block_wise: u64,
    pub(super) one_f_one_b_async: u64,
}

/// Every one of `batches`, with what it is planned to take.
pub(super) fn plan(
    model: &Sequential,
    batches: &[usize],
    device: &CountingExecutor,
) -> Result<Vec<(usize, Totals)>, Failure> {
    let named = |batch: usize| move |of: Failure| Failure { message: format!("batch {batch}: {}", of.message), ..of };
    batches.iter().map(|&batch| Ok((batch, planned(model, batch, device).map_err(named(batch))?))).collect()
}

impl Memory {
    /// Of every batch that was planned; of `batch` first of all.
    pub(super) fn new(batch: usize, planned: Vec<(usize, Totals)>, counted: &[Counted]) -> Self {
        let run = |batch: usize| counted.iter().find(|counted| counted.batch == batch).map(CountedMemory::of);
        let row = |(batch, totals)| Row { batch, totals, counted: run(batch).as_ref().and_then(Totals::counted) };
        Self { batch, counted: run(batch), planned: planned.into_iter().map(row).collect() }
    }
}

impl Totals {
    fn counted(counted: &CountedMemory) -> Option<Self> {
        let of = |schedule| counted.pipelines.iter().find(|of| of.schedule == schedule).map(|of| of.ledger.total);
        Some(Self {
            shared_bus: counted.shared_bus_total,
            layer_block_wise: of(SCHEDULES[0])?,
            one_f_one_b_async: of(SCHEDULES[1])?,
        })
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

fn planned(model: &Sequential, batch: usize, device: &CountingExecutor) -> Result<Totals, Failure> {
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
    Ok(Totals {
        shared_bus: WORKERS as u64 * replica.total + host.total,
        layer_block_wise: pipeline(SCHEDULES[0])?,
        one_f_one_b_async: pipeline(SCHEDULES[1])?,
    })
}
