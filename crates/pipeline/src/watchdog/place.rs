//! Where a stage is in its row.

use std::fmt::{self, Write};
use std::time::Instant;

use crate::pipeline::Walked;
use crate::schedule::Action;

/// Actions of a row that are shown before and after the place.
const SHOWN: usize = 4;

/// What a stage is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// What comes before the first action of a row.
    Start,
    /// An action of its row.
    Action(Action),
    /// Its parameters are copied to the host.
    Read,
    /// Its parameters are copied from the host.
    Write,
    /// It is to let go of its device.
    End,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("the start of its row"),
            Self::Action(action) => action.fmt(f),
            Self::Read => f.write_str("the reading of its parameters"),
            Self::Write => f.write_str("the writing of its parameters"),
            Self::End => f.write_str("the letting go of its device"),
        }
    }
}

/// Where a stage is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// Nothing where it has no order.
    doing: Option<Doing>,
    /// Whether it waits for its neighbour's message, and not for its device.
    waiting: bool,
    since: Instant,
    /// Actions that it has begun.
    pub(super) begun: usize,
}

impl Place {
    pub(super) fn new(now: Instant) -> Self {
        Self { doing: None, waiting: false, since: now, begun: 0 }
    }

    pub(super) fn come_to(&mut self, doing: Doing, waiting: bool, now: Instant) {
        (self.doing, self.waiting, self.since) = (Some(doing), waiting, now);
    }

    pub(super) fn rest(&mut self) {
        self.doing = None;
    }

    pub(super) fn doing(&self) -> Option<Doing> {
        self.doing
    }

    pub(super) fn waits(&self) -> bool {
        self.waiting
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Whether a first stage that is here waits for samples.
    pub(super) fn waits_for_data(&self) -> bool {
        self.waiting && matches!(self.doing, Some(Doing::Action(action)) if action == Action::forward(action.index))
    }
}

/// A line for each stage: what it did last, where it is, in brackets, and what comes next.
pub(super) fn grid(places: &[Place], walked: Option<&Walked>) -> String {
    let mut grid = String::new();
    for (stage, place) in places.iter().enumerate() {
        let _ = write!(grid, "\nstage {stage}:");
        let Some(doing) = place.doing else {
            grid.push_str(" is done");
            continue;
        };
        let row = walked.map(|walked| walked.schedule.row(stage, &walked.steps)).unwrap_or_default();
        match row.iter().position(|&action| Doing::Action(action) == doing) {
            Some(at) => {
                for (index, action) in row.iter().enumerate().skip(at.saturating_sub(SHOWN)).take(2 * SHOWN + 1) {
                    let _ = if index == at { write!(grid, " [{action}]") } else { write!(grid, " {action}") };
                }
            }
            // An evaluation, or parameters on their way, have no row.
            None => drop(write!(grid, " [{doing}]")),
        }
        grid.push_str(if place.waiting { "  waits for a message" } else { "  computes" });
    }
    grid
}
