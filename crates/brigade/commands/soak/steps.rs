//! The steps of a run that is set back now and then: which were new, which were repeated, and what that cost.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use brigade::Failure;
use serde_json::Value;

/// A stretch in which nothing new was trained.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Setback {
    /// When the last new step before it ended, since the start.
    pub(super) from: Duration,
    /// When the next new one ended.
    pub(super) until: Duration,
    /// Steps that were trained again in between: several times each where one fault followed upon another.
    pub(super) repeated: usize,
    /// The most that a single fault undid.
    pub(super) undone: usize,
    /// Whether a process ended, as opposed to one that went back to its own snapshot.
    pub(super) ended: bool,
}

/// A setback that has not ended: steps repeated so far, the most that a single fault undid, and whether a process ended.
#[derive(Default)]
struct Open {
    repeated: usize,
    undone: usize,
    ended: bool,
}

/// Follows the steps of an events file.
pub(super) struct Steps {
    lines: BufReader<File>,
    line: String,
    /// The most steps that were done.
    pub(super) done: usize,
    /// When that was.
    last_new: Duration,
    /// The setback since, where there is one.
    open: Option<Open>,
    /// The last step told, new or not.
    last: usize,
    /// A process that ends leaves a gap, whether or not it repeats steps.
    restarted: bool,
    pub(super) setbacks: Vec<Setback>,
    /// Checkpoints that the run told of.
    pub(super) checkpoints: usize,
    /// Recoveries that it told of.
    pub(super) recoveries: usize,
}

impl Steps {
    /// Begins with an empty file.
    pub(super) fn follow(path: &Path) -> Result<Self, Failure> {
        let opened = File::create(path).and_then(|_| File::open(path));
        let file = opened.map_err(|error| Failure::storage(format!("{}: {error}", path.display())))?;
        Ok(Self {
            lines: BufReader::new(file),
            line: String::new(),
            done: 0,
            last_new: Duration::ZERO,
            open: None,
            last: 0,
            restarted: false,
            setbacks: Vec::new(),
            checkpoints: 0,
            recoveries: 0,
        })
    }

    /// Reads what has been written since, at the moment `now`.
    pub(super) fn read(&mut self, now: Duration) -> Result<(), Failure> {
        loop {
            let read = self.lines.read_line(&mut self.line);
            let bytes = read.map_err(|error| Failure::storage(format!("events: {error}")))?;
            if bytes == 0 || !self.line.ends_with('\n') {
                // The rest of a line that is being written comes next time.
                return Ok(());
            }
            let line = std::mem::take(&mut self.line);
            let Ok(event) = serde_json::from_str::<Value>(&line) else { continue };
            match (event["event"].as_str(), event["step"].as_u64()) {
                (Some("step"), Some(step)) => self.step(step as usize, now),
                (Some("checkpoint"), _) => self.checkpoints += 1,
                (Some("recovery"), _) => self.recoveries += 1,
                _ => {}
            }
        }
    }

    /// A process has ended and another takes its place.
    pub(super) fn restart(&mut self) {
        self.restarted = true;
        // A line that it did not end is of no use.
        self.line.clear();
    }

    fn step(&mut self, step: usize, now: Duration) {
        if step <= self.last || self.restarted {
            let open = self.open.get_or_insert_default();
            open.ended |= self.restarted;
            open.undone = open.undone.max((self.done + 1).saturating_sub(step));
            self.restarted = false;
        }
        self.last = step;
        if step <= self.done {
            if let Some(open) = &mut self.open {
                open.repeated += 1;
            }
            return;
        }
        if let Some(Open { repeated, undone, ended }) = self.open.take() {
            self.setbacks.push(Setback { from: self.last_new, until: now, repeated, undone, ended });
        }
        (self.done, self.last_new) = (step, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_steps_and_gaps_are_setbacks() {
        let folder = tempfile::tempdir().unwrap();
        let mut steps = Steps::follow(&folder.path().join("events")).unwrap();
        let second = Duration::from_secs;
        [1, 2, 3, 4].into_iter().for_each(|step| steps.step(step, second(step as u64)));
        // Set back within the process to step 3.
        steps.step(3, second(7));
        steps.step(4, second(8));
        steps.step(5, second(9));
        // A process that takes over right behind.
        steps.restart();
        steps.step(6, second(12));
        let wanted = [
            Setback { from: second(4), until: second(9), repeated: 2, undone: 2, ended: false },
            Setback { from: second(9), until: second(12), repeated: 0, undone: 0, ended: true },
        ];
        assert_eq!((steps.done, steps.setbacks), (6, wanted.to_vec()));
    }

    #[test]
    fn faults_that_follow_upon_one_another_do_not_add_up_what_each_undid() {
        let folder = tempfile::tempdir().unwrap();
        let mut steps = Steps::follow(&folder.path().join("events")).unwrap();
        let mut train = |from: usize, until: usize| {
            (from..=until).for_each(|step| steps.step(step, Duration::ZERO));
            steps.restart();
        };
        // Twice it ends before the next checkpoint, and starts from step 3 again.
        train(1, 6);
        train(3, 5);
        train(3, 7);
        let zero = Duration::ZERO;
        assert_eq!(steps.setbacks, [Setback { from: zero, until: zero, repeated: 7, undone: 4, ended: true }]);
    }
}
