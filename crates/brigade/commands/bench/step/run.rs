//! A pipeline whose steps are timed.

use std::ops::ControlFlow;
use std::time::Instant;

use brigade::{Failure, LearningRate, Pipeline, Placement, Schedule, Sequential, Trainer};
use brigade_kernels::Random;
use brigade_pipeline::{Samples, StageReport, Stretch};

use super::Args;

/// One pipeline, and what was seen of it.
pub(super) struct Bench {
    pipeline: Pipeline,
    /// The same in every step: making them is not measured.
    samples: Samples,
    /// Milliseconds from the end of a step to the end of the next.
    pub(super) step_milliseconds: Vec<f64>,
    /// Steps of all rounds.
    pub(super) steps: usize,
    pub(super) stages: Vec<StageReport>,
}

impl Bench {
    /// Starts the pipeline, and prepares every program by a first round that does not count.
    pub(super) fn new(
        args: &Args,
        model: &Sequential,
        placement: &Placement,
        schedule: Schedule,
        profile: bool,
    ) -> Result<Self, Failure> {
        let trainer = Trainer::new(model.clone(), placement.clone())
            .schedule(schedule, args.microbatches)
            .batch(args.batch)
            .threads(args.threads)
            .tune(args.tune)
            .precision(args.precision, args.precision.loss_scale())
            .profile(profile);
        let mut bench = Self {
            pipeline: trainer.start()?,
            samples: synthetic(model, args.batch)?,
            step_milliseconds: Vec::new(),
            steps: 0,
            stages: Vec::new(),
        };
        let sets = bench.pipeline.schedule().warmup(0, args.microbatches);
        bench.train(sets.div_ceil(args.microbatches) + 1)?;
        Ok(bench)
    }

    /// Times so many steps after one that only fills the pipeline.
    pub(super) fn round(&mut self, steps: usize) -> Result<(), Failure> {
        let (ends, stages) = self.train(steps + 1)?;
        self.steps += steps + 1;
        self.step_milliseconds.extend(ends.windows(2).map(|pair| 1e3 * (pair[1] - pair[0]).as_secs_f64()));
        if self.stages.is_empty() {
            self.stages = stages;
        } else {
            self.stages.iter_mut().zip(stages).for_each(|(stage, later)| stage.absorb(later));
        }
        Ok(())
    }

    /// When each step ended, and what the stages counted.
    fn train(&mut self, steps: usize) -> Result<(Vec<Instant>, Vec<StageReport>), Failure> {
        let batch = self.samples.labels.len();
        let stretch = Stretch::new(batch.saturating_mul(steps), LearningRate::constant(1e-4));
        let mut ends = Vec::with_capacity(steps);
        let batches = Box::new(std::iter::repeat_with(|| Ok(self.samples.clone())));
        let report = self.pipeline.train(&stretch, batches, &mut |_, _| {
            ends.push(Instant::now());
            ControlFlow::Continue(())
        })?;
        Ok((ends, report.stages))
    }
}

fn synthetic(model: &Sequential, batch: usize) -> Result<Samples, Failure> {
    let mut random = Random::new(1);
    let width = model.input.elements().map_err(|error| Failure::usage(error.to_string()))?;
    let elements = width.checked_mul(batch).filter(|&count| count <= brigade::Shape::MAX_ELEMENTS);
    let elements = elements.ok_or_else(|| Failure::usage(format!("batch: {batch} samples are too many")))?;
    let inputs = (0..elements).map(|_| random.between(-1.0, 1.0) as f32).collect();
    let labels = (0..batch).map(|_| random.integer(0, model.classes() - 1) as u32).collect();
    Ok(Samples::new(inputs, labels))
}
