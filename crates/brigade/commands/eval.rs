//! `brigade eval`: the accuracy of a checkpoint.

use std::path::PathBuf;

use brigade::{Data, Failure, Settings, Status, Words};
use brigade_data::{DataError, Normalisation};
use brigade_pipeline::{Checkpoint, CheckpointError, Source};
use serde_json::json;

use super::setup;
use crate::output;

/// The flags of `eval`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run file
    #[arg(long)]
    config: Option<PathBuf>,
    #[command(flatten)]
    words: Words,
    /// A checkpoint: its folder, a directory of which the newest is taken, or a safetensors file of weights
    #[arg(long)]
    checkpoint: PathBuf,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<(), Failure> {
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let model = checkpoint.manifest.as_ref().map(|manifest| &manifest.model);
    let settings = Settings::with_model(args.config.as_deref(), args.words, model)?;
    let tensors = checkpoint.tensors_for(&settings.model)?;
    let data = Data::open(&settings.data, settings.seed)?;
    data.check_against(&settings.model)?;
    let data = with_normalisation(data, &checkpoint)?;
    let (placement, _) = setup::placement(&settings, None)?;
    let mut pipeline = setup::trainer(&settings, placement).start()?;
    pipeline.set_parameters(&tensors)?;
    let batches = data.test(settings.batch).map_err(brigade_pipeline::PipelineError::Data)?;
    let metrics = pipeline.evaluate(data.test_samples(), batches)?;
    check_finite(&checkpoint, metrics.loss())?;
    if args.json {
        return output::json(&json!({
            "checkpoint": checkpoint.path.display().to_string(), "model": settings.model.name, "samples": metrics.samples,
            "stages": pipeline.ranges().len(), "test_loss": metrics.loss(), "test_accuracy": metrics.accuracy(),
        }));
    }
    output::line(format!(
        "test loss {:.4}, test accuracy {:.2} % ({} of {})",
        metrics.loss(),
        100.0 * metrics.accuracy(),
        metrics.correct,
        metrics.samples
    ))
}

/// The pictures as training saw them, whatever data set they come from.
fn with_normalisation(mut data: Data, checkpoint: &Checkpoint) -> Result<Data, Failure> {
    let manifest = checkpoint.manifest.as_ref().filter(|manifest| !manifest.normalisation.is_empty());
    let Some(manifest) = manifest else { return Ok(data) };
    let (mean, std) = manifest.normalisation.iter().copied().unzip();
    let normalisation = Normalisation { mean, std };
    // Not a word of the user's: the manifest does not fit its own model's pictures.
    let invalid =
        |error: DataError| CheckpointError::Invalid { path: checkpoint.manifest_path(), reason: error.to_string() };
    data.train = data.train.with_normalisation(normalisation.clone()).map_err(invalid)?;
    data.test = data.test.with_normalisation(normalisation).map_err(invalid)?;
    Ok(data)
}

/// Weights that are numbers can still give a loss that is none.
fn check_finite(checkpoint: &Checkpoint, loss: f64) -> Result<(), Failure> {
    if loss.is_finite() {
        return Ok(());
    }
    let message = format!(
        "{}: the test loss at these weights is {loss}: training has diverged, or a device computes wrongly; try an older \
         checkpoint, or `check` the devices",
        checkpoint.path.display()
    );
    Err(Failure::new(Status::Numerics, message))
}
