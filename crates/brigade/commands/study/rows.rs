//! The rows of the study: what is trained, as plain data.

/// A data set, the network that learns it, and how. The rates of a data set are the same for all of its rows.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: &'static str,
    pub(super) model: &'static str,
    /// The word for `--data`.
    pub(super) data: &'static str,
    pub(super) epochs: usize,
    pub(super) batch: usize,
    pub(super) learning_rate: &'static str,
    /// Epochs after which the rate is multiplied with [`FACTOR`].
    pub(super) decay_after: &'static str,
    pub(super) weight_decay: &'static str,
    /// Layers after which the model is cut, for each number of stages.
    pub(super) cuts: &'static [(usize, &'static str)],
    /// Other words of the task's `train` commands.
    pub(super) words: &'static [&'static str],
}

/// What the learning rate is multiplied with when it decays.
pub(super) const FACTOR: &str = "0.3";

/// Each stage of the eight holds one layer with weights.
pub(super) static CIFAR10: Task = Task {
    name: "cifar10",
    model: "cnn-8",
    data: "folder",
    epochs: 7,
    batch: 64,
    learning_rate: "0.02",
    decay_after: "4,6",
    weight_decay: "0.0005",
    cuts: &[(1, ""), (2, "pool2"), (4, "pool1,pool2,relu6"), (8, "relu1,pool1,relu3,pool2,relu5,relu6,relu7")],
    words: &["--resize", "32", "32", "--channels", "3"],
};

/// LeNet has four layers with weights, hence no row with eight stages.
pub(super) static MNIST: Task = Task {
    name: "mnist",
    model: "lenet5",
    data: "mnist",
    epochs: 3,
    batch: 32,
    learning_rate: "0.01",
    decay_after: "1,2",
    weight_decay: "0.0005",
    cuts: &[(1, ""), (2, "pool2"), (4, "pool1,pool2,relu1")],
    words: &[],
};

/// A stand-in of seconds, that needs no files: it shows what the command does and says nothing of convergence.
pub(super) static GLYPHS: Task = Task {
    name: "glyphs",
    model: "lenet5",
    data: "glyphs",
    epochs: 2,
    batch: 16,
    learning_rate: "0.01",
    decay_after: "1",
    weight_decay: "0",
    cuts: &[(1, ""), (2, "pool2")],
    words: &["--train-samples", "160", "--test-samples", "80"],
};

/// A schedule with what is done about its staleness.
#[derive(Debug)]
pub(super) struct Combination {
    pub(super) schedule: &'static str,
    /// Microbatches of a step: the update is that of the whole batch, so that staleness in updates falls with them.
    pub(super) microbatches: usize,
    pub(super) weights: &'static str,
    pub(super) corrections: &'static str,
}

impl Combination {
    const fn new(
        schedule: &'static str,
        microbatches: usize,
        weights: &'static str,
        corrections: &'static str,
    ) -> Self {
        Self { schedule, microbatches, weights, corrections }
    }
}

/// The published schedule with nothing done about its staleness.
static UNCORRECTED: Combination = Combination::new("layer-block-wise", 1, "single", "none");
/// Little slack, as many microbatches in an update as there are stages, so that no gradient is older than one update, and
/// a prediction that knows the momentum.
static BEST_AT_4: Combination = Combination::new("1f1b-async", 4, "single", "momentum-prediction");
/// The same at eight stages.
static BEST_AT_8: Combination = Combination::new("1f1b-async", 8, "single", "momentum-prediction");

/// What lies between the two, one thing changed at a time, and what others have proposed.
static OTHERS: [Combination; 12] = [
    Combination::new("1f1b-async", 4, "single", "momentum-prediction,synchronous-finish=1"),
    Combination::new("1f1b-async", 8, "single", "momentum-prediction,synchronous-finish=1"),
    Combination::new("1f1b-async", 1, "single", "none"),
    Combination::new("1f1b-async", 4, "single", "none"),
    Combination::new("1f1b-async", 1, "single", "momentum-prediction"),
    Combination::new("layer-block-wise", 1, "single", "momentum-prediction"),
    Combination::new("layer-block-wise", 1, "stashed", "none"),
    Combination::new("layer-block-wise", 1, "single", "spike-compensation"),
    Combination::new("layer-block-wise", 1, "single", "linear-prediction"),
    Combination::new("layer-block-wise", 1, "single", "rate-per-stage"),
    Combination::new("layer-block-wise", 1, "single", "look-ahead"),
    Combination::new("1f1b-async", 4, "double-buffered", "none"),
];

/// One training run.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) task: &'static Task,
    pub(super) stages: usize,
    pub(super) combination: &'static Combination,
    pub(super) seed: u64,
}

impl Row {
    /// Whether the question of the study hangs on it: does the best combination at many stages keep up with one stage?
    fn is_essential(&self) -> bool {
        let asked: &[&Combination] = match self.stages {
            1 | 4 => &[&UNCORRECTED, &BEST_AT_4],
            8 => &[&UNCORRECTED, &BEST_AT_8],
            _ => &[],
        };
        asked.iter().any(|combination| std::ptr::eq(*combination, self.combination))
    }

    /// What is told apart by more than its seed.
    pub(super) fn case(&self) -> String {
        let Combination { schedule, microbatches, weights, corrections } = self.combination;
        let Row { task: Task { name, .. }, stages, .. } = self;
        match stages {
            1 => format!("{name}/1"),
            _ => format!("{name}/{stages}/{schedule}/{microbatches}/{weights}/{corrections}"),
        }
    }

    /// The row's name in the results.
    pub(super) fn name(&self) -> String {
        format!("{}/seed-{}", self.case(), self.seed)
    }

    /// The flags of `brigade train` that run it, but for devices and the place of the data.
    pub(super) fn flags(&self) -> Vec<String> {
        let Row { task, stages, combination, seed } = self;
        let (seed, stages_word, batch) = (seed.to_string(), stages.to_string(), task.batch.to_string());
        let (epochs, microbatches) = (task.epochs.to_string(), combination.microbatches.to_string());
        let cuts = task.cuts.iter().find(|(of, _)| of == stages).map_or("", |(_, cuts)| cuts);
        let mut flags = vec!["--model", task.model, "--data", task.data];
        flags.extend(task.words);
        flags.extend(["--stages", &stages_word, "--schedule", combination.schedule]);
        if *stages > 1 {
            flags.extend(["--cuts", cuts, "--microbatches", &microbatches]);
            flags.extend(["--weights", combination.weights, "--correction", combination.corrections]);
        }
        flags.extend(["--epochs", &epochs, "--batch", &batch, "--learning-rate", task.learning_rate]);
        flags.extend(["--learning-rate-epochs", task.decay_after, "--learning-rate-factor", FACTOR]);
        flags.extend(["--momentum", "0.9", "--weight-decay", task.weight_decay, "--seed", &seed]);
        flags.into_iter().map(str::to_owned).collect()
    }
}

/// The rows of `tasks`, what says most first: one stage, the uncorrected and the best at the most stages, seed by seed;
/// then everything else.
pub(super) fn rows(tasks: &[&'static Task], seeds: u64) -> Vec<Row> {
    let all: Vec<Row> = tasks.iter().flat_map(|&task| (1..=seeds).flat_map(move |seed| of_seed(task, seed))).collect();
    let (first, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(Row::is_essential);
    first.into_iter().chain(rest).collect()
}

/// One stage once, then each combination at each number of stages.
fn of_seed(task: &'static Task, seed: u64) -> impl Iterator<Item = Row> {
    let row = move |stages, combination| Row { task, stages, combination, seed };
    let several = task.cuts.iter().map(|&(stages, _)| stages).filter(|&stages| stages > 1);
    let combinations = || [&UNCORRECTED, &BEST_AT_4, &BEST_AT_8].into_iter().chain(&OTHERS);
    let several = several.flat_map(move |stages| combinations().map(move |combination| row(stages, combination)));
    std::iter::once(row(1, &UNCORRECTED)).chain(several)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_cuts_fit_the_stages() {
        let rows = rows(&[&CIFAR10, &MNIST, &GLYPHS], 3);
        let names: HashSet<_> = rows.iter().map(Row::name).collect();
        assert_eq!(names.len(), rows.len());
        for task in [&CIFAR10, &MNIST, &GLYPHS] {
            let model = brigade::built_in(task.model).unwrap();
            for (stages, cuts) in task.cuts {
                let cuts: Vec<_> = cuts.split(',').filter(|cut| !cut.is_empty()).collect();
                assert_eq!(cuts.len() + 1, *stages);
                assert!(cuts.iter().all(|cut| model.position(cut).is_some()), "{}: {cuts:?}", task.name);
            }
        }
    }

    #[test]
    fn one_stage_is_trained_once_for_a_seed() {
        let rows = rows(&[&CIFAR10], 3);
        assert_eq!(rows.iter().filter(|row| row.stages == 1).count(), 3);
    }
}
