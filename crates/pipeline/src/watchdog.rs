//! Finds a pipeline that does not go on: nothing happens at any stage for much longer than anything took before.

use std::fmt::Write;
use std::time::{Duration, Instant};

use crate::PipelineError;
use crate::schedule::{Action, Schedule};

/// Until as many actions have begun at every stage, the times of this run are not known: programs are being compiled,
/// and a whole backward of a large model can take tens of seconds on a software adapter.
const MEASURED: usize = 8;
/// Between two looks at the clock.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

const FIRST_DEADLINE: Duration = Duration::from_secs(300);

/// A deadline is never shorter: the machine may be busy with other things.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(10);

/// How many times the longest silence so far.
const GENEROUS: u32 = 20;

/// Actions of a row that are shown before and after the place.
const SHOWN: usize = 4;

/// Where a stage is in its row.
#[derive(Debug, Clone, Copy)]
struct Place {
    action: Option<Action>,
    /// Whether it waits for its neighbour's message, and not for its device.
    waiting: bool,
    since: Instant,
    begun: usize,
}

/// What is known of all stages.
#[derive(Debug)]
pub(crate) struct Watchdog {
    places: Vec<Place>,
    heard: Instant,
    longest: Duration,
}

impl Watchdog {
    pub(crate) fn new(stages: usize) -> Self {
        let now = Instant::now();
        let place = Place { action: None, waiting: true, since: now, begun: 0 };
        Self { places: vec![place; stages], heard: now, longest: Duration::ZERO }
    }

    /// An order begins: the time before it says nothing.
    pub(crate) fn start(&mut self) {
        self.heard = Instant::now();
        for place in &mut self.places {
            (place.action, place.waiting, place.since) = (None, true, self.heard);
        }
    }

    /// Something has happened.
    pub(crate) fn hear(&mut self) {
        let now = Instant::now();
        self.longest = self.longest.max(now - self.heard);
        self.heard = now;
    }

    /// A stage has come to an action.
    pub(crate) fn note(&mut self, stage: usize, action: Action, waiting: bool) {
        self.hear();
        if let Some(place) = self.places.get_mut(stage) {
            *place = Place { action: Some(action), waiting, since: self.heard, begun: place.begun + 1 };
        }
    }

    fn deadline(&self) -> Duration {
        if self.places.iter().any(|place| place.begun < MEASURED) {
            return FIRST_DEADLINE;
        }
        (self.longest * GENEROUS).max(SHORTEST_DEADLINE)
    }

    /// Fails where the silence has lasted too long. A first stage that waits for its input waits for the data, which
    /// may take the time it likes.
    pub(crate) fn check(&self, schedule: &Schedule, steps: &[usize]) -> Result<(), PipelineError> {
        let silence = self.heard.elapsed();
        if silence < self.deadline() {
            return Ok(());
        }
        let computing = self.places.iter().enumerate().filter(|(_, place)| !place.waiting && place.action.is_some());
        let hung = computing.min_by_key(|(_, place)| place.since);
        let for_data =
            |place: &Place| place.waiting && place.action.is_none_or(|action| action == Action::forward(action.index));
        let waits = || self.places.iter().enumerate().find(|_| !self.places.first().is_some_and(for_data));
        match hung.or_else(waits) {
            Some((stage, Place { action: Some(action), .. })) => {
                Err(PipelineError::Hang { stage, action: *action, waited: silence, grid: self.grid(schedule, steps) })
            }
            _ => Ok(()),
        }
    }

    /// A line for each stage: what it did last, where it is, in brackets, and what comes next.
    fn grid(&self, schedule: &Schedule, steps: &[usize]) -> String {
        let mut grid = String::new();
        for (stage, place) in self.places.iter().enumerate() {
            let row = schedule.row(stage, steps);
            let at = row.iter().position(|action| Some(*action) == place.action).unwrap_or(0);
            let _ = write!(grid, "\nstage {stage}:");
            for (index, action) in row.iter().enumerate().skip(at.saturating_sub(SHOWN)).take(2 * SHOWN + 1) {
                let _ = if index == at { write!(grid, " [{action}]") } else { write!(grid, " {action}") };
            }
            grid.push_str(if place.waiting { "  waits for a message" } else { "  computes" });
        }
        grid
    }
}
