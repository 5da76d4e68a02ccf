//! What a run is told, by the run file and by flags; flags win.

use std::path::{Path, PathBuf};

use brigade_data::Spec;
use brigade_devices::Tuning;
use brigade_kernels::{Precision, Shape};
use brigade_pipeline::model::{ModelSpec, Sequential, built_in};
use brigade_pipeline::partition::PartitionError;
use brigade_pipeline::schedule::Kind;
use brigade_pipeline::staleness::{StalenessError, StalenessOptions};
use brigade_pipeline::{LearningRate, Optimiser, PlacementError, Position};

use crate::balance::Balance;
use crate::failure::Failure;
use crate::recovery::OnNan;
use crate::words::Words;

/// A run with every word decided and checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The model, its shapes checked.
    pub model: Sequential,
    /// The data set.
    pub data: Spec,
    /// Devices by name; empty where none is named.
    pub devices: Vec<String>,
    /// Whether software adapters may be chosen without being named.
    pub software: bool,
    /// Number of stages, where it is given.
    pub stages: Option<usize>,
    /// Layers to cut after; empty for balanced cuts.
    pub cuts: Vec<String>,
    /// What balanced cuts even out.
    pub balance: Balance,
    /// The schedule.
    pub schedule: Kind,
    /// What is done about staleness.
    pub staleness: StalenessOptions,
    /// Epochs.
    pub epochs: usize,
    /// Steps of the whole run, at most.
    pub steps: Option<usize>,
    /// Samples of a step.
    pub batch: usize,
    /// Microbatches of a step.
    pub microbatches: usize,
    /// Learning rate of step 0.
    pub learning_rate: f32,
    /// Epochs after which the rate is multiplied.
    pub learning_rate_epochs: Vec<usize>,
    /// With what.
    pub learning_rate_factor: f32,
    /// The optimiser.
    pub optimiser: Optimiser,
    /// What operands of products may be rounded to.
    pub precision: Precision,
    /// What the loss is multiplied with until the gradients are used.
    pub loss_scale: f32,
    /// Seed.
    pub seed: u64,
    /// Driver threads of each software adapter.
    pub threads: Option<usize>,
    /// Bytes that the stages of a device may use on it, where they are limited.
    pub memory_budget: Option<u64>,
    /// How much is tried to find the fastest kernels.
    pub tune: Tuning,
    /// What is done with a step whose loss or gradients are no numbers.
    pub on_nan: OnNan,
    /// Whether what passes between stages is checked.
    pub link_checksums: bool,
    /// Where checkpoints go.
    pub checkpoint_dir: Option<PathBuf>,
    /// Steps between checkpoints within an epoch, where there are any.
    pub checkpoint_every: Option<usize>,
    /// Checkpoints that are kept, where not all are.
    pub keep: Option<usize>,
    /// Whether a resumed run takes data that has changed.
    pub allow_changed_data: bool,
    /// Whether the run goes on from the newest checkpoint there.
    pub resume: bool,
    /// Where the weights go at the end.
    pub save: Option<PathBuf>,
    /// Where the events go.
    pub events: Option<PathBuf>,
}

impl Settings {
    /// Reads the run file, where there is one, puts the flags over it and checks every value.
    ///
    /// # Errors
    /// Names the word, what was wanted and what was found.
    pub fn new(config: Option<&Path>, flags: Words) -> Result<Self, Failure> {
        Self::with_model(config, flags, None)
    }

    /// As [`Settings::new`], with a model for where neither run file nor flags name one.
    ///
    /// # Errors
    /// As [`Settings::new`].
    pub fn with_model(config: Option<&Path>, flags: Words, model: Option<&ModelSpec>) -> Result<Self, Failure> {
        let file = config.map(Words::read).transpose()?.unwrap_or_default();
        flags.check()?;
        let mut words = flags.over(file);
        if let Some(spec) = model.filter(|_| words.model.is_none() && words.layers.is_none()) {
            let Shape { c, h, w } = spec.input;
            words.model = Some(spec.name.clone());
            words.input = Some([c, h, w]);
            words.layers = Some(spec.layers.clone());
        }
        Self::from_words(words)
    }

    pub(crate) fn from_words(words: Words) -> Result<Self, Failure> {
        let model = model(&words)?;
        let seed = words.seed.unwrap_or(1);
        let data = data(&words, &model, seed)?;
        let schedule: Kind = parsed(words.schedule.as_deref().unwrap_or("layer-block-wise"))?;
        let batch = words.batch.unwrap_or(32);
        let microbatches = words.microbatches.unwrap_or(if schedule.flushes() { batch.min(4) } else { 1 });
        if microbatches == 0 || microbatches > batch {
            return Err(Failure::usage(format!("microbatches: {microbatches} is not from 1 to the batch of {batch}")));
        }
        let staleness = staleness(&words)?;
        let precision = if words.precision.as_deref() == Some("f16") { Precision::F16 } else { Precision::F32 };
        Ok(Self {
            model,
            data,
            devices: words.devices.unwrap_or_default(),
            software: words.software.unwrap_or(false),
            stages: words.stages,
            cuts: words.cuts.unwrap_or_default(),
            balance: words.balance.as_deref().map(parsed).transpose()?.unwrap_or_default(),
            schedule,
            staleness,
            epochs: words.epochs.unwrap_or(1),
            steps: words.steps,
            batch,
            microbatches,
            learning_rate: words.learning_rate.unwrap_or(0.003) as f32,
            learning_rate_epochs: words.learning_rate_epochs.unwrap_or_default(),
            learning_rate_factor: words.learning_rate_factor.unwrap_or(0.1) as f32,
            optimiser: Optimiser {
                momentum: words.momentum.unwrap_or(0.9) as f32,
                weight_decay: words.weight_decay.unwrap_or(0.0) as f32,
                nesterov: words.nesterov.unwrap_or(false),
            },
            precision,
            loss_scale: words.loss_scale.map_or(precision.loss_scale(), |scale| scale as f32),
            seed,
            threads: words.threads,
            memory_budget: words.memory_budget.map(|mib| (mib * 1_048_576.0) as u64),
            tune: words.tune.as_deref().map(parsed).transpose()?.unwrap_or_default(),
            on_nan: words.on_nan.as_deref().map(str::parse).transpose()?.unwrap_or_default(),
            link_checksums: words.link_checksums.unwrap_or(false),
            checkpoint_dir: words.checkpoint_dir,
            checkpoint_every: words.checkpoint_every,
            keep: words.keep,
            allow_changed_data: words.allow_changed_data.unwrap_or(false),
            resume: words.resume.unwrap_or(false),
            save: words.save,
            events: words.events,
        })
    }

    /// The number of stages that is asked for, by itself or by the cuts.
    ///
    /// # Errors
    /// Where the model has not so many layers.
    pub fn stages_asked(&self) -> Result<Option<usize>, Failure> {
        let stages = self.stages.or((!self.cuts.is_empty()).then_some(self.cuts.len() + 1));
        stages.map_or(Ok(()), |stages| check_stages(&self.model, stages))?;
        Ok(stages)
    }

    /// The learning rate by step, for epochs of `steps_per_epoch` steps from `position` on.
    pub fn rates(&self, steps_per_epoch: usize, position: &Position) -> LearningRate {
        let start_of_epoch = position.step - position.batch.min(position.step);
        let milestone = |&epoch: &usize| {
            start_of_epoch.saturating_add(epoch.saturating_sub(position.epoch).saturating_mul(steps_per_epoch))
        };
        LearningRate {
            initial: self.learning_rate,
            milestones: self.learning_rate_epochs.iter().map(milestone).collect(),
            factor: self.learning_rate_factor,
        }
    }
}

/// Whether `model` can be cut into `stages`.
///
/// # Errors
/// Where it has fewer layers.
pub fn check_stages(model: &Sequential, stages: usize) -> Result<(), Failure> {
    let layers = model.layers.len();
    if stages > layers {
        return Err(PlacementError::from(PartitionError::TooManyStages { stages, layers }).into());
    }
    Ok(())
}

fn model(words: &Words) -> Result<Sequential, Failure> {
    match (&words.layers, words.input) {
        (None, None) => Ok(built_in(words.model.as_deref().unwrap_or("lenet5"))?),
        (Some(layers), Some([c, h, w])) => {
            let name = words.model.clone().unwrap_or_else(|| "custom".into());
            Ok(Sequential::new(&ModelSpec { name, input: Shape::new(c, h, w), layers: layers.clone() })?)
        }
        (Some(_), None) => Err(Failure::usage("a model given by `layers` needs `input = [channels, rows, columns]`")),
        (None, Some(_)) => Err(Failure::usage("`input` belongs to a model given by `layers`, and there are none")),
    }
}

fn data(words: &Words, model: &Sequential, seed: u64) -> Result<Spec, Failure> {
    let kind: brigade_data::Kind = words.data.as_deref().unwrap_or("glyphs").parse()?;
    let mut spec = Spec::new(kind);
    spec.path.clone_from(&words.path);
    spec.seed = seed;
    spec.train = words.train_samples;
    spec.test = words.test_samples;
    spec.channels = words.channels;
    spec.skip_bad = words.skip_bad.unwrap_or(0);
    spec.resize = match words.resize.as_deref() {
        None => None,
        Some(&[rows, columns]) => Some((rows, columns)),
        Some(other) => return Err(Failure::usage(format!("resize: wanted rows and columns, found {other:?}"))),
    };
    if kind == brigade_data::Kind::Synthetic {
        let Shape { c, h, w } = model.input;
        spec.shape = Some(brigade_data::Shape::new(c, h, w)?);
        spec.classes = Some(model.classes());
    }
    Ok(spec)
}

/// Policy and corrections, and whether they go together.
fn staleness(words: &Words) -> Result<StalenessOptions, StalenessError> {
    let options = StalenessOptions { weights: words.staleness_policy()?, corrections: words.corrections()? };
    options.corrections.check(options.weights, words.nesterov.unwrap_or(false))?;
    Ok(options)
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(word: &str) -> Result<T, Failure> {
    word.parse().map_err(|error: T::Err| Failure::usage(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Settings, Failure> {
        Settings::from_words(Words::parse(Path::new("run.toml"), text)?)
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let message = words("epochs = 3\nlerning-rate = 0.1\n").map(|_| ()).unwrap_err().message;
        assert!(message.contains("line 2") && message.contains("`learning-rate`"), "{message}");
    }

    #[test]
    fn flags_win_over_the_run_file() {
        let flags = Words { batch: Some(8), ..Words::default() };
        let file = Words { batch: Some(16), epochs: Some(3), ..Words::default() };
        let settings = Settings::from_words(flags.over(file)).unwrap();
        assert_eq!((settings.batch, settings.epochs), (8, 3));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        for (text, word) in [
            ("learning-rate = nan", "learning-rate"),
            ("learning-rate = -0.1", "learning-rate"),
            ("learning-rate = 1e400", "learning-rate"),
            ("momentum = 1.0", "momentum"),
            ("batch = 0", "batch"),
            ("microbatches = 0", "microbatches"),
            ("batch = 4\nmicrobatches = 5", "microbatches"),
            ("stages = 0", "stages"),
            ("balance = \"even\"", "balance"),
            ("schedule = \"x\"", "schedule"),
            ("weights = \"two\"", "weights"),
            ("correction = [\"two\"]", "correction"),
            ("correction = \"accumulation=0\"", "correction"),
            ("correction = \"discrepancy,look-ahead\"", "discrepancy"),
            ("precision = \"f8\"", "precision"),
            ("on-nan = \"ignore\"", "on-nan"),
            ("loss-scale = 0", "loss-scale"),
            ("loss-scale = inf", "loss-scale"),
        ] {
            let message = words(text).map(|_| ()).unwrap_err().message;
            assert!(message.contains(word), "{text}: {message}");
        }
    }

    #[test]
    fn half_precision_scales_the_loss() {
        let scale = |text: &str| words(text).map(|settings| (settings.precision, settings.loss_scale)).unwrap();
        assert_eq!(scale(""), (Precision::F32, 1.0));
        assert_eq!(scale("precision = \"f16\""), (Precision::F16, 1024.0));
        assert_eq!(scale("precision = \"f16\"\nloss-scale = 8"), (Precision::F16, 8.0));
    }

    #[test]
    fn a_model_can_be_written_as_a_list_of_layers() {
        let text = "input = [1, 8, 8]\n[[layers]]\nop = \"conv2d\"\nout_channels = 2\nkernel = 3\n\
                    [[layers]]\nop = \"linear\"\nout_features = 10\nname = \"out\"\n";
        let model = words(text).unwrap().model;
        assert_eq!(model.layers.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>(), ["conv1", "out"]);
        let large = text.replace("kernel = 3", "kernel = 9");
        let message = words(&large).map(|_| ()).unwrap_err().message;
        assert!(message.contains("conv1") && message.contains('9') && message.contains("8"), "{message}");
    }
}
