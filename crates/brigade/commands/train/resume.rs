//! Going on from a checkpoint: it must be of this model, this order of the samples and this data.

use std::path::PathBuf;

use brigade::{Data, Failure, Sequential, Settings, Status};
use brigade_pipeline::{Checkpoint, CheckpointError, Manifest, NamedTensor, Position, Source};

/// Steps, epochs and samples beyond this no run comes to; below it nothing that is added to them overflows.
const BEYOND_ANY_RUN: u64 = 1 << 53;

use crate::output;

/// What a run goes on from.
pub(super) struct Resumed {
    pub(super) path: PathBuf,
    manifest_path: PathBuf,
    pub(super) manifest: Manifest,
    pub(super) tensors: Vec<NamedTensor>,
}

/// Finds the newest checkpoint that verifies, and checks that it is of this run.
pub(super) fn resume(settings: &Settings) -> Result<Resumed, Failure> {
    let Some(directory) = &settings.checkpoint_dir else {
        return Err(Failure::usage("--resume needs --checkpoint-dir, where the checkpoints are"));
    };
    let checkpoint = Checkpoint::open(directory)?;
    let tensors = checkpoint.tensors_for(&settings.model)?;
    let manifest_path = checkpoint.manifest_path();
    let Some(manifest) = checkpoint.manifest else {
        return Err(CheckpointError::Missing { path: directory.clone() }.into());
    };
    check_model(settings, &manifest).map_err(|message| Failure::new(Status::Checkpoint, message))?;
    check_order(settings, &manifest).map_err(|message| Failure::new(Status::Checkpoint, message))?;
    Ok(Resumed { path: checkpoint.path, manifest_path, manifest, tensors })
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

/// Whether the data is what the checkpoint was made with.
pub(super) fn check_fingerprint(data: &Data, manifest: &Manifest, allow_change: bool) -> Result<(), Failure> {
    let found = data.train.fingerprint();
    let Some(wanted) = manifest.data_fingerprint.filter(|&wanted| wanted != found) else { return Ok(()) };
    let changed = format!(
        "the training data has changed since the checkpoint: its fingerprint was {wanted:08x} and is {found:08x}"
    );
    if allow_change {
        output::tell(format_args!("warning: {changed}"));
        return Ok(());
    }
    Err(Failure::new(Status::Checkpoint, format!("{changed}; --allow-changed-data goes on with it all the same")))
}

/// Whether the position is one that a run over this data, `size` samples a step, can come to.
pub(super) fn check_position(data: &Data, resumed: &Resumed, size: usize) -> Result<(), Failure> {
    let Position { step, epoch, batch, samples } = resumed.manifest.position;
    let refused = |field: &str, found: u64, most: String| {
        let reason =
            format!("position.{field} is {found}, and {most}; remove this checkpoint to go on from another one");
        Err(CheckpointError::Invalid { path: resumed.manifest_path.clone(), reason }.into())
    };
    for (field, found) in [("step", step as u64), ("epoch", epoch as u64), ("samples", samples)] {
        if found > BEYOND_ANY_RUN {
            return refused(field, found, format!("no run comes beyond {BEYOND_ANY_RUN}"));
        }
    }
    let batches = data.training_samples().div_ceil(size);
    if batch > 0 && batch >= batches {
        return refused("batch", batch as u64, format!("an epoch of this data has {batches} batches, from 0"));
    }
    Ok(())
}
