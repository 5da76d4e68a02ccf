//! The schedule family: for every stage the ordered row of its actions, as a pure function.
//!
//! A stage first runs `warmup` forwards, then alternates backward and forward; the members of the family differ in
//! the warm-up and in whether a step ends with a flush. The worker, the simulator, the tests and the pictures all
//! read the rows that [`Schedule::row`] gives.

mod action;
mod formula;
mod interleaved;
pub mod picture;
mod simulate;
mod slack;
mod timeline;

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use action::{Action, Verb};
pub use interleaved::Blocks;
pub use simulate::{Deadlock, Simulation, simulate};
pub use slack::Slack;
pub use timeline::{Durations, Span, Timeline, Transfer};

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
    /// `1f1b` with several layer-blocks on each device, `interleaved=2` (Narayanan et al. 2021).
    Interleaved(Blocks),
    /// As `1f1b`, with the gradients of the weights put off until the device has nothing more urgent to do (ZB-H1, Qi
    /// et al. 2023).
    ZeroBubble,
}

impl Kind {
    /// Every kind but [`Kind::Mixed`] and [`Kind::Interleaved`], of which there are many.
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
            Self::Interleaved(_) => "interleaved",
            Self::ZeroBubble => "zero-bubble",
        }
    }

    /// Whether every step ends with a flush, so that no weights are stale.
    pub const fn flushes(self) -> bool {
        matches!(self, Self::GPipe | Self::OneForwardOneBackward | Self::Interleaved(_) | Self::ZeroBubble)
    }

    /// Whether a backward is split into the gradient of the input and that of the weights.
    pub const fn splits(self) -> bool {
        matches!(self, Self::ZeroBubble)
    }

    /// Layer-blocks of each device.
    pub const fn blocks(self) -> usize {
        match self {
            Self::Interleaved(blocks) => blocks.count(),
            _ => 1,
        }
    }

    /// The same kind where of the stages only those of `kept`, in order, go on.
    #[must_use]
    pub fn between(self, kept: &[usize]) -> Self {
        match self {
            // Without links nothing is to be said of them.
            Self::Mixed(_) if kept.len() < 2 => Self::OneForwardOneBackwardAsync,
            Self::Mixed(slack) => Self::Mixed(slack.between(kept)),
            _ => self,
        }
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
            Self::Interleaved(blocks) => write!(f, "interleaved={blocks}"),
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
    "there is no schedule `{0}`; known are: {known}, mixed=S,S,… with the slack of each link, 0 or 1, and interleaved=V with \
     the layer-blocks of each device, 2 or more",
    known = Kind::ALL.map(Kind::name).join(", ")
)]
pub struct UnknownSchedule(pub String);

impl FromStr for Kind {
    type Err = UnknownSchedule;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownSchedule(name.to_owned());
        match name.split_once('=') {
            Some(("mixed", slack)) => slack.parse().map(Self::Mixed).map_err(|_| unknown()),
            Some(("interleaved", blocks)) => blocks.parse().map(Self::Interleaved).map_err(|_| unknown()),
            _ => Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(unknown),
        }
    }
}

/// A schedule that is none for a number of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Misfit {
    /// It has the slack of too many links, or of too few.
    #[error("schedule: `{kind}` has the slack of {given} links, and {stages} stages have {links}", links = stages - 1)]
    Links {
        /// The schedule.
        kind: Kind,
        /// Links whose slack it has.
        given: usize,
        /// Stages.
        stages: usize,
    },
    /// Some device would have fewer layer-blocks than the others.
    #[error("schedule: `{kind}` has {blocks} layer-blocks on each device, and {stages} stages are no multiple of that", blocks = kind.blocks())]
    Blocks {
        /// The schedule.
        kind: Kind,
        /// Stages.
        stages: usize,
    },
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

    /// The schedule of a synchronous finish: `1f1b`, for which a schedule that never flushes has the activation sets and
    /// the room in its links. Where it flushes itself nothing is stale, and it stays as it is.
    pub const fn finish(&self) -> Self {
        if self.kind.flushes() { *self } else { Self { kind: Kind::OneForwardOneBackward, stages: self.stages } }
    }

    /// Whether the schedule is one for its number of stages.
    ///
    /// # Errors
    /// Where it speaks of another number of links, or the stages do not spread evenly over devices.
    pub fn check(&self) -> Result<(), Misfit> {
        let Self { kind, stages } = *self;
        match kind {
            Kind::Mixed(slack) if slack.links() + 1 != stages => {
                Err(Misfit::Links { kind, given: slack.links(), stages })
            }
            Kind::Interleaved(blocks) if !stages.is_multiple_of(blocks.count()) => Err(Misfit::Blocks { kind, stages }),
            _ => Ok(()),
        }
    }

    /// Devices that the stages are on: as many as there are stages, but for `interleaved`.
    pub const fn devices(&self) -> usize {
        self.stages.div_ceil(self.kind.blocks())
    }

    /// The device of a stage, from 0.
    pub const fn device(&self, stage: usize) -> usize {
        stage % self.devices()
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
            Kind::Interleaved(_) => {
                self.step_row(stage, 0, microbatches).iter().take_while(|action| action.verb == Verb::Forward).count()
            }
            Kind::OneForwardOneBackward | Kind::ZeroBubble => unbounded.min(microbatches),
        }
    }

    /// Activation sets that a stage holds at most: from a microbatch's forward to the end of its backward. Putting
    /// gradients of weights off, ZB-H1 lets every stage hold as many as the first one does under `1f1b`. Enough for steps of
    /// fewer microbatches too.
    pub fn activation_sets(&self, stage: usize, microbatches: usize) -> usize {
        match self.kind {
            Kind::ZeroBubble => self.warmup(0, microbatches),
            // A shorter step may have larger groups, and then holds more than a longer one.
            Kind::Interleaved(_) => {
                let steps = 1..=microbatches.min(interleaved::TELLING * self.devices());
                let held = steps.map(|count| interleaved::most_in_flight(&self.step_row(stage, 0, count)));
                held.max().unwrap_or(0)
            }
            _ => self.warmup(stage, microbatches),
        }
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
    /// of the family deadlocks: as many as the warm-ups of its ends differ by, and one at least.
    ///
    /// A sender that is faster than its receiver may have to wait for room: under `gpipe`, where both ends warm up alike,
    /// after a message or two. A step does not take longer for it, since the slower end sets its time.
    pub fn capacity(&self, stage: usize, microbatches: usize) -> usize {
        if let Kind::Interleaved(_) = self.kind {
            // A sender waits for what is under way between it and the end no more than for its own turn.
            return self.activation_sets(stage, microbatches).max(1);
        }
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
                if let Kind::Interleaved(_) = self.kind {
                    row.extend(self.step_row(stage, first, count));
                    row.push(Action::update(step));
                } else if self.kind.splits() {
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

    /// Where the actions of a stage's row stand in the row of its device, over the same segment: when its turn is among
    /// the other layer-blocks there. An update waits for no turn, and where a device has one block nothing does.
    pub fn turns(&self, stage: usize, steps: &[usize]) -> Vec<Option<usize>> {
        let Kind::Interleaved(blocks) = self.kind else { return vec![None; self.row(stage, steps).len()] };
        let (own, mut before) = (stage / self.devices(), 0);
        let mut turns = Vec::new();
        for &count in steps {
            let row = interleaved::device_row(self.device(stage), self.devices(), blocks.count(), 0, count);
            turns.extend((before..).zip(&row).filter(|(_, (block, _))| *block == own).map(|(turn, _)| Some(turn)));
            turns.push(None);
            before += row.len();
        }
        turns
    }

    /// Turns that the layer-blocks of one device take in all.
    pub fn turns_of_a_device(&self, steps: &[usize]) -> usize {
        match self.kind {
            Kind::Interleaved(blocks) => 2 * blocks.count() * steps.iter().sum::<usize>(),
            _ => 0,
        }
    }

    /// The part of an interleaved step that is a stage's own, without the update.
    fn step_row(&self, stage: usize, first: usize, count: usize) -> Vec<Action> {
        let (own, blocks) = (stage / self.devices(), self.kind.blocks());
        let row = interleaved::device_row(self.device(stage), self.devices(), blocks, first, count);
        row.into_iter().filter(|(block, _)| *block == own).map(|(_, action)| action).collect()
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
mod simulate_tests;
#[cfg(test)]
mod tests;
