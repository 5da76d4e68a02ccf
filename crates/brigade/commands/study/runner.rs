//! Runs rows side by side, each as a `train` of its own: what one row leaves behind in a driver is no other's.

use std::borrow::Cow;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use brigade::{Failure, Status};

use super::Convergence;
use super::results::{Outcome, Results};
use super::rows::Row;
use crate::output;
use crate::signals::Signals;

/// How often running rows are looked at; they take minutes.
const GLANCE: Duration = Duration::from_millis(100);

/// Knows how a row becomes a process.
pub(super) struct Runner {
    program: PathBuf,
    device: String,
    cifar10: Option<PathBuf>,
    mnist: Option<PathBuf>,
    jobs: usize,
    logs: PathBuf,
}

/// A row that trains.
struct Running<'a> {
    row: &'a Row,
    child: Child,
    events: PathBuf,
    log: PathBuf,
}

impl Runner {
    pub(super) fn new(args: &Convergence) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::new(Status::Internal, format!("this program: {error}")))?;
        Ok(Self {
            program,
            device: args.device.clone(),
            cifar10: args.cifar10.clone(),
            mnist: args.mnist.clone(),
            jobs: args.jobs.or(available_parallelism().ok()).map_or(1, usize::from),
            logs: args.out.join("running"),
        })
    }

    /// The command that trains `row` alone.
    pub(super) fn command_line(&self, row: &Row) -> String {
        let flags = self.flags(row);
        let words: Vec<_> = flags.iter().map(|word| quoted(word)).collect();
        format!("# {}\nbrigade train {}", row.name(), words.join(" "))
    }

    /// Trains every row that has no result yet.
    pub(super) fn run(&self, rows: &[Row], results: &mut Results) -> Result<(), Failure> {
        let signals = Signals::listen()?;
        std::fs::create_dir_all(&self.logs).map_err(|error| storage(&self.logs, &error))?;
        let waiting: Vec<&Row> = rows.iter().filter(|row| !results.has(&row.name())).collect();
        output::tell(format_args!("{} rows, {} of them done", rows.len(), rows.len() - waiting.len()));
        let mut waiting = waiting.into_iter();
        let mut running = Vec::new();
        let done = self.turn(&mut waiting, &mut running, results, &signals);
        running.iter_mut().for_each(Running::end);
        done
    }

    fn turn<'a>(
        &self,
        waiting: &mut impl Iterator<Item = &'a Row>,
        running: &mut Vec<Running<'a>>,
        results: &mut Results,
        signals: &Signals,
    ) -> Result<(), Failure> {
        loop {
            if let Some(status) = signals.received() {
                return Err(Failure::new(
                    status,
                    "study: stopped; the same command goes on with the rows that are left",
                ));
            }
            while running.len() < self.jobs
                && let Some(row) = waiting.next()
            {
                running.push(self.start(row)?);
            }
            if running.is_empty() {
                return Ok(());
            }
            sleep(GLANCE);
            collect(running, results)?;
        }
    }

    fn start<'a>(&self, row: &'a Row) -> Result<Running<'a>, Failure> {
        let file = self.logs.join(row.name().replace('/', "-"));
        let (events, log) = (file.with_extension("jsonl"), file.with_extension("log"));
        let stderr = File::create(&log).map_err(|error| storage(&log, &error))?;
        let child = Command::new(&self.program)
            .arg("train")
            .args(self.flags(row))
            .arg("--events")
            .arg(&events)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| storage(&self.program, &error))?;
        output::tell(format_args!("{}: started", row.name()));
        Ok(Running { row, child, events, log })
    }

    fn flags(&self, row: &Row) -> Vec<String> {
        let mut flags = row.flags();
        flags.extend(["--devices", &self.device, "--threads", "1"].map(str::to_owned));
        let folder = match row.task.name {
            "cifar10" => &self.cifar10,
            "mnist" => &self.mnist,
            _ => &None,
        };
        if let Some(folder) = folder {
            flags.extend(["--path".to_owned(), folder.display().to_string()]);
        }
        flags
    }
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "_-+=./:,@%".contains(letter);
    if !word.is_empty() && word.chars().all(plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// Takes the results of rows that have ended.
fn collect(running: &mut Vec<Running<'_>>, results: &mut Results) -> Result<(), Failure> {
    for index in (0..running.len()).rev() {
        let of = &mut running[index];
        let status = of.child.try_wait().map_err(|error| storage(&of.log, &error))?;
        let Some(status) = status else { continue };
        let of = running.swap_remove(index);
        let is = |status: Status| move |code: i32| code == status as i32;
        let (outcome, error) = match status.code() {
            Some(0) => (Outcome::Trained, None),
            Some(code) if is(Status::Numerics)(code) => (Outcome::Diverged, None),
            // A signal to all that belongs to the study reaches its rows before the study has looked.
            Some(code) if is(Status::Interrupted)(code) || is(Status::Terminated)(code) => return Ok(()),
            code => (Outcome::Failed, Some(of.last_words(code))),
        };
        results.add(of.row, outcome, &of.events, error)?;
        output::tell(format_args!("{}: {}", of.row.name(), results.last_words()));
        // What they held is in the results; that they stay where they cannot be removed harms nothing.
        let _ = std::fs::remove_file(&of.events);
        let _ = std::fs::remove_file(&of.log);
    }
    Ok(())
}

impl Running<'_> {
    /// How a row that failed ended.
    fn last_words(&self, code: Option<i32>) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = said.lines().last().unwrap_or("nothing");
        let ended = code.map_or("by a signal".to_owned(), |code| format!("with status {code}"));
        format!("ended {ended}, and said: {last}")
    }

    /// A row that is not to go on. It starts anew another time.
    fn end(&mut self) {
        // It may have ended by itself in between.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn storage(path: &Path, error: &std::io::Error) -> Failure {
    Failure::storage(format!("{}: {error}", path.display()))
}
