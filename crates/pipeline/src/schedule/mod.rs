//! The schedule family: for every stage the ordered row of its actions, as a pure function.
//!
//! A stage first runs `warmup` forwards, then alternates backward and forward; the members of the family differ in
//! the warm-up and in whether a step ends with a flush. The worker, the simulator, the tests and the pictures all
//! read the rows that [`Schedule::row`] gives.

mod action;
pub mod picture;
mod simulate;
mod slack;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use action::{Action, Verb};
pub use simulate::{Deadlock, Durations, Span, Timeline, simulate};
pub use slack::Slack;

/// The members of the family, by their names on the command line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Kind {
    /// Never flushes; every transfer has a cycle of its own (Kawaguchi 2018, Mori et al. 2017).
    LayerBlockWise,
    /// Never flushes; a transfer is waited for (PipeDream's order, Narayanan et al. 2019).
    OneForwardOneBackwardAsync,
    /// Never flushes; each link has slack or not, `mixed=1,0,1`: between the two above.
    Mixed(Slack),
    /// All forwards, then all backwards, then a flush (GPipe, Huang et al. 2019).
    GPipe,
    /// One forward, one backward, then a flush (PipeDream-Flush, Narayanan et al. 2021).
    OneForwardOneBackward,
    /// As `1f1b`, with the gradients of the weights put off until the device has nothing more urgent to do (ZB-H1, Qi
    /// et al. 2023).
    ZeroBubble,
}

impl Kind {
    /// Every kind but [`Kind::Mixed`], of which there are many.
    pub const ALL: [Self; 5] = [
        Self::LayerBlockWise,
        Self::OneForwardOneBackwardAsync,
        Self::GPipe,
        Self::OneForwardOneBackward,
        Self::ZeroBubble,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LayerBlockWise => "layer-block-wise",
            Self::OneForwardOneBackwardAsync => "1f1b-async",
            Self::Mixed(_) => "mixed",
            Self::GPipe => "gpipe",
            Self::OneForwardOneBackward => "1f1b",
            Self::ZeroBubble => "zero-bubble",
        }
    }

    /// Whether every step ends with a flush, so that no weights are stale.
    pub const fn flushes(self) -> bool {
        matches!(self, Self::GPipe | Self::OneForwardOneBackward | Self::ZeroBubble)
    }

    /// Whether a backward is split into the gradient of the input and that of the weights.
    pub const fn splits(self) -> bool {
        matches!(self, Self::ZeroBubble)
    }

    /// Cycles that a transfer over `link` has to itself.
    const fn slack(self, link: usize) -> usize {
        match self {
            Self::LayerBlockWise => 1,
            Self::Mixed(slack) => slack.of(link),
            _ => 0,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mixed(slack) => write!(f, "mixed={slack}"),
            _ => f.write_str(self.name()),
        }
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.to_string()
    }
}

impl TryFrom<String> for Kind {
    type Error = UnknownSchedule;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// A schedule that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "there is no schedule `{0}`; known are: {known}, and mixed=S,S,… with the slack of each link, 0 or 1",
    known = Kind::ALL.map(Kind::name).join(", ")
)]
pub struct UnknownSchedule(pub String);

impl FromStr for Kind {
    type Err = UnknownSchedule;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownSchedule(name.to_owned());
        match name.strip_prefix("mixed=") {
            Some(slack) => slack.parse().map(Self::Mixed).map_err(|_| unknown()),
            None => Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(unknown),
        }
    }
}

/// A member of the family for a number of stages. Stages count from 0 here; the papers' s is `stage + 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Schedule {
    /// Which member.
    pub kind: Kind,
    /// Number of stages, P.
    pub stages: usize,
}

impl Schedule {
    /// The schedule `kind` over `stages` stages.
    pub const fn new(kind: Kind, stages: usize) -> Self {
        Self { kind, stages }
    }

    /// Forwards that a stage runs before its first backward. `microbatches` is the largest number of microbatches in
    /// a step, which bounds the flushing kinds.
    ///
    /// warmup(s) = 1 + Σ over the links at or after s of (1 + slack).
    pub fn warmup(&self, stage: usize, microbatches: usize) -> usize {
        let unbounded = 1 + (stage..self.stages - 1).map(|link| 1 + self.kind.slack(link)).sum::<usize>();
        match self.kind {
            Kind::LayerBlockWise | Kind::OneForwardOneBackwardAsync | Kind::Mixed(_) => unbounded,
            Kind::GPipe => microbatches,
            Kind::OneForwardOneBackward | Kind::ZeroBubble => unbounded.min(microbatches),
        }
    }

    /// Activation sets that a stage holds at most: from a microbatch's forward to the end of its backward. Putting
    /// gradients of weights off, ZB-H1 lets every stage hold as many as the first one does under `1f1b`.
    pub fn activation_sets(&self, stage: usize, microbatches: usize) -> usize {
        if self.kind.splits() { self.warmup(0, microbatches) } else { self.warmup(stage, microbatches) }
    }

    /// Whether any stage uses weights that are stale, so that emptying the pipes changes the run.
    pub fn is_stale(&self) -> bool {
        self.stages > 1 && !self.kind.flushes()
    }

    /// Updates between a microbatch's forward and its own update, with one microbatch a step.
    pub fn staleness(&self, stage: usize) -> usize {
        if self.kind.flushes() { 0 } else { self.warmup(stage, 1) - 1 }
    }

    /// Messages that a link's channel must hold in each direction, for the link after `stage`, so that no schedule
    /// of the family deadlocks and a sender never waits for a receiver that is on time.
    pub fn capacity(&self, stage: usize, microbatches: usize) -> usize {
        (self.warmup(stage, microbatches) - self.warmup(stage + 1, microbatches)).max(1)
    }

    /// The row of a stage over a segment: `steps[i]` is the number of microbatches of step i. The segment starts
    /// with empty pipes and ends with empty pipes.
    pub fn row(&self, stage: usize, steps: &[usize]) -> Vec<Action> {
        if self.kind.flushes() {
            let mut first = 0;
            let mut row = Vec::new();
            for (step, &count) in steps.iter().enumerate() {
                let (warmup, microbatches) = (self.warmup(stage, count), first..first + count);
                if self.kind.splits() {
                    put_off(warmup, stage, microbatches, &mut row);
                    row.push(Action::update(step));
                } else {
                    let boundaries = [Boundary { step, last: first + count - 1 }];
                    alternate(warmup, microbatches, &boundaries, &mut row);
                }
                first += count;
            }
            row
        } else {
            let boundaries = boundaries(steps);
            let mut row = Vec::new();
            alternate(self.warmup(stage, usize::MAX), 0..steps.iter().sum(), &boundaries, &mut row);
            row
        }
    }
}

/// Where a step ends: after the backward of its last microbatch.
struct Boundary {
    step: usize,
    last: usize,
}

fn boundaries(steps: &[usize]) -> Vec<Boundary> {
    let mut next = 0;
    steps
        .iter()
        .enumerate()
        .map(|(step, &count)| {
            next += count;
            Boundary { step, last: next - 1 }
        })
        .collect()
}

/// `warmup` forwards, then a backward and a forward in turn, then the backwards that are left; an update after the
/// backward that ends a step.
fn alternate(warmup: usize, microbatches: Range<usize>, boundaries: &[Boundary], row: &mut Vec<Action>) {
    let mut forwards = microbatches.clone();
    let mut boundaries = boundaries.iter().peekable();
    row.extend(forwards.by_ref().take(warmup).map(Action::forward));
    for microbatch in microbatches {
        row.push(Action::backward(microbatch));
        if let Some(boundary) = boundaries.next_if(|boundary| boundary.last == microbatch) {
            row.push(Action::update(boundary.step));
        }
        row.extend(forwards.next().map(Action::forward));
    }
}

/// `warmup` forwards, then the gradient of an input, that of the weights of the microbatch `lag` places before, and a
/// forward in turn; then what is left of each. The later the stage, the further its weights wait, so that the gradients
/// of inputs that the earlier ones wait for come first.
fn put_off(warmup: usize, lag: usize, microbatches: Range<usize>, row: &mut Vec<Action>) {
    let mut forwards = microbatches.clone();
    let mut weights = microbatches.clone();
    row.extend(forwards.by_ref().take(warmup).map(Action::forward));
    for microbatch in microbatches.clone() {
        row.push(Action::input_gradient(microbatch));
        if microbatch - microbatches.start >= lag {
            row.extend(weights.next().map(Action::weight_gradient));
        }
        row.extend(forwards.next().map(Action::forward));
    }
    row.extend(weights.map(Action::weight_gradient));
}

#[cfg(test)]
mod tests;
