//! What a schedule does in time, with given durations of actions: the timeline, or the deadlock.

use std::collections::BTreeMap;

use super::{Action, Schedule, Verb};

/// Durations of one stage's actions, in any unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Durations {
    /// One forward.
    pub forward: f64,
    /// One backward, where it is not split.
    pub backward: f64,
    /// One gradient of the input, where it is.
    pub input_gradient: f64,
    /// One gradient of the weights, where it is.
    pub weight_gradient: f64,
    /// One update.
    pub update: f64,
}

impl Durations {
    /// Of a backward that, where a schedule splits it, splits into halves.
    pub const fn whole(forward: f64, backward: f64, update: f64) -> Self {
        let half = backward / 2.0;
        Self { forward, backward, input_gradient: half, weight_gradient: half, update }
    }

    /// Of one action.
    pub const fn of(&self, verb: Verb) -> f64 {
        match verb {
            Verb::Forward => self.forward,
            Verb::Backward => self.backward,
            Verb::InputGradient => self.input_gradient,
            Verb::WeightGradient => self.weight_gradient,
            Verb::Update => self.update,
        }
    }
}

/// One action on the timeline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// What.
    pub action: Action,
    /// When it starts.
    pub start: f64,
    /// When it ends.
    pub end: f64,
}

/// What every stage does, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Timeline {
    /// For every stage its actions in order.
    pub rows: Vec<Vec<Span>>,
    /// Devices that the stages are on.
    pub devices: usize,
}

impl Timeline {
    /// End of the last action.
    pub fn makespan(&self) -> f64 {
        self.rows.iter().flatten().map(|span| span.end).fold(0.0, f64::max)
    }

    /// Fraction of the devices' time in which they do nothing, 0 to 1. With M microbatches a step over P equal stages
    /// it is (P − 1) / (M + P − 1) for `gpipe` and `1f1b` (Narayanan et al. 2021).
    pub fn bubble(&self) -> f64 {
        let busy: f64 = self.rows.iter().flatten().map(|span| span.end - span.start).sum();
        let all = self.devices as f64 * self.makespan();
        if all > 0.0 { 1.0 - busy / all } else { 0.0 }
    }
}

/// A schedule that cannot go on: for every stage the action it waits at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadlock {
    /// The action each stage waits at; `None` where the stage has finished.
    pub waiting: Vec<Option<Action>>,
}

/// Runs the rows of `schedule` as soon as their inputs are there. Links hold `capacity(link)` messages in each
/// direction; a sender whose link is full waits until the receiver has taken one. `transfer` is the time a message
/// is under way.
///
/// # Errors
/// Where no stage can go on before all rows are done.
pub fn simulate(
    schedule: &Schedule,
    steps: &[usize],
    durations: &[Durations],
    transfer: f64,
    capacity: impl Fn(usize) -> usize,
) -> Result<Timeline, Deadlock> {
    let plans: Vec<Vec<Action>> = (0..schedule.stages).map(|stage| schedule.row(stage, steps)).collect();
    let turns: Vec<_> = (0..schedule.stages).map(|stage| schedule.turns(stage, steps)).collect();
    let devices = schedule.devices();
    let mut state = State {
        rows: vec![Vec::new(); schedule.stages],
        free_at: vec![0.0; devices],
        turn: vec![0; devices],
        sent: BTreeMap::new(),
        taken: BTreeMap::new(),
    };
    loop {
        let mut progressed = false;
        for stage in 0..schedule.stages {
            while let Some(&action) = plans[stage].get(state.rows[stage].len()) {
                let turn = turns[stage][state.rows[stage].len()];
                if turn.is_some_and(|turn| turn != state.turn[schedule.device(stage)])
                    || !state.step(stage, schedule, action, &durations[stage], transfer, &capacity)
                {
                    break;
                }
                state.turn[schedule.device(stage)] += usize::from(turn.is_some());
                progressed = true;
            }
        }
        let waiting: Vec<_> = plans.iter().zip(&state.rows).map(|(plan, done)| plan.get(done.len()).copied()).collect();
        if waiting.iter().all(Option::is_none) {
            return Ok(Timeline { rows: state.rows, devices });
        }
        if !progressed {
            return Err(Deadlock { waiting });
        }
    }
}

/// A channel: the stage that sends, and in which direction.
type Channel = (usize, Verb);

struct State {
    rows: Vec<Vec<Span>>,
    /// For every device.
    free_at: Vec<f64>,
    /// For every device, whose turn it is.
    turn: Vec<usize>,
    /// When each message of a channel arrived, in order.
    sent: BTreeMap<Channel, Vec<f64>>,
    /// When each message of a channel was taken, in order.
    taken: BTreeMap<Channel, Vec<f64>>,
}

impl State {
    /// Runs `action` on `stage` where its input has come and its output has room; says whether it could.
    fn step(
        &mut self,
        stage: usize,
        schedule: &Schedule,
        action: Action,
        durations: &Durations,
        transfer: f64,
        capacity: &impl Fn(usize) -> usize,
    ) -> bool {
        let (verb, last_stage, device) = (action.verb, schedule.stages - 1, schedule.device(stage));
        let (input, output) = match verb {
            Verb::Forward => {
                let input = (stage > 0).then(|| (stage - 1, verb));
                (input, (stage < last_stage).then_some((stage, stage)))
            }
            Verb::Backward | Verb::InputGradient => {
                let input = (stage < last_stage).then(|| (stage + 1, verb));
                (input, (stage > 0).then(|| (stage, stage - 1)))
            }
            Verb::WeightGradient | Verb::Update => (None, None),
        };
        let duration = durations.of(verb);
        let mut start = self.free_at[device];
        if let Some(channel) = input {
            let position = self.taken.get(&channel).map_or(0, Vec::len);
            let Some(&arrived) = self.sent.get(&channel).and_then(|sent| sent.get(position)) else { return false };
            start = start.max(arrived);
        }
        let mut end = start + duration;
        if let Some((sender, link)) = output {
            // The message enters the channel once the one `capacity` places before it has been taken.
            let channel = (sender, action.verb);
            let position = self.sent.get(&channel).map_or(0, Vec::len);
            if let Some(earlier) = position.checked_sub(capacity(link)) {
                let Some(&room) = self.taken.get(&channel).and_then(|taken| taken.get(earlier)) else { return false };
                end = end.max(room);
            }
            self.sent.entry(channel).or_default().push(end + transfer);
        }
        if let Some(channel) = input {
            self.taken.entry(channel).or_default().push(start);
        }
        self.rows[stage].push(Span { action, start, end });
        self.free_at[device] = end;
        true
    }
}
