//! Finds a pipeline that does not go on: nothing happens at any stage for much longer than anything took before.

mod place;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub(crate) use brigade_devices::LOOK;
use brigade_devices::{DeviceInfo, Silence, longest_computing, longest_transfer};
use brigade_kernels::ShapeError;

use crate::PipelineError;
use crate::model::Sequential;
use crate::pipeline::Walked;
use crate::placement::layer_costs;
use crate::schedule::Action;
use crate::stage::worker::Event;
pub use place::Doing;
use place::{Place, grid};

/// Until as many actions have begun at every stage, the times of this run are not known: programs are being compiled,
/// and a whole backward of a large model can take tens of seconds on a software adapter.
const MEASURED: usize = 8;

/// A deadline is never shorter: the machine may be busy with other things.
const SHORTEST_DEADLINE: Duration = Duration::from_secs(10);

/// How many times the longest silence so far.
const GENEROUS: u32 = 20;

/// As many times are allowed in any case, where the run is slower than it was taken to be.
const SLOWER: u32 = 4;

/// How long stages may be silent before anything is known of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// While they compute.
    computing: Duration,
    /// While parameters are read or written, each stage's without a word in between.
    transfer: Duration,
}

impl Patience {
    /// From what all stages have to do: those on one machine share its cores and its bus. A stage tells of whole actions
    /// only, of `samples` samples each.
    pub(crate) fn of(
        model: &Sequential,
        stages: &[(std::ops::Range<usize>, DeviceInfo)],
        samples: usize,
    ) -> Result<Self, ShapeError> {
        let costs = layer_costs(model)?;
        let of_stage = |(range, device): &(std::ops::Range<usize>, DeviceInfo)| {
            let flops = costs[range.clone()].iter().sum::<u64>().saturating_mul(samples as u64);
            longest_computing(device.kind, flops) - longest_computing(device.kind, 0)
        };
        let computing = stages.iter().map(of_stage).sum::<Duration>();
        // Weights, momentum, and what corrections carry beside them.
        let bytes = 16 * model.parameter_elements() as u64;
        Ok(Self { computing: longest_transfer(0) + computing, transfer: longest_transfer(bytes) })
    }

    pub(crate) fn transfer(self) -> Duration {
        self.transfer
    }
}

/// What is known of all stages.
#[derive(Debug)]
pub(crate) struct Watchdog {
    places: Vec<Place>,
    patience: Patience,
    silence: Silence,
    /// The longest silence between two actions.
    longest: Duration,
    /// Whether the order at hand is one that copies parameters.
    copies: bool,
    /// The rows of the order at hand, where it has rows.
    walked: Option<Walked>,
}

impl Watchdog {
    pub(crate) fn new(stages: usize, patience: Patience, now: Instant) -> Self {
        let places = vec![Place::new(now); stages];
        Self { places, patience, silence: Silence::new(now), longest: Duration::ZERO, copies: false, walked: None }
    }

    /// Every stage is given an order, which begins with `doing`: the time before it says nothing.
    pub(crate) fn start(&mut self, doing: Doing, walked: Option<Walked>, now: Instant) {
        self.silence = Silence::new(now);
        self.walked = walked;
        self.copies = matches!(doing, Doing::Read | Doing::Write);
        self.places.iter_mut().for_each(|place| place.come_to(doing, false, now));
    }

    /// A worker has told something.
    pub(crate) fn listen(&mut self, event: &Event, now: Instant) {
        match event {
            Event::At { stage, action, waiting } => self.note(*stage, *action, *waiting, now),
            Event::Done(report) => self.rest(report.stage, now),
            Event::Parameters { stage, .. } => self.rest(*stage, now),
            Event::Metrics { .. } | Event::Failed { .. } => self.hear(now),
        }
    }

    /// Something has happened.
    fn hear(&mut self, now: Instant) {
        let silent = self.silence.end(now);
        if !self.copies {
            self.longest = self.longest.max(silent);
        }
    }

    /// A stage has come to an action.
    fn note(&mut self, stage: usize, action: Action, waiting: bool, now: Instant) {
        self.hear(now);
        if let Some(place) = self.places.get_mut(stage) {
            place.come_to(Doing::Action(action), waiting, now);
            place.begun += 1;
        }
    }

    /// A stage has carried out its order.
    fn rest(&mut self, stage: usize, now: Instant) {
        self.hear(now);
        if let Some(place) = self.places.get_mut(stage) {
            place.rest();
        }
    }

    fn deadline(&self) -> Duration {
        let Patience { computing, transfer } = self.patience;
        if self.copies {
            return transfer;
        }
        if self.places.iter().any(|place| place.begun < MEASURED) {
            return computing;
        }
        // The first silences are of compiling as well: many times as long is longer than anything should take.
        let most = computing.max(self.longest * SLOWER);
        (self.longest * GENEROUS).min(most).max(SHORTEST_DEADLINE)
    }

    /// Fails where the silence has lasted too long. A first stage that waits for its input waits for the data, which
    /// may take the time it likes.
    pub(crate) fn check(&mut self, now: Instant) -> Result<(), PipelineError> {
        let silence = self.silence.look(now);
        if silence < self.deadline() {
            return Ok(());
        }
        let waits = || self.at_work().next().filter(|_| !self.places.first().is_some_and(Place::waits_for_data));
        self.computing_longest().or_else(waits).map_or(Ok(()), |(stage, doing)| Err(self.hang(stage, doing, silence)))
    }

    /// No more orders come, and every stage lets go of its device: the time before it says nothing.
    pub(crate) fn start_end(&mut self, now: Instant) {
        self.silence = Silence::new(now);
    }

    /// Fails where stages that have not `ended` have been silent for too long.
    pub(crate) fn check_end(&mut self, ended: impl Fn(usize) -> bool, now: Instant) -> Result<(), PipelineError> {
        let silence = self.silence.look(now);
        if silence < self.deadline().max(longest_transfer(0)) {
            return Ok(());
        }
        for (stage, place) in self.places.iter_mut().enumerate() {
            match place.doing() {
                _ if ended(stage) => place.rest(),
                Some(_) => {}
                None => place.come_to(Doing::End, false, now),
            }
        }
        let hanging = self.computing_longest().or_else(|| self.at_work().next());
        hanging.map_or(Ok(()), |(stage, doing)| Err(self.hang(stage, doing, silence)))
    }

    fn at_work(&self) -> impl Iterator<Item = (usize, Doing)> {
        self.places.iter().enumerate().filter_map(|(stage, place)| Some((stage, place.doing()?)))
    }

    fn computing_longest(&self) -> Option<(usize, Doing)> {
        let computing = self.at_work().filter(|&(stage, _)| !self.places[stage].waits());
        computing.min_by_key(|&(stage, _)| self.places[stage].since())
    }

    fn hang(&self, stage: usize, doing: Doing, waited: Duration) -> PipelineError {
        PipelineError::Hang { stage, doing, waited, grid: grid(&self.places, self.walked.as_ref()) }
    }
}
