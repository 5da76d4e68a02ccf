//! The rows of the study: what is trained, as plain data.

use brigade::Schedule as Kind;
use brigade_pipeline::schedule::Schedule;
use brigade_pipeline::staleness::{Corrections, StalenessOptions, worst_staleness};

/// Which rows are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Rows {
    /// One stage, and at the most stages of a data set the uncorrected and the best combination
    Essential,
    /// These, the same at four stages, and with the first seed every combination at the most stages of MNIST
    Default,
    /// Every combination at every number of stages
    All,
}

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
    /// Whether a row takes minutes on one core, not the better part of an hour: then it is no matter to run many.
    pub(super) quick: bool,
}

impl Task {
    fn most_stages(&self) -> usize {
        self.cuts.iter().map(|(stages, _)| *stages).max().unwrap_or(1)
    }
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
    quick: false,
};

/// LeNet has four layers with weights, hence no row with eight stages: four of them would have nothing to learn.
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
    quick: true,
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
    quick: true,
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

    /// Whether it is possible over so many stages: the slack is that of as many links as there are, and an update has as
    /// many microbatches as the weight policy needs.
    fn fits(&self, stages: usize) -> bool {
        let (Ok(kind), Ok(weights)) = (self.schedule.parse::<Kind>(), self.weights.parse()) else { return false };
        let Ok(corrections) = Corrections::parse(self.corrections.split(',')) else { return false };
        let (schedule, options) = (Schedule::new(kind, stages), StalenessOptions { weights, corrections });
        schedule.check().is_ok() && worst_staleness(&schedule, &options, self.microbatches).is_some()
    }
}

/// The published schedule with nothing done about its staleness.
static UNCORRECTED: Combination = Combination::new("layer-block-wise", 1, "single", "none");
/// Little slack, as many microbatches in an update as there are stages, so that no gradient is older than one update, and
/// a prediction that knows the momentum.
static BEST_AT_4: Combination = Combination::new("1f1b-async", 4, "single", "momentum-prediction");
/// The same at eight stages.
static BEST_AT_8: Combination = Combination::new("1f1b-async", 8, "single", "momentum-prediction");

/// What lies between the two, one thing changed at a time, and what others have proposed. Those that do not fit a number of
/// stages are no rows there.
static OTHERS: [Combination; 19] = [
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
    Combination::new("1f1b-async", 8, "double-buffered", "none"),
    // One slow link in the middle, all others fast.
    Combination::new("mixed=0,1,0", 1, "single", "none"),
    Combination::new("mixed=0,0,0,1,0,0,0", 1, "single", "none"),
    Combination::new("layer-block-wise", 1, "single", "discrepancy"),
    Combination::new("layer-block-wise", 1, "single", "accumulation=4"),
    // PipeMare as published: both of its techniques (Yang et al. 2021).
    Combination::new("layer-block-wise", 1, "single", "rate-per-stage,discrepancy"),
    // What Kosson et al. 2021 found best: a prediction and the compensation of spikes together.
    Combination::new("layer-block-wise", 1, "single", "linear-prediction,spike-compensation"),
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
    /// The smallest of the sets that it is in.
    fn set(&self) -> Rows {
        let most = self.stages == self.task.most_stages();
        match self.is_asked() {
            true if most || self.stages == 1 => Rows::Essential,
            true => Rows::Default,
            false if self.task.quick && most && self.seed == 1 => Rows::Default,
            false => Rows::All,
        }
    }

    /// Whether the question of the study hangs on it: does the best combination at many stages keep up with one stage?
    fn is_asked(&self) -> bool {
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

/// The rows of `tasks` that `wanted` asks for, what says most first: the essential ones, then those that the default adds,
/// then all others; within each seed by seed.
pub(super) fn rows(tasks: &[&'static Task], seeds: u64, wanted: Rows) -> Vec<Row> {
    let all = tasks.iter().flat_map(|&task| (1..=seeds).flat_map(move |seed| of_seed(task, seed)));
    let mut rows: Vec<Row> = all.filter(|row| row.set() as usize <= wanted as usize).collect();
    rows.sort_by_key(|row| row.set() as usize);
    rows
}

/// One stage once, then each combination at each number of stages.
fn of_seed(task: &'static Task, seed: u64) -> impl Iterator<Item = Row> {
    let row = move |stages, combination| Row { task, stages, combination, seed };
    let several = task.cuts.iter().map(|&(stages, _)| stages).filter(|&stages| stages > 1);
    let combinations = || [&UNCORRECTED, &BEST_AT_4, &BEST_AT_8].into_iter().chain(&OTHERS);
    let several = several.flat_map(move |stages| {
        combinations().filter(move |of| of.fits(stages)).map(move |combination| row(stages, combination))
    });
    std::iter::once(row(1, &UNCORRECTED)).chain(several)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_cuts_fit_the_stages() {
        let rows = rows(&[&CIFAR10, &MNIST, &GLYPHS], 3, Rows::All);
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
        let rows = rows(&[&CIFAR10], 3, Rows::All);
        assert_eq!(rows.iter().filter(|row| row.stages == 1).count(), 3);
    }

    #[test]
    fn each_set_holds_the_smaller_ones_and_the_default_is_small() {
        let names = |wanted| rows(&[&CIFAR10, &MNIST], 3, wanted).iter().map(Row::name).collect::<Vec<_>>();
        let [essential, default, all] = [Rows::Essential, Rows::Default, Rows::All].map(names);
        assert!(default.starts_with(&essential) && all.starts_with(&default));
        // Of each seed: one stage and two combinations at the most stages of both data sets, two more at four for CIFAR-10.
        assert_eq!((essential.len(), default.iter().filter(|name| name.starts_with("cifar10")).count()), (18, 15));
        assert!(all.len() > 4 * default.len(), "{} {}", default.len(), all.len());
    }

    #[test]
    fn what_does_not_fit_a_number_of_stages_is_no_row_there() {
        let rows = rows(&[&CIFAR10], 1, Rows::All);
        let microbatches = |stages: usize| -> Vec<usize> {
            let policy = |row: &&Row| row.stages == stages && row.combination.weights == "double-buffered";
            rows.iter().filter(policy).map(|row| row.combination.microbatches).collect()
        };
        // P − 1 microbatches under way at the first stage must fit one update.
        assert_eq!((microbatches(4), microbatches(8)), (vec![4, 8], vec![8]));
        let mixed = |stages: usize| {
            let mixed = |row: &&Row| row.stages == stages && row.combination.schedule.starts_with("mixed");
            rows.iter().filter(mixed).map(|row| row.combination.schedule).collect::<Vec<_>>()
        };
        assert_eq!((mixed(2), mixed(4), mixed(8)), (vec![], vec!["mixed=0,1,0"], vec!["mixed=0,0,0,1,0,0,0"]));
        assert!(OTHERS.iter().all(|of| [2, 4, 8].into_iter().any(|stages| of.fits(stages))), "a row of nothing");
    }
}
