//! What happens in a run, as JSON lines.

use std::cell::RefCell;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use brigade::{DeviceInfo, Failure, Pipeline, Progress, Recovery, Remedy, Settings, TuningReport};
use brigade_pipeline::model::Layer;
use brigade_pipeline::{Metrics, RunReport};
use serde_json::{Value, json};

use super::{corrections, layers};

/// The file of JSON lines, where one is wanted. A line is written as its event happens.
///
/// What observes a run has no way to return an error: the first one is kept, and nothing is written after it.
pub(super) struct Events {
    path: PathBuf,
    file: Option<File>,
    error: RefCell<Option<Failure>>,
}

impl Events {
    /// A run that is resumed goes on with the file.
    pub(super) fn create(path: Option<&Path>, resumed: bool) -> Result<Self, Failure> {
        let error = RefCell::new(None);
        let Some(path) = path else { return Ok(Self { path: PathBuf::new(), file: None, error }) };
        let mut options = File::options();
        let file = options.create(true).write(true).append(resumed).truncate(!resumed).open(path);
        let file = file.map_err(|error| failure(path, &error))?;
        Ok(Self { path: path.to_owned(), file: Some(file), error })
    }

    /// Writes an event, unless an earlier one could not be.
    pub(super) fn write(&self, event: &Value) {
        let Some(mut file) = self.file.as_ref().filter(|_| !self.failed()) else { return };
        // One call a line, so that a run that is killed leaves whole lines.
        if let Err(error) = file.write_all(format!("{event}\n").as_bytes()) {
            *self.error.borrow_mut() = Some(failure(&self.path, &error));
        }
    }

    /// Whether an event could not be written.
    pub(super) fn failed(&self) -> bool {
        self.error.borrow().is_some()
    }

    /// The error of the first event that could not be written.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.error.take().map_or(Ok(()), Err)
    }
}

fn failure(path: &Path, error: &std::io::Error) -> Failure {
    Failure::storage(format!("events {}: {error}", path.display()))
}

pub(super) fn start_event(settings: &Settings, pipeline: &Pipeline, tuning: &TuningReport) -> Value {
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

pub(super) fn progress_event(progress: &Progress) -> Option<Value> {
    match progress {
        Progress::Step { step, loss, images_per_second } => {
            Some(json!({"event": "step", "step": step, "loss": loss, "images_per_second": images_per_second}))
        }
        Progress::Epoch { epoch, train, test, seconds } => Some(json!({
            "event": "epoch", "epoch": epoch, "train_loss": trained(train).map(Metrics::loss),
            "train_accuracy": trained(train).map(Metrics::accuracy),
            "test_loss": test.map(|test| test.loss()), "test_accuracy": test.map(|test| test.accuracy()),
            "seconds": seconds,
        })),
        Progress::Stopping { .. } | Progress::Snapshot { .. } => None,
        // A path need not be Unicode, and JSON must be.
        Progress::Checkpoint { path } => Some(json!({"event": "checkpoint", "path": path.display().to_string()})),
    }
}

/// Nothing where every step of the epoch was left behind.
fn trained(train: &Metrics) -> Option<&Metrics> {
    Some(train).filter(|train| train.samples > 0)
}

pub(super) fn recovery_event(recovery: &Recovery) -> Value {
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

pub(super) fn end_event(report: &RunReport, settings: &Settings, pipeline: &Pipeline) -> Value {
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
