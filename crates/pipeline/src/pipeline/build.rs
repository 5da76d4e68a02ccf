//! The stages of a pipeline, from the model and its options.

use std::ops::Range;
use std::sync::Arc;

use brigade_devices::{Executor, Task, Watched};
use brigade_kernels::{Operation, ops};
use serde_json::json;

use super::PipelineOptions;
use crate::PipelineError;
use crate::batch::microbatches;
use crate::model::Sequential;
use crate::schedule::Schedule;
use crate::stage::{Block, Stage, StageOptions, Updates};
use crate::staleness::StagePlan;
use crate::watchdog::Patience;

/// The loss, which every model has besides its layers.
pub(crate) fn loss() -> Result<Arc<dyn Operation>, PipelineError> {
    operation("softmax_cross_entropy", &json!({}))
}

/// An operation of the list.
pub(crate) fn operation(name: &str, attributes: &serde_json::Value) -> Result<Arc<dyn Operation>, PipelineError> {
    let entry = ops::find(name).ok_or_else(|| PipelineError::Parameters(format!("there is no operation {name}")))?;
    let made = (entry.from_attributes)(attributes).map(Arc::from);
    made.map_err(|error| PipelineError::Parameters(error.to_string()))
}

/// A stage for each range of layers, on its executor.
pub(super) fn build_stages(
    model: &Sequential,
    stages: Vec<(Range<usize>, Box<dyn Executor>)>,
    schedule: &Schedule,
    options: &PipelineOptions,
    patience: Patience,
) -> Result<Vec<Stage>, PipelineError> {
    let loss = loss()?;
    let built = stages.into_iter().enumerate().map(|(index, (range, executor))| {
        let stage = stage_options(index, schedule, options, &loss)?;
        let (model, device) = (model.clone(), executor.info().name.clone());
        let work = move || Stage::new(&model, range, executor, &stage);
        let thread = format!("start of stage {index}");
        let watched = Watched::start(thread, &device, "the first writing of its weights", patience.transfer(), work);
        let failed = |error: std::io::Error| PipelineError::Panic { stage: index, message: error.to_string() };
        watched.map_err(failed)?.wait().map_err(|source| PipelineError::Device { stage: index, source })?
    });
    built.collect()
}

/// What a stage is built with besides its layers.
pub(crate) fn stage_options(
    index: usize,
    schedule: &Schedule,
    options: &PipelineOptions,
    loss: &Arc<dyn Operation>,
) -> Result<StageOptions, PipelineError> {
    let PipelineOptions { batch, microbatches: count, seed, loss_scale, .. } = *options;
    let capacity = |link: usize| if link + 1 < schedule.stages { schedule.capacity(link, count) } else { 0 };
    // Those in the link, one that the receiver is copying, and one being computed. Where none is free the worker sends on
    // what it has in flight before it computes more, and then one is.
    let depth = |link: Option<usize>| link.map_or(0, capacity) + 2;
    let plan = StagePlan::new(&options.staleness, schedule, index, count)?;
    Ok(StageOptions {
        index,
        last: index + 1 == schedule.stages,
        sets: schedule.activation_sets(index, count),
        splits: schedule.kind.splits(),
        samples: microbatches(batch, count).first().map_or(0, ExactSizeIterator::len),
        depths: [2, depth(Some(index)), depth(index.checked_sub(1))],
        seed,
        loss_scale,
        loss: Arc::clone(loss),
        updates: Some(Updates::new(options.optimiser, &plan)?),
        plan,
    })
}

/// What each stage will compute over and over in whole microbatches.
///
/// # Errors
/// Where the optimiser or the weight policy is not possible.
pub(super) fn tasks(
    model: &Sequential,
    ranges: &[Range<usize>],
    options: &PipelineOptions,
) -> Result<Vec<Vec<Task>>, PipelineError> {
    let schedule = Schedule::new(options.schedule, ranges.len());
    let loss = loss()?;
    let whole = microbatches(options.batch, options.microbatches);
    // As equal as possible: there are two sizes at most.
    let mut sizes: Vec<_> = whole.first().into_iter().chain(whole.last()).map(ExactSizeIterator::len).collect();
    sizes.dedup();
    let of_stage = |(stage, range): (usize, &Range<usize>)| {
        let plan = StagePlan::new(&options.staleness, &schedule, stage, options.microbatches)?;
        let block = Block::new(model, range.clone(), &loss, Some(Updates::new(options.optimiser, &plan)?));
        Ok(sizes.iter().flat_map(|&samples| block.tasks(samples)).collect())
    };
    ranges.iter().enumerate().map(of_stage).collect()
}
