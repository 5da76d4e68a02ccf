//! What a stage counted while it worked.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use brigade_devices::{Completion, Counts, LapKernel, Purpose};

use crate::schedule::{Action, Durations, Transfer, Verb};

/// One action as it happened.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// What.
    pub action: Action,
    /// In which cycle: forward of microbatch b (from 1) at stage s (from 1) is in cycle b + s − 1 where nothing waits.
    pub cycle: u64,
    /// When the device started on it.
    pub start: Instant,
    /// When it was found finished.
    pub end: Instant,
}

/// Actions of one verb.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// How many.
    pub count: usize,
    /// Their time on the device, in all.
    pub time: Duration,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.time += other.time;
    }

    /// Seconds of one action on average; 0 where there was none.
    pub fn mean_seconds(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.time.as_secs_f64() / self.count as f64 }
    }
}

/// What a stage counted in one segment.
#[derive(Debug, Clone)]
pub struct StageReport {
    /// Which stage, from 0.
    pub stage: usize,
    /// Forwards.
    pub forward: Tally,
    /// Backwards, where they are whole.
    pub backward: Tally,
    /// Gradients of the input, where backwards are split.
    pub input_gradient: Tally,
    /// Gradients of the weights, where backwards are split.
    pub weight_gradient: Tally,
    /// Updates.
    pub update: Tally,
    /// Host copies of activations that came, from the sender's staging memory into the stage's own; on the first stage of
    /// inputs.
    pub activations_received: Tally,
    /// The same of gradients; on the last stage of labels.
    pub gradients_received: Tally,
    /// Time spent waiting for a neighbour's message with nothing in flight.
    pub waited: Duration,
    /// From the first action to the end of the stage's own last; other stages may go on for longer.
    pub elapsed: Duration,
    /// Bytes of activations sent to the next stage.
    pub activation_bytes: u64,
    /// Bytes of gradients sent to the previous stage.
    pub gradient_bytes: u64,
    /// Bytes of inputs that the first stage was fed.
    pub input_bytes: u64,
    /// Bytes of the model's output that the last stage computed. They stay on its device, where the loss is.
    pub output_bytes: u64,
    /// Messages that did not arrive as they were sent, and came again.
    pub sent_again: u64,
    /// Updates between a microbatch's forward and its own update.
    pub staleness: usize,
    /// Most bytes that the device had allocated.
    pub peak_bytes: u64,
    /// Bytes allocated, by purpose.
    pub bytes: Vec<(Purpose, u64)>,
    /// Every action, where they were asked for.
    pub records: Vec<Record>,
    /// Time by operation, pass and variant, where the device was opened to be profiled.
    pub laps: BTreeMap<LapKernel, Tally>,
    /// What all submissions consisted of.
    pub work: Counts,
}

impl StageReport {
    pub(crate) fn new(stage: usize) -> Self {
        Self {
            stage,
            forward: Tally::default(),
            backward: Tally::default(),
            input_gradient: Tally::default(),
            weight_gradient: Tally::default(),
            update: Tally::default(),
            activations_received: Tally::default(),
            gradients_received: Tally::default(),
            waited: Duration::ZERO,
            elapsed: Duration::ZERO,
            activation_bytes: 0,
            gradient_bytes: 0,
            input_bytes: 0,
            output_bytes: 0,
            sent_again: 0,
            staleness: 0,
            peak_bytes: 0,
            bytes: Vec::new(),
            records: Vec::new(),
            laps: BTreeMap::new(),
            work: Counts::default(),
        }
    }

    pub(crate) fn count(&mut self, verb: Verb, time: Duration) {
        self.tally_mut(verb).add(Tally { count: 1, time });
    }

    pub(crate) fn count_received(&mut self, verb: Verb, time: Duration) {
        let received =
            if verb == Verb::Forward { &mut self.activations_received } else { &mut self.gradients_received };
        received.add(Tally { count: 1, time });
    }

    /// The actions of one verb.
    pub const fn tally(&self, verb: Verb) -> Tally {
        match verb {
            Verb::Forward => self.forward,
            Verb::Backward => self.backward,
            Verb::InputGradient => self.input_gradient,
            Verb::WeightGradient => self.weight_gradient,
            Verb::Update => self.update,
        }
    }

    const fn tally_mut(&mut self, verb: Verb) -> &mut Tally {
        match verb {
            Verb::Forward => &mut self.forward,
            Verb::Backward => &mut self.backward,
            Verb::InputGradient => &mut self.input_gradient,
            Verb::WeightGradient => &mut self.weight_gradient,
            Verb::Update => &mut self.update,
        }
    }

    /// Mean seconds of each action on the device, as the simulator takes them.
    pub fn durations(&self) -> Durations {
        let mean = |verb| self.tally(verb).mean_seconds();
        Durations {
            forward: mean(Verb::Forward),
            backward: mean(Verb::Backward),
            input_gradient: mean(Verb::InputGradient),
            weight_gradient: mean(Verb::WeightGradient),
            update: mean(Verb::Update),
        }
    }

    /// Mean seconds that each action holds its stage: those on the device, and its share of the host's, which are what is
    /// left of the stage's time where it neither computes nor waits for a neighbour. Of these a run's wall time is made.
    pub fn held(&self) -> Durations {
        let actions: usize = Verb::ALL.into_iter().map(|verb| self.tally(verb).count).sum();
        let host = self.elapsed.saturating_sub(self.waited + self.busy()).as_secs_f64() / actions.max(1) as f64;
        let Durations { forward, backward, input_gradient, weight_gradient, update } = self.durations();
        let [forward, backward, input_gradient, weight_gradient, update] =
            [forward, backward, input_gradient, weight_gradient, update].map(|device| device + host);
        Durations { forward, backward, input_gradient, weight_gradient, update }
    }

    pub(crate) fn note(&mut self, completion: &Completion) {
        for lap in &completion.laps {
            self.laps.entry(lap.kernel).or_default().add(Tally { count: 1, time: lap.time });
        }
        self.work += completion.work;
    }

    /// Time in kernels, where the device was opened to be profiled.
    pub fn kernel(&self) -> Duration {
        self.laps.values().map(|tally| tally.time).sum()
    }

    /// Time on the device.
    pub fn busy(&self) -> Duration {
        Verb::ALL.into_iter().map(|verb| self.tally(verb).time).sum()
    }

    /// Adds the counts of a later segment of the same stage.
    pub fn absorb(&mut self, later: Self) {
        for verb in Verb::ALL {
            self.tally_mut(verb).add(later.tally(verb));
        }
        self.activations_received.add(later.activations_received);
        self.gradients_received.add(later.gradients_received);
        self.waited += later.waited;
        self.elapsed += later.elapsed;
        self.activation_bytes += later.activation_bytes;
        self.gradient_bytes += later.gradient_bytes;
        self.input_bytes += later.input_bytes;
        self.output_bytes += later.output_bytes;
        self.sent_again += later.sent_again;
        self.staleness = later.staleness;
        self.peak_bytes = later.peak_bytes;
        self.bytes = later.bytes;
        self.records.extend(later.records);
        for (kernel, tally) in later.laps {
            self.laps.entry(kernel).or_default().add(tally);
        }
        self.work += later.work;
    }
}

/// Mean seconds for which a message occupied each of the links between `stages`, as the simulator takes them: the host copy
/// between the staging memories of both ends. What a device copies itself is part of its actions.
pub fn transfers(stages: &[StageReport]) -> Vec<Transfer> {
    let link = |ends: &[StageReport]| Transfer {
        activation: ends[1].activations_received.mean_seconds(),
        gradient: ends[0].gradients_received.mean_seconds(),
    };
    stages.windows(2).map(link).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_neither_computes_nor_waits_falls_to_the_actions_alike() {
        let mut report = StageReport::new(0);
        for _ in 0..2 {
            report.count(Verb::Forward, Duration::from_secs(1));
            report.count(Verb::Backward, Duration::from_secs(2));
        }
        report.waited = Duration::from_secs(2);
        report.elapsed = Duration::from_secs(10);
        let (device, held) = (report.durations(), report.held());
        // Of 10 s, 6 on the device and 2 of waiting leave 2 for four actions. These numbers are exact in f64.
        assert_eq!((device.forward, device.backward), (1.0, 2.0));
        assert_eq!((held.forward, held.backward), (1.5, 2.5));
    }
}
