//! What rows gave, as JSON lines: appended row by row, so that a stopped study goes on where it was.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use brigade::{Failure, Status};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rows::Row;

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// All epochs.
    Trained,
    /// The loss was no longer finite.
    Diverged,
    /// Something else ended the run. It is tried again when the study goes on.
    Failed,
}

impl Outcome {
    /// In tables.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Trained => "trained",
            Self::Diverged => "diverged",
            Self::Failed => "failed",
        }
    }
}

/// The end of an epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Epoch {
    /// Steps of the run until then.
    pub(super) steps: usize,
    pub(super) train_loss: f64,
    pub(super) test_loss: f64,
    /// Share of the test samples, 0 to 1.
    pub(super) test_accuracy: f64,
}

/// The result of a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Trained {
    pub(super) name: String,
    /// The name without the seed.
    pub(super) case: String,
    pub(super) task: String,
    pub(super) stages: usize,
    pub(super) outcome: Outcome,
    /// In order; those before it diverged.
    pub(super) epochs: Vec<Epoch>,
    pub(super) seconds: f64,
    /// What a run that failed said last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Trained {
    /// Accuracy after the last epoch; none where the row diverged.
    pub(super) fn accuracy(&self) -> Option<f64> {
        self.epochs.last().filter(|_| self.outcome == Outcome::Trained).map(|epoch| epoch.test_accuracy)
    }
}

/// The results file.
pub(super) struct Results {
    path: PathBuf,
    all: Vec<Trained>,
}

impl Results {
    /// Opens the results of folder `out`, none where there is no file yet.
    pub(super) fn open(out: &Path) -> Result<Self, Failure> {
        std::fs::create_dir_all(out).map_err(|error| storage(out, &error))?;
        let path = out.join("results.jsonl");
        mend_end(&path).map_err(|error| storage(&path, &error))?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(storage(&path, &error)),
        };
        let all = text.lines().enumerate().map(|(index, line)| {
            serde_json::from_str(line).map_err(|error| {
                let message =
                    format!("{}, line {}: {error}; remove it, and its row runs again", path.display(), index + 1);
                Failure::new(Status::Data, message)
            })
        });
        let all: Vec<Trained> = all.collect::<Result<_, _>>()?;
        let mut results = Self { all: Vec::new(), path };
        all.into_iter().for_each(|trained| results.put(trained));
        Ok(results)
    }

    /// What was tried again stands for what failed before.
    fn put(&mut self, trained: Trained) {
        self.all.retain(|known| known.name != trained.name || known.outcome != Outcome::Failed);
        self.all.push(trained);
    }

    pub(super) fn all(&self) -> &[Trained] {
        &self.all
    }

    /// Whether a row has a result that stays.
    pub(super) fn has(&self, name: &str) -> bool {
        self.all.iter().any(|trained| trained.name == name && trained.outcome != Outcome::Failed)
    }

    /// Adds what `row` wrote to `events`, and what it said where it failed.
    pub(super) fn add(
        &mut self,
        row: &Row,
        outcome: Outcome,
        events: &Path,
        error: Option<String>,
    ) -> Result<(), Failure> {
        let text = match std::fs::read_to_string(events) {
            // A run may fail before it has anything to tell.
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound && error.is_some() => String::new(),
            text => text.map_err(|error| storage(events, &error))?,
        };
        let (epochs, seconds) = epochs(&text);
        let (name, case, task) = (row.name(), row.case(), row.task.name.to_owned());
        let trained = Trained { name, case, task, stages: row.stages, outcome, epochs, seconds, error };
        let line = serde_json::to_string(&trained);
        let line = line.map_err(|error| Failure::new(Status::Internal, format!("JSON: {error}")))?;
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let written = file.and_then(|mut file: File| file.write_all(format!("{line}\n").as_bytes()));
        written.map_err(|error| storage(&self.path, &error))?;
        self.put(trained);
        Ok(())
    }

    /// The newest result in a few words.
    pub(super) fn last_words(&self) -> String {
        let Some(last) = self.all.last() else { return String::new() };
        match (last.accuracy(), &last.error) {
            (Some(accuracy), _) => format!("{:.2} % in {:.0} s", 100.0 * accuracy, last.seconds),
            (None, Some(error)) => format!("failed: {error}"),
            (None, None) => format!("diverged after {} epochs", last.epochs.len()),
        }
    }
}

/// Ends the last line of a file where the writing of it was cut off, or takes it off where it is no whole result: its row
/// runs again.
fn mend_end(path: &Path) -> std::io::Result<()> {
    let Ok(text) = std::fs::read(path) else { return Ok(()) };
    let start = text.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let cut_off = &text[start..];
    if cut_off.is_empty() {
        return Ok(());
    }
    let mut file = OpenOptions::new().append(true).open(path)?;
    match serde_json::from_slice::<Trained>(cut_off) {
        Ok(_) => file.write_all(b"\n"),
        Err(_) => file.set_len(start as u64),
    }
}

/// The epochs of a run's events, and the seconds they took.
fn epochs(events: &str) -> (Vec<Epoch>, f64) {
    let (mut epochs, mut steps, mut seconds) = (Vec::new(), 0, 0.0);
    // The last line of a run that was cut off may be half a line.
    for event in events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let number = |key: &str| event[key].as_f64().unwrap_or(f64::NAN);
        match event["event"].as_str() {
            Some("step") => steps = event["step"].as_u64().unwrap_or(0) as usize,
            Some("epoch") => {
                seconds += number("seconds");
                epochs.push(Epoch {
                    steps,
                    train_loss: number("train_loss"),
                    test_loss: number("test_loss"),
                    test_accuracy: number("test_accuracy"),
                });
            }
            _ => {}
        }
    }
    (epochs, seconds)
}

fn storage(path: &Path, error: &std::io::Error) -> Failure {
    Failure::storage(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However much of the last line is there, what came before it stays, and more can be added.
    #[test]
    fn a_line_that_was_cut_off_costs_its_own_row_at_most() {
        let row = |name: &str| {
            let result = r#""case":"c","task":"t","stages":1,"outcome":"trained","epochs":[],"seconds":1.5"#;
            format!("{{\"name\":\"{name}\",{result}}}")
        };
        let (first, second) = (format!("{}\n", row("a")), row("b"));
        for length in 0..=second.len() {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("results.jsonl");
            std::fs::write(&path, format!("{first}{}", &second[..length])).unwrap();
            let results = Results::open(folder.path()).unwrap();
            let whole = length == second.len();
            assert_eq!(results.all().len(), 1 + usize::from(whole), "{length}");
            let kept = if whole { format!("{first}{second}\n") } else { first.clone() };
            assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
        }
    }

    #[test]
    fn epochs_are_read_from_events() {
        let events = concat!(
            r#"{"event":"step","step":7,"loss":1.0}"#,
            "\n",
            r#"{"event":"epoch","epoch":1,"train_loss":2.0,"test_loss":1.5,"test_accuracy":0.25,"seconds":3.0}"#,
            "\n",
            r#"{"event":"st"#
        );
        let (epochs, seconds) = epochs(events);
        assert_eq!((epochs.len(), epochs[0].steps, seconds), (1, 7, 3.0));
        assert_eq!((epochs[0].train_loss, epochs[0].test_accuracy), (2.0, 0.25));
    }
}
