//! The same steps in four ways, timed in turn.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use brigade::{
    Data, DataKind, Failure, LearningRate, Pipeline, Placement, Position, Progress, Spec, TrainOptions, Trainer,
    built_in, check_stages, choose, train,
};
use brigade_pipeline::{Checkpoints, Manifest, Store};
use serde::Serialize;

use super::Args;

use crate::output;

/// Small, so that training on noise does not diverge.
const LEARNING_RATE: f32 = 1e-4;

/// How the steps are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// Nothing is done but training.
    Bare,
    /// The pipes are emptied every so many steps, and the parameters copied to the host.
    Snapshots,
    /// The same, and each snapshot is written to the disk while training goes on.
    Checkpoints,
    /// Messages have checksums; no snapshots.
    LinkChecksums,
}

impl Way {
    pub(super) const ALL: [Self; 4] = [Self::Bare, Self::Snapshots, Self::Checkpoints, Self::LinkChecksums];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Snapshots => "snapshots",
            Self::Checkpoints => "checkpoints",
            Self::LinkChecksums => "link-checksums",
        }
    }
}

/// Two pipelines, of which one has checksums on its links.
pub(super) struct Bench {
    plain: Pipeline,
    checked: Pipeline,
    data: Data,
    options: TrainOptions,
    every: usize,
    checkpoints: Checkpoints,
    position: Position,
}

impl Bench {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let model = built_in(&args.model)?;
        if let Some(stages) = args.stages {
            check_stages(&model, stages)?;
        }
        let schedule = args.schedule.parse().map_err(|error| Failure::usage(format!("{error}")))?;
        let devices = choose(&args.devices, args.stages, false)?;
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        let placement = Placement::balanced(&model, &names)?;
        let mut spec = Spec::new(DataKind::Synthetic);
        spec.shape = Some(brigade_data::Shape::new(model.input.c, model.input.h, model.input.w)?);
        (spec.classes, spec.train, spec.test) =
            (Some(model.classes()), Some(args.batch.saturating_mul(args.steps())), Some(1));
        let data = Data::open(&spec, 1)?;
        let manifest = Manifest::new(model.spec.clone(), 1, args.batch);
        let trainer = Trainer::new(model, placement)
            .schedule(schedule, args.microbatches)
            .batch(args.batch)
            .threads(args.threads)
            .tune(args.tune);
        let (plain, checked) = (trainer.start()?, trainer.link_checksums(true).start()?);
        let checkpoints = Checkpoints { store: empty_store(&args.out)?, manifest };
        let mut options = TrainOptions::new(0, args.batch, LearningRate::constant(LEARNING_RATE));
        options.evaluate = false;
        let every = args.checkpoint_every;
        Ok(Self { plain, checked, data, options, every, checkpoints, position: Position::default() })
    }

    pub(super) fn devices(&self) -> Vec<String> {
        self.plain.devices().iter().map(|device| device.name.clone()).collect()
    }

    /// Seconds of each way in each round. A first round prepares every program and does not count.
    pub(super) fn seconds(&mut self, rounds: usize) -> Result<[Vec<f64>; Way::ALL.len()], Failure> {
        let mut seconds = [const { Vec::new() }; Way::ALL.len()];
        for round in 0..=rounds {
            output::tell(format_args!("round {round} of {rounds}"));
            for (way, seconds) in Way::ALL.into_iter().zip(&mut seconds) {
                let took = self.epoch(way)?;
                if round > 0 {
                    seconds.push(took);
                }
            }
        }
        Ok(seconds)
    }

    /// An epoch is a round. Its first step, which fills the pipes, is not timed, nor what comes after its last one: the
    /// snapshot that every epoch ends with.
    fn epoch(&mut self, way: Way) -> Result<f64, Failure> {
        let mut options = self.options.clone();
        options.epochs = self.position.epoch + 1;
        options.checkpoint_every = matches!(way, Way::Snapshots | Way::Checkpoints).then_some(self.every);
        options.checkpoints = (way == Way::Checkpoints).then(|| self.checkpoints.clone());
        let pipeline = if way == Way::LinkChecksums { &mut self.checked } else { &mut self.plain };
        let mut ends = Vec::new();
        let mut observe = |progress: &Progress| {
            if let Progress::Step { .. } = progress {
                ends.push(Instant::now());
            }
            ControlFlow::Continue(())
        };
        let report = train(pipeline, &self.data, &options, self.position, &mut observe)?;
        self.position = report.position;
        let (first, last) = (ends.first().copied(), ends.last().copied());
        Ok(first.zip(last).map_or(0.0, |(first, last)| (last - first).as_secs_f64()))
    }
}

/// What this removes afterwards must be its own.
fn empty_store(directory: &Path) -> Result<Store, Failure> {
    if directory.exists() {
        return Err(Failure::usage(format!("bench checkpoint: {} is there; name another --out", directory.display())));
    }
    Ok(Store::open(directory)?.keeping(Some(2)))
}
