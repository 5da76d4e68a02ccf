//! What a soak gave.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use brigade::{Failure, Status};
use serde::Serialize;

use super::faults::Plan;
use super::memory::{Estimate, Growth, Memory};
use super::steps::Steps;

/// How a process ended before the soak did.
#[derive(Debug, Serialize)]
pub(super) struct End {
    /// Seconds since the start.
    pub(super) at: f64,
    /// Exit status; 137 for SIGKILL.
    pub(super) status: i32,
    /// The kind of fault that explains it.
    pub(super) cause: Option<&'static str>,
}

/// The report, as it is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seconds: f64,
    /// Steps of the run that were done.
    steps: usize,
    checkpoints: usize,
    checkpoint_every: usize,
    /// Faults that were due, by kind.
    faults: BTreeMap<&'static str, usize>,
    /// Processes that ended before they were asked to.
    ends: Vec<End>,
    /// Stretches in which nothing new was trained.
    setbacks: Setbacks,
    /// The part of the time that was not lost to setbacks.
    effective_time: f64,
    /// Memory while the run trains undisturbed.
    memory: Trend,
}

#[derive(Debug, Serialize)]
struct Setbacks {
    count: usize,
    /// Steps that were trained again, in all.
    steps_repeated: usize,
    /// The most that a single fault undid.
    most_steps_repeated: usize,
    /// The most that one undid within a process, which goes back to its own snapshot and waits for no disk.
    most_steps_repeated_within: usize,
    /// Seconds from the last new step to the next new one.
    seconds_median: f64,
    seconds_most: f64,
}

/// How memory goes on.
#[derive(Debug, Serialize)]
struct Trend {
    /// Seconds that it was observed for, after the warm-up of each start and recovery.
    seconds: usize,
    /// How fast it grows; absent where too little was observed.
    bytes_per_second: Option<Range>,
    growth: Growth,
    /// By how much its level changed with each recovery; absent where too few were observed.
    bytes_per_recovery: Option<Range>,
}

/// A figure with the ends of the interval that holds the true one 95 times of 100.
#[derive(Debug, Serialize)]
struct Range {
    value: f64,
    interval: [f64; 2],
}

impl From<Estimate> for Range {
    fn from(Estimate { value, interval }: Estimate) -> Self {
        Self { value, interval }
    }
}

impl Trend {
    fn of(memory: &Memory) -> Self {
        Self {
            seconds: memory.observed(),
            bytes_per_second: memory.slope().map(Range::from),
            growth: memory.growth(),
            bytes_per_recovery: memory.left_by_recoveries().map(Range::from),
        }
    }

    fn text(&self) -> String {
        let Some(Range { value, interval: [least, most] }) = &self.bytes_per_second else {
            return "memory: the run was never undisturbed for long enough to tell".to_owned();
        };
        let word = match self.growth {
            Growth::None => "it does not grow",
            Growth::Some => "it grows",
            Growth::Unknown => "too uncertain to tell",
        };
        let seconds = self.seconds;
        let mut text = format!("memory: {value:+.0} bytes/s ({least:+.0} to {most:+.0}) over {seconds} s: {word}");
        if let Some(Range { value, interval }) = &self.bytes_per_recovery {
            let [value, least, most] = [*value, interval[0], interval[1]].map(|bytes| bytes / f64::from(1 << 20));
            let _ = write!(text, "; {value:+.1} MiB with each recovery ({least:+.1} to {most:+.1})");
        }
        text
    }
}

impl Report {
    pub(super) fn new(
        plan: &Plan,
        elapsed: Duration,
        interval: usize,
        steps: &Steps,
        memory: &Memory,
        ends: Vec<End>,
    ) -> Self {
        let mut faults = BTreeMap::new();
        plan.0
            .iter()
            .filter(|planned| planned.at <= elapsed)
            .for_each(|p| *faults.entry(p.kind.name).or_default() += 1);
        let mut lost: Vec<f64> =
            steps.setbacks.iter().map(|setback| (setback.until - setback.from).as_secs_f64()).collect();
        lost.sort_by(f64::total_cmp);
        let undone = steps.setbacks.iter().map(|setback| setback.undone);
        let within = steps.setbacks.iter().filter(|setback| !setback.ended).map(|setback| setback.undone);
        let seconds = elapsed.as_secs_f64();
        Self {
            seconds,
            steps: steps.done,
            checkpoints: steps.checkpoints,
            checkpoint_every: interval,
            faults,
            ends,
            setbacks: Setbacks {
                count: lost.len(),
                steps_repeated: steps.setbacks.iter().map(|setback| setback.repeated).sum(),
                most_steps_repeated: undone.max().unwrap_or(0),
                most_steps_repeated_within: within.max().unwrap_or(0),
                seconds_median: lost.get(lost.len() / 2).copied().unwrap_or(0.0),
                seconds_most: lost.last().copied().unwrap_or(0.0),
            },
            effective_time: 1.0 - lost.iter().sum::<f64>() / seconds.max(1e-9),
            memory: Trend::of(memory),
        }
    }

    /// As people read it.
    pub(super) fn text(&self) -> String {
        let Self { seconds, steps, checkpoints, setbacks, effective_time, .. } = self;
        let mut text = format!("{seconds:.0} s, {steps} steps, {checkpoints} checkpoints\nfaults:");
        for (kind, count) in &self.faults {
            let _ = write!(text, " {kind} {count}");
        }
        let ended = self.ends.len();
        let unexplained = self.unexplained().count();
        let _ = write!(
            text,
            "\nprocesses that ended: {ended}, {unexplained} of them without a fault that explains it\n\
             setbacks: {}, {} steps repeated, at most {} at once (checkpoints every {}); {:.2} s each in the median, {:.2} s \
             at most\neffective time: {:.1} %",
            setbacks.count,
            setbacks.steps_repeated,
            setbacks.most_steps_repeated,
            self.checkpoint_every,
            setbacks.seconds_median,
            setbacks.seconds_most,
            100.0 * effective_time
        );
        let _ = write!(text, "\n{}", self.memory.text());
        text
    }

    fn unexplained(&self) -> impl Iterator<Item = &End> {
        self.ends.iter().filter(|end| end.cause.is_none())
    }

    /// An error where something was lost that must not be, or a process ended for no reason.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        if let Some(end) = self.unexplained().next() {
            let what = format!("soak: a process ended with {} at {:.1} s, which no fault explains", end.status, end.at);
            return Err(Failure::new(Status::Internal, what));
        }
        self.too_many(self.setbacks.most_steps_repeated_within, 1)?;
        // A process may end while its newest checkpoint is being written; the one before is at most as far behind it.
        self.too_many(self.setbacks.most_steps_repeated, 2)
    }

    fn too_many(&self, most: usize, intervals: usize) -> Result<(), Failure> {
        if most <= intervals * self.checkpoint_every {
            return Ok(());
        }
        let what =
            format!("soak: {most} steps were repeated at once, more than {intervals} times a checkpoint's interval");
        Err(Failure::new(Status::Internal, what))
    }
}
