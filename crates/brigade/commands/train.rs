//! `brigade train`: the main job.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use brigade::{
    Data, DeviceInfo, Failure, Pipeline, Position, Progress, RECOMMENDED, Recovery, Remedy, Sequential, Settings,
    Start, Status, Survived, TrainOptions, TuningReport, Words, check_room, staleness_warning, start_through_losses,
    train_through_faults,
};
use brigade_pipeline::model::Layer;
use brigade_pipeline::plan::RunLength;
use brigade_pipeline::{
    Checkpoint, CheckpointError, Checkpoints, Manifest, NamedTensor, RunReport, Source, Store, Values, write_tensors,
};
use serde_json::{Value, json};

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
    // Before anything is read: what another run is about to write must not be gone on from.
    let store = settings.checkpoint_dir.as_deref().map(Store::open).transpose()?;
    let store = store.map(|store| store.keeping(settings.keep));
    let resumed = (args.resume || settings.resume).then(|| resume(&settings)).transpose()?;
    let data = Data::open(&settings.data, settings.seed)?;
    data.check_against(&settings.model)?;
    if let Some(resumed) = &resumed {
        check_fingerprint(&data, &resumed.manifest, settings.allow_changed_data)?;
    }
    [&saved_to, &args.timeline].into_iter().flatten().try_for_each(|path| check_writable(path))?;
    let mut events = Events::create(events_to.as_deref(), resumed.is_some())?;

    let position = resumed.as_ref().map_or_else(Position::default, |resumed| resumed.manifest.position);
    if let Some(store) = &store {
        check_room(store, &settings, saves(&settings, &data, &position))?;
    }
    let (placement, _) = setup::placement(&settings, Some(length(&settings, &data)))?;
    let schedule = brigade_pipeline::schedule::Schedule::new(settings.schedule, placement.stages.len());
    if let Some(warning) = staleness_warning(&schedule, &settings.staleness, settings.microbatches) {
        eprintln!("{warning}");
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
        eprintln!("resuming from {} at step {}", resumed.path.display(), position.step);
    }
    announce(&settings, &start.pipeline, &tuning);
    events.write(&start_event(&settings, &start.pipeline, &tuning))?;

    let options = options(&settings, &data, store, &position);
    let mut display = Display::new(last_step(&settings, &data), position.step);
    let mut event_error = None;
    let mut recoveries = Vec::new();
    let mut observe = |progress: &Progress| {
        display.show(progress);
        if let Err(error) = progress_event(progress).map_or(Ok(()), |event| events.write(&event)) {
            event_error = Some(error);
            return ControlFlow::Break(());
        }
        if signals.received().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let mut recovered = |recovery: &Recovery| recoveries.push(recovery.clone());
    let survived =
        train_through_faults(&trainer, start, &data, &options, settings.on_nan, &mut observe, &mut recovered);
    display.finish();
    recoveries.iter().try_for_each(|recovery| events.write(&recovery_event(recovery)))?;
    let Survived { pipeline, tensors, report } = survived?;
    if let Some(error) = event_error {
        return Err(error);
    }
    if let Some(path) = &saved_to {
        save(path, &tensors)?;
    }
    if let Some(path) = &args.timeline {
        timeline::write(path, &report.stages, &pipeline, settings.microbatches)?;
    }
    let end = end_event(&report, &settings, &pipeline);
    events.write(&end)?;
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

/// What a run goes on from.
struct Resumed {
    path: PathBuf,
    manifest: Manifest,
    tensors: Vec<NamedTensor>,
}

fn resume(settings: &Settings) -> Result<Resumed, Failure> {
    let Some(directory) = &settings.checkpoint_dir else {
        return Err(Failure::usage("--resume needs --checkpoint-dir, where the checkpoints are"));
    };
    let checkpoint = Checkpoint::open(directory)?;
    let tensors = checkpoint.tensors_for(&settings.model)?;
    let Some(manifest) = checkpoint.manifest else {
        return Err(CheckpointError::Missing { path: directory.clone() }.into());
    };
    check_model(settings, &manifest).map_err(|message| Failure::new(Status::Checkpoint, message))?;
    check_order(settings, &manifest).map_err(|message| Failure::new(Status::Checkpoint, message))?;
    Ok(Resumed { path: checkpoint.path, manifest, tensors })
}

/// The same tensors can be another model's: strides, paddings and rectifiers leave no trace in them.
fn check_model(settings: &Settings, manifest: &Manifest) -> Result<(), String> {
    let saved = Sequential::new(&manifest.model).map_err(|error| format!("the checkpoint's model: {error}"))?;
    let operations = |model: &Sequential| -> Vec<String> {
        model.layers.iter().map(|layer| format!("{} is {:?}", layer.name, layer.operation)).collect()
    };
    let (saved, wanted) = (operations(&saved), operations(&settings.model));
    let differs = saved.iter().zip(&wanted).find(|(saved, wanted)| saved != wanted);
    match differs {
        Some((saved, wanted)) => Err(format!("the checkpoint is of another model: there {saved}, here {wanted}")),
        None if saved.len() != wanted.len() => {
            Err(format!("the checkpoint's model has {} layers, and this one {}", saved.len(), wanted.len()))
        }
        None => Ok(()),
    }
}

/// The order of the samples goes on where it stopped only with the seed, and within an epoch the batch, that it was
/// made with.
fn check_order(settings: &Settings, manifest: &Manifest) -> Result<(), String> {
    let (seed, batch) = (manifest.seed, manifest.batch);
    if seed != settings.seed {
        return Err(format!(
            "the checkpoint's seed is {seed}, and this run's is {}; give --seed {seed}",
            settings.seed
        ));
    }
    if batch != settings.batch && manifest.position.batch > 0 {
        return Err(format!(
            "the checkpoint was made within an epoch of batches of {batch}, and this run's are of {}; give --batch {batch}",
            settings.batch
        ));
    }
    Ok(())
}

fn check_fingerprint(data: &Data, manifest: &Manifest, allow_change: bool) -> Result<(), Failure> {
    let found = data.train.fingerprint();
    let Some(wanted) = manifest.data_fingerprint.filter(|&wanted| wanted != found) else { return Ok(()) };
    let changed = format!(
        "the training data has changed since the checkpoint: its fingerprint was {wanted:08x} and is {found:08x}"
    );
    if allow_change {
        eprintln!("warning: {changed}");
        return Ok(());
    }
    Err(Failure::new(Status::Checkpoint, format!("{changed}; --allow-changed-data goes on with it all the same")))
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
        eprintln!("{tuning}");
    }
    let corrections = corrections(settings);
    eprintln!(
        "{}: {} parameters, schedule {}, weights {}, corrections {}, batch {} in {} microbatches",
        settings.model.name,
        settings.model.parameter_elements(),
        settings.schedule,
        settings.staleness.weights,
        if corrections.is_empty() { "none".to_owned() } else { corrections.join(",") },
        settings.batch,
        settings.microbatches
    );
    for (stage, (device, range)) in pipeline.devices().iter().zip(pipeline.ranges()).enumerate() {
        eprintln!("stage {stage}: {} ({}) runs {}", device.name, device.vendor, layers(settings, range).join(" "));
    }
}

fn start_event(settings: &Settings, pipeline: &Pipeline, tuning: &TuningReport) -> Value {
    let stage = |(stage, (device, range)): (usize, (&DeviceInfo, &std::ops::Range<usize>))| {
        let parameters: usize = settings.model.layers[range.clone()].iter().map(Layer::parameter_elements).sum();
        json!({
            "stage": stage, "device": device.name, "vendor": device.vendor,
            "layers": layers(settings, range), "parameters": parameters,
        })
    };
    let stages: Vec<_> = pipeline.devices().iter().zip(pipeline.ranges()).enumerate().map(stage).collect();
    json!({
        "event": "start", "model": settings.model.name, "schedule": settings.schedule,
        "weights": settings.staleness.weights, "corrections": corrections(settings), "batch": settings.batch, "microbatches": settings.microbatches, "seed": settings.seed,
        "tuning": {
            "effort": settings.tune, "kernels": tuning.kernels, "cached": tuning.cached,
            "seconds": tuning.elapsed.as_secs_f64(), "wrong": tuning.wrong,
        },
        "stages": stages,
    })
}

/// The corrections as they are written on the command line.
fn corrections(settings: &Settings) -> Vec<String> {
    settings.staleness.corrections.list().iter().map(ToString::to_string).collect()
}

fn progress_event(progress: &Progress) -> Option<Value> {
    match progress {
        Progress::Step { step, loss, images_per_second } => {
            Some(json!({"event": "step", "step": step, "loss": loss, "images_per_second": images_per_second}))
        }
        Progress::Epoch { epoch, train, test, seconds } => Some(json!({
            "event": "epoch", "epoch": epoch, "train_loss": train.loss(), "train_accuracy": train.accuracy(),
            "test_loss": test.map(|test| test.loss()), "test_accuracy": test.map(|test| test.accuracy()),
            "seconds": seconds,
        })),
        Progress::Snapshot { .. } => None,
        Progress::Checkpoint { path } => Some(json!({"event": "checkpoint", "path": path})),
    }
}

fn recovery_event(recovery: &Recovery) -> Value {
    let Recovery { stage, reason, step, elapsed, remedy } = recovery;
    let mut event = json!({
        "event": "recovery", "stage": stage, "reason": reason, "step": step, "seconds": elapsed.as_secs_f64(),
    });
    let words = match remedy {
        Remedy::Reopened { device } => json!({"device": device, "moved": false}),
        Remedy::Moved { device } => json!({"device": device, "moved": true}),
        Remedy::LeftOut { bad_step, policy } => json!({"bad_step": bad_step, "on_nan": policy.word()}),
    };
    if let (Some(event), Value::Object(words)) = (event.as_object_mut(), words) {
        event.extend(words);
    }
    event
}

fn end_event(report: &RunReport, settings: &Settings, pipeline: &Pipeline) -> Value {
    let stages: Vec<_> = report
        .stages
        .iter()
        .map(|stage| {
            json!({
                "stage": stage.stage,
                "busy_fraction": stage.busy().as_secs_f64() / report.seconds.max(1e-9),
                "waiting_fraction": stage.waited.as_secs_f64() / report.seconds.max(1e-9),
                "peak_bytes": stage.peak_bytes,
                "staleness": stage.staleness,
            })
        })
        .collect();
    let links: Vec<_> = report
        .stages
        .windows(2)
        .map(|pair| {
            json!({
                "from": pair[0].stage, "to": pair[1].stage,
                "activation_bytes": pair[0].activation_bytes, "gradient_bytes": pair[1].gradient_bytes,
                "sent_again": pair[0].sent_again + pair[1].sent_again,
            })
        })
        .collect();
    json!({
        "event": "end", "steps": report.position.step, "samples": report.samples, "seconds": report.seconds,
        "images_per_second": report.samples as f64 / report.seconds.max(1e-9),
        "test_accuracy": report.test.map(|test| test.accuracy()),
        "schedule": pipeline.schedule().kind, "weights": settings.staleness.weights,
        "corrections": corrections(settings), "stages": stages, "links": links,
    })
}

fn summarise(report: &RunReport, pipeline: &Pipeline) {
    let rate = report.samples as f64 / report.seconds.max(1e-9);
    let tested = report.test.map_or(String::new(), |test| format!(", test accuracy {:.2} %", 100.0 * test.accuracy()));
    eprintln!("{} steps in {:.1} s, {rate:.0} images/s{tested}", report.position.step, report.seconds);
    for (stage, device) in report.stages.iter().zip(pipeline.devices()) {
        let busy = 100.0 * stage.busy().as_secs_f64() / report.seconds.max(1e-9);
        let peak = output::bytes(stage.peak_bytes);
        eprintln!(
            "stage {} on {}: busy {busy:.0} %, {peak} at most, staleness {}",
            stage.stage, device.name, stage.staleness
        );
    }
}

/// Finds out before the first step whether a file can be written; what is there stays as it is.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let new = !path.exists();
    let opened = File::options().append(true).create(true).open(path);
    let checked = opened.and_then(|_| if new { std::fs::remove_file(path) } else { Ok(()) });
    checked.map_err(|error| Failure::storage(format!("writing {}: {error}", path.display())))
}

fn save(path: &Path, tensors: &[NamedTensor]) -> Result<(), Failure> {
    let named = |tensor: &NamedTensor| (tensor.name.clone(), (tensor.dims.clone(), tensor.weights.clone()) as Values);
    let weights = tensors.iter().map(named).collect();
    Ok(write_tensors(path, &weights)?)
}

/// The file of JSON lines, where one is wanted.
struct Events {
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl Events {
    /// A run that is resumed goes on with the file.
    fn create(path: Option<&Path>, resumed: bool) -> Result<Self, Failure> {
        let Some(path) = path else { return Ok(Self { path: PathBuf::new(), file: None }) };
        let file = File::options()
            .create(true)
            .write(true)
            .append(resumed)
            .truncate(!resumed)
            .open(path)
            .map_err(|error| Failure::storage(format!("events {}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), file: Some(BufWriter::new(file)) })
    }

    fn write(&mut self, event: &Value) -> Result<(), Failure> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = writeln!(file, "{event}").and_then(|()| file.flush());
        written.map_err(|error| Failure::storage(format!("events {}: {error}", self.path.display())))
    }
}
