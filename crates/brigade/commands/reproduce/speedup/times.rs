//! Times of stages in units of what one stage takes for a step at that moment: of these, and not of seconds, medians are
//! taken, since the machine may have become faster or slower from one turn to the next.

use brigade_pipeline::schedule::{Durations, Schedule as Rows, Transfer, simulate};
use brigade_pipeline::{StageReport, transfers};

use super::super::SCHEDULES;
use super::run::Turn;
use crate::commands::bench::median;

/// A turn of several stages, beside the one that one stage had just before it.
pub(super) struct Beside {
    pub(super) turn: Turn,
    pub(super) one: Turn,
}

/// What a run under layer-block-wise is made of, in steps of one stage.
#[derive(Debug)]
pub(super) struct Times {
    stages: Vec<Durations>,
    links: Vec<Transfer>,
}

impl Beside {
    /// Wall time of the turn.
    pub(super) fn took(&self) -> f64 {
        self.turn.seconds / self.one.step()
    }

    /// How often as fast as one stage.
    pub(super) fn speedup(&self) -> f64 {
        self.turn.steps as f64 / self.took()
    }

    /// How often as fast it would be if the slowest stage were busy on its device all the time.
    pub(super) fn bound(&self) -> f64 {
        let slowest = self.turn.stages.iter().map(|stage| busy(&stage.durations())).fold(0.0, f64::max);
        self.one.step() / slowest
    }
}

impl Times {
    /// Medians of the devices' times, and one stage's device as the unit.
    pub(super) fn of_devices<'a>(turns: impl IntoIterator<Item = &'a Beside>) -> Self {
        let device = |turn: &Turn| turn.stages.iter().map(|stage| busy(&stage.durations())).sum();
        Self::medians(turns.into_iter().map(|of| Self::of(&of.turn, StageReport::durations, device(&of.one))))
    }

    /// Medians of the devices' times with the host's share of each action, and one stage's wall time as the unit.
    pub(super) fn of_wall<'a>(turns: impl IntoIterator<Item = &'a Beside>) -> Self {
        Self::medians(turns.into_iter().map(|of| Self::of(&of.turn, StageReport::held, of.one.step())))
    }

    fn of(turn: &Turn, durations: impl Fn(&StageReport) -> Durations, unit: f64) -> Self {
        let stage = |of: &StageReport| {
            let of = durations(of);
            Durations::whole(of.forward / unit, of.backward / unit, of.update / unit)
        };
        let link = |of: Transfer| Transfer { activation: of.activation / unit, gradient: of.gradient / unit };
        Self {
            stages: turn.stages.iter().map(stage).collect(),
            links: transfers(&turn.stages).into_iter().map(link).collect(),
        }
    }

    /// Of at least one the median of each action and each transfer.
    fn medians(all: impl Iterator<Item = Self>) -> Self {
        let all: Vec<Self> = all.collect();
        let over = |time: &dyn Fn(&Self) -> f64| median(all.iter().map(time).collect());
        let stage = |stage: usize| {
            let over = |time: fn(&Durations) -> f64| over(&|of| time(&of.stages[stage]));
            Durations::whole(over(|of| of.forward), over(|of| of.backward), over(|of| of.update))
        };
        let link = |link: usize| {
            let over = |time: fn(&Transfer) -> f64| over(&|of| time(&of.links[link]));
            Transfer { activation: over(|of| of.activation), gradient: over(|of| of.gradient) }
        };
        let (stages, links) = all.first().map_or((0, 0), |of| (of.stages.len(), of.links.len()));
        Self { stages: (0..stages).map(stage).collect(), links: (0..links).map(link).collect() }
    }

    /// How long `steps` steps take, by the simulator.
    pub(super) fn run(&self, steps: usize) -> f64 {
        let rows = Rows::new(SCHEDULES[0], self.stages.len());
        let capacity = |link| rows.capacity(link, 1);
        let simulation = simulate(&rows, &vec![1; steps], &self.stages, &self.links, capacity);
        simulation.map_or(f64::NAN, |simulation| simulation.makespan())
    }

    /// How long each stage is busy with a step.
    pub(super) fn busy(&self) -> impl Iterator<Item = f64> {
        self.stages.iter().map(busy)
    }

    /// How long the slowest stage is busy with one.
    pub(super) fn slowest(&self) -> f64 {
        self.busy().fold(0.0, f64::max)
    }
}

/// What layer-block-wise has a stage do for a step, whose backwards are whole.
fn busy(times: &Durations) -> f64 {
    times.forward + times.backward + times.update
}

#[cfg(test)]
mod tests;
