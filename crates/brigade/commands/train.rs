//! `brigade train`: the main job.

mod events;
mod outputs;
mod resume;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use brigade::{
    Data, Failure, Length, Pipeline, Position, Progress, RECOMMENDED, Recovery, Settings, Start, Survived,
    TrainOptions, TuningReport, Words, check_room, staleness_warning, start_through_losses, train_through_faults,
};
use brigade_pipeline::plan::RunLength;
use brigade_pipeline::{
    Checkpoints, Manifest, NamedTensor, RunReport, Source, Store, Values, check_writable, write_tensors,
};

use self::events::{Events, end_event, progress_event, recovery_event, start_event};
use self::outputs::check_apart;
use self::resume::{check_fingerprint, check_position, resume};
use super::{setup, timeline};
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;

/// The flags of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("Recommended where weights are stale: {RECOMMENDED}"))]
pub(crate) struct Args {
    /// Run file
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    words: Words,
    /// Goes on from the newest checkpoint in the checkpoint directory
    #[arg(long)]
    resume: bool,
    /// Writes the weights to this safetensors file at the end
    #[arg(long)]
    save: Option<PathBuf>,
    /// Writes what happens to this file, as JSON lines
    #[arg(long)]
    events: Option<PathBuf>,
    /// Draws the middle of the run to this SVG file: planned and measured, one above the other
    #[arg(long)]
    timeline: Option<PathBuf>,
    /// Prints the last event as one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let signals = Signals::listen()?;
    let settings = Settings::new(args.config.as_deref(), args.words)?;
    let (saved_to, events_to) =
        (args.save.or_else(|| settings.save.clone()), args.events.or_else(|| settings.events.clone()));
    let outputs = [("--save", &saved_to), ("--events", &events_to), ("--timeline", &args.timeline)];
    check_apart(&outputs, settings.checkpoint_dir.as_deref())?;
    // Before anything is read: what another run is about to write must not be gone on from.
    let store = settings.checkpoint_dir.as_deref().map(Store::open).transpose()?;
    let store = store.map(|store| store.keeping(settings.keep));
    let resumed = (args.resume || settings.resume).then(|| resume(&settings)).transpose()?;
    let data = Data::open(&settings.data, settings.seed)?;
    data.check_against(&settings.model)?;
    if let Some(resumed) = &resumed {
        check_fingerprint(&data, &resumed.manifest, settings.allow_changed_data)?;
        check_position(&data, resumed, settings.batch)?;
    }
    // Before the first step, not after the last one.
    [&saved_to, &args.timeline].into_iter().flatten().try_for_each(|path| check_writable(path))?;
    let events = Events::create(events_to.as_deref(), resumed.is_some())?;

    let position = resumed.as_ref().map_or_else(Position::default, |resumed| resumed.manifest.position);
    if let Some(store) = &store {
        check_room(store, &settings, saves(&settings, &data, &position))?;
    }
    let (placement, _) = setup::placement(&settings, Some(length(&settings, &data)))?;
    let schedule = brigade_pipeline::schedule::Schedule::new(settings.schedule, placement.stages.len());
    let (microbatches, steps) = (settings.microbatches, last_step(&settings, &data));
    let momentum = f64::from(settings.optimiser.momentum);
    let run = Length { microbatches, steps, epochs: settings.epochs, momentum };
    if let Some(warning) = staleness_warning(&schedule, &settings.staleness, run) {
        output::tell(warning);
    }
    let trainer = setup::trainer(&settings, placement).record(args.timeline.is_some());
    let (start, tuning) = start_through_losses(|| {
        let (mut pipeline, tuning) = trainer.start_with_report()?;
        if let Some(resumed) = &resumed {
            pipeline.set_parameters(&resumed.tensors)?;
        }
        let tensors = pipeline.parameters()?;
        Ok((Start { pipeline, tensors, position }, tuning))
    })?;
    if let Some(resumed) = &resumed {
        output::tell(format_args!("resuming from {} at step {}", resumed.path.display(), position.step));
    }
    announce(&settings, &start.pipeline, &tuning);
    events.write(&start_event(&settings, &start.pipeline, &tuning));
    events.check()?;

    let options = options(&settings, &data, store, &position);
    let mut display = Display::new(last_step(&settings, &data), position.step);
    let mut observe = |progress: &Progress| {
        display.show(progress);
        if let Some(event) = progress_event(progress) {
            events.write(&event);
        }
        if events.failed() || signals.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut recovered = |recovery: &Recovery| events.write(&recovery_event(recovery));
    let survived =
        train_through_faults(&trainer, start, &data, &options, settings.on_nan, &mut observe, &mut recovered);
    display.finish();
    let Survived { pipeline, tensors, report } = survived?;
    events.check()?;
    if let Some(path) = &saved_to {
        save(path, &tensors)?;
    }
    if let Some(path) = &args.timeline {
        timeline::write(path, &report, &pipeline)?;
    }
    let end = end_event(&report, &settings, &pipeline);
    events.write(&end);
    events.check()?;
    summarise(&report, &pipeline);
    if args.json {
        output::json(&end)?;
    }
    match signals.received() {
        Some(status) if report.stopped => Err(Failure::new(status, stopped_message(&settings, &report))),
        _ => Ok(()),
    }
}

fn stopped_message(settings: &Settings, report: &RunReport) -> String {
    let step = report.position.step;
    match &settings.checkpoint_dir {
        Some(directory) => format!("stopped after step {step}; go on with --resume from {}", directory.display()),
        None => format!("stopped after step {step}; nothing was saved, as no --checkpoint-dir was given"),
    }
}

fn options(settings: &Settings, data: &Data, store: Option<Store>, position: &Position) -> TrainOptions {
    let mut manifest = Manifest::new(settings.model.spec.clone(), settings.seed, settings.batch);
    manifest.data_fingerprint = Some(data.train.fingerprint());
    let normalisation = data.train.normalisation();
    manifest.normalisation = normalisation.mean.iter().copied().zip(normalisation.std.iter().copied()).collect();
    TrainOptions {
        epochs: settings.epochs,
        steps: settings.steps,
        batch: settings.batch,
        learning_rate: settings.rates(data.training_samples().div_ceil(settings.batch), position),
        evaluate: data.test_samples() > 0,
        synchronous_finish: settings.staleness.corrections.synchronous_finish.unwrap_or(0),
        checkpoint_every: settings.checkpoint_every,
        checkpoints: store.map(|store| Checkpoints { store, manifest }),
        left_out: Default::default(),
    }
}

fn last_step(settings: &Settings, data: &Data) -> usize {
    let all = settings.epochs.saturating_mul(data.training_samples().div_ceil(settings.batch));
    settings.steps.map_or(all, |steps| steps.min(all))
}

fn length(settings: &Settings, data: &Data) -> RunLength {
    RunLength { epochs: settings.epochs, training: data.training_samples(), evaluated: data.test_samples() }
}

/// Checkpoints that a run makes from `position` on, at least: some ends of epochs are checkpoints within one, too.
fn saves(settings: &Settings, data: &Data, position: &Position) -> usize {
    let left = last_step(settings, data).saturating_sub(position.step);
    let per_epoch = data.training_samples().div_ceil(settings.batch).max(1);
    let within = settings.checkpoint_every.map_or(0, |every| left / every);
    within.max(left.div_ceil(per_epoch))
}

fn layers(settings: &Settings, range: &std::ops::Range<usize>) -> Vec<String> {
    settings.model.layers[range.clone()].iter().map(|layer| layer.name.clone()).collect()
}

/// Says which devices run which layers.
fn announce(settings: &Settings, pipeline: &Pipeline, tuning: &TuningReport) {
    if tuning.kernels > 0 {
        output::tell(tuning);
    }
    let corrections = corrections(settings);
    output::tell(format_args!(
        "{}: {} parameters, schedule {}, weights {}, corrections {}, batch {} in {} microbatches",
        settings.model.name,
        settings.model.parameter_elements(),
        settings.schedule,
        settings.staleness.weights,
        if corrections.is_empty() { "none".to_owned() } else { corrections.join(",") },
        settings.batch,
        settings.microbatches
    ));
    for (stage, (device, range)) in pipeline.devices().iter().zip(pipeline.ranges()).enumerate() {
        output::tell(format_args!(
            "stage {stage}: {} ({}) runs {}",
            device.name,
            device.vendor,
            layers(settings, range).join(" ")
        ));
    }
}

/// The corrections as they are written on the command line.
fn corrections(settings: &Settings) -> Vec<String> {
    settings.staleness.corrections.list().iter().map(ToString::to_string).collect()
}

fn summarise(report: &RunReport, pipeline: &Pipeline) {
    let rate = report.samples as f64 / report.seconds.max(1e-9);
    let tested = report.test.map_or(String::new(), |test| format!(", test accuracy {:.2} %", 100.0 * test.accuracy()));
    output::tell(format_args!("{} steps in {:.1} s, {rate:.0} images/s{tested}", report.position.step, report.seconds));
    for (stage, device) in report.stages.iter().zip(pipeline.devices()) {
        let busy = 100.0 * stage.busy().as_secs_f64() / report.seconds.max(1e-9);
        let peak = output::bytes(stage.peak_bytes);
        output::tell(format_args!(
            "stage {} on {}: busy {busy:.0} %, {peak} at most, staleness {}",
            stage.stage, device.name, stage.staleness
        ));
    }
}

fn save(path: &Path, tensors: &[NamedTensor]) -> Result<(), Failure> {
    let named = |tensor: &NamedTensor| (tensor.name.clone(), (tensor.dims.clone(), tensor.weights.clone()) as Values);
    let weights = tensors.iter().map(named).collect();
    Ok(write_tensors(path, &weights)?)
}
