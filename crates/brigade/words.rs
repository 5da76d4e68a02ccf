//! The words of a run, as flags and as keys of the run file, each checked by itself.

mod checks;
mod run_file;

use std::path::{Path, PathBuf};

use brigade_devices::Tuning;
use brigade_pipeline::model::LayerSpec;
use brigade_pipeline::staleness::{Corrections, StalenessError, WeightPolicy};
use clap::Args;
use serde::Deserialize;

use crate::balance::Balance;
use crate::failure::Failure;
use checks::{Wrong, at_least_one, at_most, number, only, readable, scale};
use run_file::{line_of, one_or_many, run_file_message, text_of};

/// Samples of a step, at most; a slip of the keyboard above it.
const MOST_SAMPLES: usize = 1 << 20;

/// Microbatches of a step, at most; each of them may want an activation set of its own.
const MOST_MICROBATCHES: usize = 1 << 16;

/// The words that the run file and the command line share. Absent ones take the defaults of [`Settings`](crate::Settings).
#[derive(Debug, Clone, Default, Args, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Words {
    /// Built-in model: lenet5, cnn-small, cnn-8, plain-8, alexnet, vgg-f [default: lenet5]
    #[arg(long)]
    pub model: Option<String>,
    /// Data set: mnist, cifar10, folder, glyphs, synthetic [default: glyphs]
    #[arg(long)]
    pub data: Option<String>,
    /// Where the data set lies
    #[arg(long)]
    pub path: Option<PathBuf>,
    /// Training samples of generated data
    #[arg(long)]
    pub train_samples: Option<usize>,
    /// Test samples of generated data
    #[arg(long)]
    pub test_samples: Option<usize>,
    /// Resizes every picture of a folder to this many rows and columns
    #[arg(long, num_args = 2, value_names = ["ROWS", "COLUMNS"])]
    pub resize: Option<Vec<usize>>,
    /// Channels of a folder's pictures: 1 or 3 [default: those of the first picture]
    #[arg(long)]
    pub channels: Option<usize>,
    /// Undecodable pictures of a folder to skip before giving up
    #[arg(long)]
    pub skip_bad: Option<usize>,
    /// Devices from the input to the output: names as `devices` prints them, or parts of them
    #[arg(long, value_delimiter = ',')]
    pub devices: Option<Vec<String>>,
    /// Allows software adapters where no device is named
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub software: Option<bool>,
    /// Number of stages [default: one for each device]
    #[arg(long)]
    pub stages: Option<usize>,
    /// Cuts the model after these layers, in place of the balanced cuts
    #[arg(long, value_delimiter = ',')]
    pub cuts: Option<Vec<String>>,
    /// What balanced cuts even out: flops, or measured, the times of the layers on each device, for devices that are not
    /// alike [default: flops]
    #[arg(long)]
    pub balance: Option<String>,
    /// Schedule: layer-block-wise, 1f1b-async, mixed=S,S,… (the slack of each link, 0 or 1), gpipe, 1f1b,
    /// interleaved=V (layer-blocks of each device), zero-bubble [default: layer-block-wise]
    #[arg(long)]
    pub schedule: Option<String>,
    /// Weight policy of the schedules that never flush: single, stashed, double-buffered [default: single]
    #[arg(long)]
    pub weights: Option<String>,
    /// Corrections of staleness: none, rate-per-stage[=STEPS], discrepancy, spike-compensation, linear-prediction,
    /// momentum-prediction, look-ahead, accumulation[=STEPS], synchronous-finish[=EPOCHS] [default: none]
    #[arg(long, value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub correction: Option<Vec<String>>,
    /// Epochs [default: 1]
    #[arg(long)]
    pub epochs: Option<usize>,
    /// Steps of the whole run, at most
    #[arg(long)]
    pub steps: Option<usize>,
    /// Samples of a step [default: 32]
    #[arg(long)]
    pub batch: Option<usize>,
    /// Microbatches of a step [default: 4 where the schedule flushes, else 1]
    #[arg(long)]
    pub microbatches: Option<usize>,
    /// Learning rate [default: 0.003]
    #[arg(long, allow_negative_numbers = true)]
    pub learning_rate: Option<f64>,
    /// Epochs after which the learning rate is multiplied with its factor
    #[arg(long, value_delimiter = ',')]
    pub learning_rate_epochs: Option<Vec<usize>>,
    /// What the learning rate is multiplied with [default: 0.1]
    #[arg(long)]
    pub learning_rate_factor: Option<f64>,
    /// Momentum [default: 0.9]
    #[arg(long, allow_negative_numbers = true)]
    pub momentum: Option<f64>,
    /// Nesterov's momentum
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub nesterov: Option<bool>,
    /// Weight decay [default: 0]
    #[arg(long, allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,
    /// What operands of products may be rounded to: f32, f16 [default: f32]
    #[arg(long)]
    pub precision: Option<String>,
    /// What the loss is multiplied with until the gradients are used [default: 1024 with f16, else 1]
    #[arg(long, allow_negative_numbers = true)]
    pub loss_scale: Option<f64>,
    /// Seed of weights, order of the data and dropout [default: 1]
    #[arg(long)]
    pub seed: Option<u64>,
    /// Driver threads of each software adapter [default: the cores shared among them]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Most memory that the stages of a device may use on it, in MiB; adapters do not say how much they have
    #[arg(long, value_name = "MIB")]
    pub memory_budget: Option<f64>,
    /// Tuning of kernels: off, quick (the few that promise most) or full [default: quick]
    #[arg(long)]
    pub tune: Option<String>,
    /// A step whose loss or gradients are no numbers: stop; skip its update; or roll-back to the last snapshot and go on
    /// behind it [default: stop]
    #[arg(long)]
    pub on_nan: Option<String>,
    /// Checks what passes between stages by checksums, and sends it again where it does not arrive as it left
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub link_checksums: Option<bool>,
    /// Where checkpoints are saved, at the end of each epoch
    #[arg(long)]
    pub checkpoint_dir: Option<PathBuf>,
    /// Saves after every so many steps too; a schedule that never flushes empties its pipes for it, and every 500 steps
    /// besides: a first Ctrl-C waits for that
    #[arg(long, value_name = "STEPS")]
    pub checkpoint_every: Option<usize>,
    /// Keeps this many checkpoints, the newest, and the most accurate one [default: all]
    #[arg(long, value_name = "CHECKPOINTS")]
    pub keep: Option<usize>,
    /// Goes on from a checkpoint although the training data has changed since
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub allow_changed_data: Option<bool>,
    /// Goes on from the newest checkpoint in the checkpoint directory
    #[arg(skip)]
    pub resume: Option<bool>,
    /// Writes the weights to this safetensors file at the end
    #[arg(skip)]
    pub save: Option<PathBuf>,
    /// Writes what happens to this file, as JSON lines
    #[arg(skip)]
    pub events: Option<PathBuf>,
    /// Shape of one sample, for a model given by `layers`
    #[arg(skip)]
    pub input: Option<[usize; 3]>,
    /// The layers of a model of one's own
    #[arg(skip)]
    pub layers: Option<Vec<LayerSpec>>,
}

impl Words {
    /// Reads a run file.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::parse(path, &text_of(path)?)
    }

    /// The words of a run file's text, each value checked by itself.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let words: Self = toml::from_str(text).map_err(|error| Failure::usage(run_file_message(path, text, &error)))?;
        words.check_each().map_err(|wrong| {
            let line = line_of(text, wrong.word);
            Failure::usage(format!("run file {}, line {line}: {wrong}", path.display()))
        })?;
        Ok(words)
    }

    /// Whether every value is possible by itself.
    ///
    /// # Errors
    /// Names the first that is not.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        Ok(self.check_each()?)
    }

    fn check_each(&self) -> Result<(), Wrong> {
        at_least_one("stages", self.stages)?;
        at_least_one("epochs", self.epochs)?;
        at_least_one("steps", self.steps)?;
        at_least_one("threads", self.threads)?;
        at_least_one("checkpoint-every", self.checkpoint_every)?;
        at_least_one("keep", self.keep)?;
        number("memory-budget", self.memory_budget, 1e9)?;
        at_least_one("batch", self.batch)?;
        at_most("batch", self.batch, MOST_SAMPLES)?;
        at_most("microbatches", self.microbatches, MOST_MICROBATCHES)?;
        number("learning-rate", self.learning_rate, f32::MAX)?;
        number("learning-rate-factor", self.learning_rate_factor, 1.0)?;
        number("momentum", self.momentum, 1.0f32.next_down())?;
        number("weight-decay", self.weight_decay, 1.0)?;
        scale("loss-scale", self.loss_scale)?;
        only("precision", self.precision.as_deref(), &["f32", "f16"])?;
        only("balance", self.balance.as_deref(), &Balance::ALL.map(Balance::name))?;
        readable("weights", self.staleness_policy())?;
        readable("correction", self.corrections())?;
        only("tune", self.tune.as_deref(), &Tuning::ALL.map(Tuning::name))
    }

    /// The weight policy.
    pub(crate) fn staleness_policy(&self) -> Result<WeightPolicy, StalenessError> {
        self.weights.as_deref().map_or(Ok(WeightPolicy::default()), str::parse)
    }

    /// The corrections of staleness.
    pub(crate) fn corrections(&self) -> Result<Corrections, StalenessError> {
        Corrections::parse(self.correction.iter().flatten().map(String::as_str))
    }

    /// These words where they are given, else the run file's.
    pub(crate) fn over(self, file: Self) -> Self {
        macro_rules! first {
            ($($field:ident),* $(,)?) => { Self { $($field: self.$field.or(file.$field)),* } };
        }
        first![
            resume,
            save,
            events,
            model,
            data,
            path,
            train_samples,
            test_samples,
            resize,
            channels,
            skip_bad,
            devices,
            software,
            stages,
            cuts,
            balance,
            schedule,
            weights,
            correction,
            epochs,
            steps,
            batch,
            microbatches,
            learning_rate,
            learning_rate_epochs,
            learning_rate_factor,
            momentum,
            nesterov,
            weight_decay,
            precision,
            loss_scale,
            seed,
            threads,
            memory_budget,
            tune,
            on_nan,
            link_checksums,
            checkpoint_dir,
            checkpoint_every,
            keep,
            allow_changed_data,
            input,
            layers,
        ]
    }
}
