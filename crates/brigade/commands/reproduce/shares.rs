//! The share of each stage in the work under several partitions, and how much faster than one stage it can make four.

use brigade::{Failure, Placement, Schedule, Sequential};
use brigade_devices::CountingExecutor;
use brigade_pipeline::plan::{Plan, PlanOptions};
use brigade_pipeline::staleness::StalenessOptions;
use serde::Serialize;

use super::runs::UNNAMED_BUFFER_BYTES;
use super::{CUTS, WORKERS};

/// A partition by floating-point operations.
#[derive(Debug, Serialize)]
pub(super) struct Partition {
    pub(super) name: &'static str,
    /// The layers that it cuts after.
    pub(super) cuts: Vec<String>,
    /// Each stage's share of the floating-point operations.
    pub(super) shares: Vec<f64>,
    /// 1 / the largest share: no pipeline over these cuts is faster, if all operations take alike.
    pub(super) bound: f64,
}

pub(super) fn partitions(model: &Sequential, batch: usize) -> Result<Vec<Partition>, Failure> {
    let by_hand = |cuts: &[&str]| Placement::by_hand(model, &vec!["-"; cuts.len() + 1], cuts);
    let balanced = |stages| Placement::balanced(model, &vec!["-"; stages]);
    Ok(vec![
        partition(model, batch, "published, 4 stages", &by_hand(&CUTS)?)?,
        partition(model, batch, "after each pool, 4 stages", &by_hand(&["pool1", "pool2", "pool5"])?)?,
        partition(model, batch, "balanced, 4 stages", &balanced(WORKERS)?)?,
        partition(model, batch, "convolutions and linear layers, 2 stages", &by_hand(&["pool5"])?)?,
        partition(model, batch, "balanced, 2 stages", &balanced(2)?)?,
        partition(model, batch, "balanced, 8 stages", &balanced(8)?)?,
    ])
}

fn partition(
    model: &Sequential,
    batch: usize,
    name: &'static str,
    placement: &Placement,
) -> Result<Partition, Failure> {
    let ranges: Vec<_> = placement.stages.iter().map(|(_, range)| range.clone()).collect();
    let options = PlanOptions {
        schedule: Schedule::LayerBlockWise,
        batch,
        microbatches: 1,
        staleness: StalenessOptions::default(),
        run: None,
    };
    let devices = vec![CountingExecutor::unnamed(UNNAMED_BUFFER_BYTES); ranges.len()];
    let plan = Plan::new(model, &ranges, options, &devices)?;
    Ok(Partition {
        name,
        cuts: ranges.iter().skip(1).map(|range| model.layers[range.start - 1].name.clone()).collect(),
        shares: plan.stages.iter().map(|stage| stage.share).collect(),
        bound: plan.speedup_bound,
    })
}
