//! What every stage does, and when: simulated or measured.

use super::{Action, Verb};

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

    /// The mean of each.
    pub fn mean(all: &[Self]) -> Self {
        let mean = |of: fn(&Self) -> f64| all.iter().map(of).sum::<f64>() / all.len().max(1) as f64;
        Self {
            forward: mean(|one| one.forward),
            backward: mean(|one| one.backward),
            input_gradient: mean(|one| one.input_gradient),
            weight_gradient: mean(|one| one.weight_gradient),
            update: mean(|one| one.update),
        }
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

/// How long one message occupies a link, in the unit of the durations.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Transfer {
    /// Activations, to the next stage.
    pub activation: f64,
    /// Gradients, to the previous one.
    pub gradient: f64,
}

impl Transfer {
    /// The same in both directions.
    pub const fn alike(time: f64) -> Self {
        Self { activation: time, gradient: time }
    }

    /// Of what an action sends on.
    pub(super) const fn of(&self, verb: Verb) -> f64 {
        match verb {
            Verb::Forward => self.activation,
            _ => self.gradient,
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

    /// Fraction of the devices' time in which they do nothing, 0 to 1. [`super::Schedule::bubble`] has the published
    /// formulas.
    pub fn bubble(&self) -> f64 {
        let busy: f64 = self.rows.iter().flatten().map(|span| span.end - span.start).sum();
        let all = self.devices as f64 * self.makespan();
        if all > 0.0 { 1.0 - busy / all } else { 0.0 }
    }

    /// For every stage the most activation sets that it holds at a time: microbatches whose forward has begun and whose
    /// backward, in all its parts, has not ended.
    pub fn activation_sets(&self) -> Vec<usize> {
        let most = |row: &Vec<Span>| {
            let held = row.iter().scan(0usize, |held, span| {
                let during = *held + usize::from(span.action.verb == Verb::Forward);
                let lets_go = matches!(span.action.verb, Verb::Backward | Verb::WeightGradient);
                *held = during.saturating_sub(usize::from(lets_go));
                Some(during)
            });
            held.max().unwrap_or(0)
        };
        self.rows.iter().map(most).collect()
    }

    /// For every stage the most updates that land between a microbatch's forward and its own update, where `steps[i]` is
    /// the number of microbatches of step i.
    pub fn staleness(&self, steps: &[usize]) -> Vec<usize> {
        let step_of: Vec<usize> = steps.iter().enumerate().flat_map(|(step, &count)| vec![step; count]).collect();
        let most = |row: &Vec<Span>| {
            let stale = row.iter().scan(0usize, |updates, Span { action, .. }| {
                *updates += usize::from(action.verb == Verb::Update);
                let own = (action.verb == Verb::Forward).then(|| step_of.get(action.index)).flatten();
                Some(own.map_or(0, |own| own.saturating_sub(*updates)))
            });
            stale.max().unwrap_or(0)
        };
        self.rows.iter().map(most).collect()
    }
}
