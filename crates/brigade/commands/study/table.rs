//! The results as a table: mean over seeds, spread, and difference to one stage.

use std::fmt::Write;
use std::path::Path;

use brigade::Failure;
use serde::Serialize;

use super::results::{Outcome, Trained};

/// A line of the table: a case over its seeds.
#[derive(Debug, Serialize)]
struct Line {
    case: String,
    /// Test accuracy after the last epoch, in percent, seed by seed; none where the run diverged or failed.
    accuracies: Vec<Option<f64>>,
    /// How each seed ended.
    outcomes: Vec<Outcome>,
    mean: Option<f64>,
    /// Most minus least.
    spread: Option<f64>,
    /// Mean minus the mean of one stage over the same seeds, in points.
    difference: Option<f64>,
    /// Mean test loss after the last epoch.
    test_loss: Option<f64>,
}

/// All lines, in the order in which their first seed was trained, tasks together.
#[derive(Debug, Serialize)]
pub(super) struct Table {
    lines: Vec<Line>,
}

impl Table {
    pub(super) fn new(results: &[Trained]) -> Self {
        let mut cases: Vec<&Trained> = Vec::new();
        for trained in results {
            if !cases.iter().any(|known| known.case == trained.case) {
                cases.push(trained);
            }
        }
        cases.sort_by(|a, b| (&a.task, a.stages).cmp(&(&b.task, b.stages)));
        Self { lines: cases.into_iter().map(|case| line(case, results)).collect() }
    }

    /// Writes `table.md` to folder `out`.
    pub(super) fn write(&self, out: &Path) -> Result<(), Failure> {
        let failed = |error: std::io::Error| Failure::storage(format!("{}: {error}", out.display()));
        std::fs::write(out.join("table.md"), self.markdown()).map_err(failed)
    }

    pub(super) fn markdown(&self) -> String {
        let mut text = String::from(
            "| data / stages / schedule / microbatches / weights / corrections | test accuracy, % | mean | spread | to one stage | test loss |\n|---|---|---|---|---|---|\n",
        );
        for line in &self.lines {
            let seeds = line.accuracies.iter().zip(&line.outcomes);
            let seeds: Vec<_> = seeds.map(|(one, outcome)| figure(*one, 2, outcome.name())).collect();
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} |",
                line.case,
                seeds.join(" · "),
                figure(line.mean, 2, "–"),
                figure(line.spread, 2, "–"),
                line.difference.map_or("–".to_owned(), |points| format!("{points:+.2}")),
                figure(line.test_loss, 3, "–"),
            );
        }
        text
    }
}

fn figure(value: Option<f64>, digits: usize, absent: &str) -> String {
    value.map_or(absent.to_owned(), |value| format!("{value:.digits$}"))
}

fn line(case: &Trained, results: &[Trained]) -> Line {
    let mut seeds: Vec<&Trained> = results.iter().filter(|trained| trained.case == case.case).collect();
    seeds.sort_by(|a, b| a.name.cmp(&b.name));
    let accuracies: Vec<Option<f64>> = seeds.iter().map(|one| one.accuracy().map(|share| 100.0 * share)).collect();
    let finished: Option<Vec<f64>> = accuracies.iter().copied().collect();
    let losses: Vec<f64> = seeds.iter().filter_map(|one| Some(one.epochs.last()?.test_loss)).collect();
    let alone: Option<Vec<f64>> = seeds.iter().map(|one| of_one_stage(one, results)).collect();
    let mean_here = finished.as_deref().map(mean);
    Line {
        case: case.case.clone(),
        spread: finished.as_deref().map(spread),
        difference: mean_here.zip(alone.as_deref().map(mean)).map(|(here, alone)| here - alone),
        test_loss: finished.is_some().then(|| mean(&losses)),
        mean: mean_here,
        accuracies,
        outcomes: seeds.iter().map(|one| one.outcome).collect(),
    }
}

/// The accuracy of one stage with the same data and seed, in percent.
fn of_one_stage(row: &Trained, results: &[Trained]) -> Option<f64> {
    let seed = row.name.rsplit('/').next()?;
    let same = |one: &&Trained| one.task == row.task && one.stages == 1 && one.name.ends_with(&format!("/{seed}"));
    results.iter().find(same)?.accuracy().map(|share| 100.0 * share)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most - values.iter().copied().fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::super::results::Epoch;
    use super::*;

    fn trained(case: &str, stages: usize, seed: u64, accuracy: f64, outcome: Outcome) -> Trained {
        let epoch = Epoch { steps: 10, train_loss: 1.0, test_loss: 0.5, test_accuracy: accuracy };
        Trained {
            name: format!("{case}/seed-{seed}"),
            case: case.into(),
            task: "cifar10".into(),
            stages,
            outcome,
            epochs: vec![epoch],
            seconds: 1.0,
            error: None,
        }
    }

    #[test]
    fn the_difference_is_to_one_stage_of_the_same_seeds() {
        let results = [
            trained("cifar10/1", 1, 1, 0.70, Outcome::Trained),
            trained("cifar10/1", 1, 2, 0.72, Outcome::Trained),
            trained("cifar10/4/a", 4, 2, 0.715, Outcome::Trained),
            trained("cifar10/8/b", 8, 1, 0.10, Outcome::Diverged),
            trained("cifar10/8/b", 8, 2, 0.10, Outcome::Failed),
        ];
        let table = Table::new(&results);
        let [alone, four, eight] = &table.lines[..] else { unreachable!("three cases") };
        assert!((alone.mean.unwrap() - 71.0).abs() < 1e-9 && (alone.spread.unwrap() - 2.0).abs() < 1e-9);
        // Only seed 2 was trained with four stages, so seed 1 of one stage does not count.
        assert!((four.difference.unwrap() + 0.5).abs() < 1e-9);
        assert_eq!((eight.mean, eight.difference), (None, None));
        assert!(table.markdown().contains("| cifar10/8/b | diverged · failed | – |"));
    }
}
