//! What a schedule does in time, with given durations of actions and transfers: the timeline and what follows from it,
//! or the deadlock.

use std::collections::BTreeMap;

use super::{Action, Durations, Schedule, Span, Timeline, Transfer, Verb};

/// What a schedule does in time.
#[derive(Debug, Clone, PartialEq)]
pub struct Simulation {
    /// Every action with its times.
    pub timeline: Timeline,
    /// Fraction of the devices' time in which they do nothing, waiting for room in a link included: 0 to 1.
    pub bubble: f64,
    /// For every stage the most activation sets that it holds at a time.
    pub activation_sets: Vec<usize>,
    /// For every stage the most updates between a microbatch's forward and its own update.
    pub staleness: Vec<usize>,
}

impl Simulation {
    /// End of the last action.
    pub fn makespan(&self) -> f64 {
        self.timeline.makespan()
    }
}

/// A schedule that cannot go on: for every stage the action it waits at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    /// The action each stage waits at; `None` where the stage has finished.
    pub waiting: Vec<Option<Action>>,
}

/// Runs the rows of `schedule` as soon as their inputs are there. `steps[i]` is the number of microbatches of step i,
/// `durations` are those of each stage, and `transfers` those of each link; links that it does not name take no time.
///
/// A message occupies its link, in its direction, while it crosses, and the next one waits for that. A link holds
/// `capacity(link)` messages in each direction, those that cross included; a sender whose link is full waits, idle, until
/// the receiver has taken one.
///
/// # Errors
/// Where no stage can go on before all rows are done.
pub fn simulate(
    schedule: &Schedule,
    steps: &[usize],
    durations: &[Durations],
    transfers: &[Transfer],
    capacity: impl Fn(usize) -> usize,
) -> Result<Simulation, Deadlock> {
    let times = Times { durations, transfers, capacity };
    let timeline = run(schedule, steps, &times)?;
    Ok(Simulation {
        bubble: timeline.bubble(),
        activation_sets: timeline.activation_sets(),
        staleness: timeline.staleness(steps),
        timeline,
    })
}

/// What is given.
struct Times<'a, C> {
    durations: &'a [Durations],
    transfers: &'a [Transfer],
    capacity: C,
}

fn run<C: Fn(usize) -> usize>(
    schedule: &Schedule,
    steps: &[usize],
    times: &Times<'_, C>,
) -> Result<Timeline, Deadlock> {
    let plans: Vec<Vec<Action>> = (0..schedule.stages).map(|stage| schedule.row(stage, steps)).collect();
    let turns: Vec<_> = (0..schedule.stages).map(|stage| schedule.turns(stage, steps)).collect();
    let mut state = State::new(schedule);
    loop {
        let mut progressed = false;
        for stage in 0..schedule.stages {
            while let Some(&action) = plans[stage].get(state.rows[stage].len()) {
                let turn = turns[stage][state.rows[stage].len()];
                if turn.is_some_and(|turn| turn != state.turn[schedule.device(stage)])
                    || !state.step(stage, action, times)
                {
                    break;
                }
                state.turn[schedule.device(stage)] += usize::from(turn.is_some());
                progressed = true;
            }
        }
        let waiting: Vec<_> = plans.iter().zip(&state.rows).map(|(plan, done)| plan.get(done.len()).copied()).collect();
        if waiting.iter().all(Option::is_none) {
            return Ok(Timeline { rows: state.rows, devices: schedule.devices() });
        }
        if !progressed {
            return Err(Deadlock { waiting });
        }
    }
}

/// One direction of a link: the stage that sends, and what.
type Direction = (usize, Verb);

/// The messages of a direction, in order.
#[derive(Default)]
struct Messages {
    /// When each has crossed.
    arrived: Vec<f64>,
    /// When the receiver took each.
    taken: Vec<f64>,
}

struct State<'a> {
    schedule: &'a Schedule,
    rows: Vec<Vec<Span>>,
    /// For every device, when its last action ends.
    free_at: Vec<f64>,
    /// For every stage, when its last message has found room.
    delivered_at: Vec<f64>,
    /// For every device, whose turn it is.
    turn: Vec<usize>,
    links: BTreeMap<Direction, Messages>,
}

impl<'a> State<'a> {
    fn new(schedule: &'a Schedule) -> Self {
        Self {
            schedule,
            rows: vec![Vec::new(); schedule.stages],
            free_at: vec![0.0; schedule.devices()],
            delivered_at: vec![0.0; schedule.stages],
            turn: vec![0; schedule.devices()],
            links: BTreeMap::new(),
        }
    }

    /// Runs `action` on `stage` where its input has come and its output has room; says whether it could.
    fn step<C: Fn(usize) -> usize>(&mut self, stage: usize, action: Action, times: &Times<'_, C>) -> bool {
        let device = self.schedule.device(stage);
        let input = self.input(stage, action.verb);
        let Some(arrived) = input.map_or(Some(0.0), |input| self.next_arrival(input)) else { return false };
        let output = self.output(stage, action.verb);
        let Some(room) = output.map_or(Some(0.0), |(output, link)| self.room(output, (times.capacity)(link))) else {
            return false;
        };
        let start = self.free_at[device].max(self.delivered_at[stage]).max(arrived);
        let end = start + times.durations[stage].of(action.verb);
        if let Some(input) = input {
            self.links.entry(input).or_default().taken.push(start);
        }
        if let Some((output, link)) = output {
            self.delivered_at[stage] = end.max(room);
            let transfer = times.transfers.get(link).map_or(0.0, |transfer| transfer.of(action.verb));
            self.cross(output, self.delivered_at[stage], transfer);
        }
        self.rows[stage].push(Span { action, start, end });
        self.free_at[device] = end;
        true
    }

    /// Where what the action starts with comes from.
    fn input(&self, stage: usize, verb: Verb) -> Option<Direction> {
        match verb {
            Verb::Forward => (stage > 0).then(|| (stage - 1, verb)),
            Verb::Backward | Verb::InputGradient => (stage + 1 < self.schedule.stages).then_some((stage + 1, verb)),
            Verb::WeightGradient | Verb::Update => None,
        }
    }

    /// Where what the action ends with goes, and over which link.
    fn output(&self, stage: usize, verb: Verb) -> Option<(Direction, usize)> {
        match verb {
            Verb::Forward => (stage + 1 < self.schedule.stages).then_some(((stage, verb), stage)),
            Verb::Backward | Verb::InputGradient => (stage > 0).then(|| ((stage, verb), stage - 1)),
            Verb::WeightGradient | Verb::Update => None,
        }
    }

    /// When the message has come that the receiver takes next, where it has been sent.
    fn next_arrival(&self, direction: Direction) -> Option<f64> {
        let messages = self.links.get(&direction)?;
        messages.arrived.get(messages.taken.len()).copied()
    }

    /// From when on the link has room for another message, where that is known: once the one `capacity` places before it
    /// has been taken.
    fn room(&self, direction: Direction, capacity: usize) -> Option<f64> {
        let Some(messages) = self.links.get(&direction) else { return Some(0.0) };
        match messages.arrived.len().checked_sub(capacity) {
            Some(earlier) => messages.taken.get(earlier).copied(),
            None => Some(0.0),
        }
    }

    /// A message crosses as soon as the one before it has.
    fn cross(&mut self, direction: Direction, from: f64, transfer: f64) {
        let messages = self.links.entry(direction).or_default();
        let free = messages.arrived.last().copied().unwrap_or(0.0);
        messages.arrived.push(from.max(free) + transfer);
    }
}
