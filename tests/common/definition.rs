//! The definition of weight policies and corrections, sequential: microbatch after microbatch runs through the whole
//! network, and reads its weights from the history of all versions. It knows nothing of rows, links, threads or slots.
//!
//! With d = (1 + slack)·(P − s) microbatches between a forward at stage s and the backward that follows it, and an update
//! every m microbatches, the forward of microbatch b reads version ⌊(b − d)/m⌋, from 0 on. In a synchronous finish it reads
//! the weights of its moment, which are those after the step before, and so does its backward.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use brigade::{LearningRate, Schedule};
use brigade_devices::BufferId;
use brigade_kernels::{Operation, Tensor};
use brigade_pipeline::staleness::{Corrections, Prediction, StalenessOptions, WeightPolicy};
use brigade_pipeline::{NamedTensor, Samples};
use serde_json::json;

use super::network::{Network, operation};
use super::{OPTIMISER, assert_same_bits, corrected_pipeline, samples, small_model, trained_with_finish};

pub(crate) const BATCH: usize = 4;
pub(crate) const STEPS: usize = 14;

/// What is trained.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// First layer of each stage.
    pub(crate) starts: &'a [usize],
    pub(crate) schedule: Schedule,
    pub(crate) microbatches: usize,
    pub(crate) weights: &'a str,
    pub(crate) corrections: &'a str,
}

impl Run<'_> {
    pub(crate) fn options(&self) -> StalenessOptions {
        let corrections = Corrections::parse(self.corrections.split(',')).unwrap();
        StalenessOptions { weights: self.weights.parse().unwrap(), corrections }
    }

    /// The pipeline on executors of this name has the bits of the definition.
    pub(crate) fn holds_on(&self, name: &str) {
        self.holds_with_finish(name, 0);
    }

    /// The same where the last `finish` steps are synchronous.
    pub(crate) fn holds_with_finish(&self, name: &str, finish: usize) {
        let samples = samples(&small_model(), BATCH, STEPS);
        let sizes = [BATCH, self.microbatches];
        let mut pipeline = corrected_pipeline(&[name], self.starts, self.schedule, sizes, self.options());
        let weights = trained_with_finish(&mut pipeline, &samples, finish);
        assert_same_bits(&weights, &Definition::new(name, self).trained(&samples, finish));
    }
}

type Place = (usize, Tensor);

/// The sequential definition.
struct Definition {
    network: Network,
    stages: Vec<Stage>,
    options: StalenessOptions,
    microbatches: usize,
    /// Of each parameter every version that forwards read, by the updates before it.
    history: BTreeMap<Place, Vec<BufferId>>,
    /// Of each parameter the moving average of its changes, and the weights set back by it.
    set_back: BTreeMap<Place, [BufferId; 2]>,
}

struct Stage {
    layers: Range<usize>,
    /// d.
    ahead: usize,
    /// s: updates between forward and update, on average over the microbatches of an update.
    staleness: f64,
    sgd: Arc<dyn Operation>,
    predict: Option<Arc<dyn Operation>>,
    set_back: Option<[Arc<dyn Operation>; 2]>,
}

impl Definition {
    fn new(name: &str, run: &Run<'_>) -> Self {
        let options = run.options();
        let network = Network::new(name, [BATCH / run.microbatches, run.microbatches]);
        let p = run.starts.len();
        let slack = |link| match run.schedule {
            Schedule::LayerBlockWise => 1,
            Schedule::Mixed(slack) => slack.of(link),
            _ => 0,
        };
        let ends = run.starts[1..].iter().copied().chain([network.model.layers.len()]);
        let ranges = run.starts.iter().zip(ends);
        let m = run.microbatches * options.corrections.accumulation.unwrap_or(1);
        let stage = |(s, (&start, end)): (usize, (&usize, usize))| {
            let ahead = (s..p - 1).map(|link| 1 + slack(link)).sum();
            Stage::new(
                start..end,
                ahead,
                if run.weights == "double-buffered" { 1.0 } else { ahead as f64 / m as f64 },
                &options,
            )
        };
        let stages = ranges.enumerate().map(stage).collect();
        let mut this = Self {
            network,
            stages,
            options,
            microbatches: run.microbatches,
            history: BTreeMap::new(),
            set_back: BTreeMap::new(),
        };
        this.begin();
        this
    }

    /// Version 0 is the first weights, predicted with a velocity of zero.
    fn begin(&mut self) {
        for at in self.network.parameters.keys().copied().collect::<Vec<_>>() {
            let set_back = [self.network.like(at), self.network.like(at)];
            let [w, ..] = self.network.parameters[&at];
            self.network.copy(at, w, set_back[1]);
            self.set_back.insert(at, set_back);
            let first = self.network.like(at);
            self.network.copy(at, w, first);
            self.history.insert(at, vec![first]);
        }
    }

    fn accumulation(&self) -> usize {
        self.options.corrections.accumulation.unwrap_or(1)
    }

    fn trained(mut self, samples: &[Samples], finish: usize) -> Vec<NamedTensor> {
        let rate = LearningRate { initial: 0.05, milestones: vec![12], factor: 0.5 };
        let stale = samples.len() - finish;
        for b in 0..stale * self.microbatches {
            for s in 0..self.stages.len() {
                self.forward(s, b, samples);
            }
            for s in (0..self.stages.len()).rev() {
                self.backward(s, b, samples);
            }
            let step = b / self.microbatches;
            if (b + 1).is_multiple_of(self.microbatches) && (step + 1).is_multiple_of(self.accumulation()) {
                (0..self.stages.len()).for_each(|s| self.update(s, step, rate.at(step)));
            }
        }
        self.network.read.clear();
        if finish > 0 {
            self.network.clear_gradients();
        }
        (stale..samples.len()).for_each(|step| self.synchronous_step(step, samples, rate.at(step)));
        self.network.tensors()
    }

    /// Every pass reads the weights of its moment, and of the corrections only the discount of `look-ahead` stays.
    fn synchronous_step(&mut self, step: usize, samples: &[Samples], rate: f32) {
        let layers = 0..self.network.model.layers.len();
        for b in step * self.microbatches..(step + 1) * self.microbatches {
            self.network.forward(layers.clone(), b, samples);
            self.network.backward(layers.clone(), b, samples);
        }
        let sgd = sgd(self.options.corrections, 0.0);
        self.network.update_with(&sgd, layers, rate, 1.0);
    }

    /// The update that microbatch `b` belongs to.
    fn own(&self, b: usize) -> usize {
        b / (self.microbatches * self.accumulation())
    }

    fn version_at_forward(&self, s: usize, b: usize) -> usize {
        match self.options.weights {
            WeightPolicy::DoubleBuffered => self.own(b).saturating_sub(1),
            _ => b.saturating_sub(self.stages[s].ahead) / (self.microbatches * self.accumulation()),
        }
    }

    fn forward(&mut self, s: usize, b: usize, samples: &[Samples]) {
        let version = self.version_at_forward(s, b);
        self.network.read = self.history.iter().map(|(&at, versions)| (at, versions[version])).collect();
        self.network.forward(self.stages[s].layers.clone(), b, samples);
    }

    fn backward(&mut self, s: usize, b: usize, samples: &[Samples]) {
        let looks_ahead = self.options.corrections.prediction == Some(Prediction::LookAhead);
        let own = self.own(b);
        let version = match self.options.weights {
            WeightPolicy::Single if looks_ahead => Some(own),
            WeightPolicy::Single => None,
            _ => Some(self.version_at_forward(s, b)),
        };
        let set_back = self.stages[s].set_back.is_some();
        self.network.read = match version {
            Some(version) => self.history.iter().map(|(&at, versions)| (at, versions[version])).collect(),
            None if set_back => self.set_back.iter().map(|(&at, &[_, weights])| (at, weights)).collect(),
            None => BTreeMap::new(),
        };
        self.network.backward(self.stages[s].layers.clone(), b, samples);
    }

    fn update(&mut self, s: usize, step: usize, rate: f32) {
        let stage = &self.stages[s];
        let (layers, sgd) = (stage.layers.clone(), Arc::clone(&stage.sgd));
        let (predict, set_back) = (stage.predict.clone(), stage.set_back.clone());
        let rate = rate * stage.rate_factor(step, self.options.corrections.rate_per_stage);
        let places: Vec<Place> = self.history.keys().copied().filter(|(l, _)| layers.contains(l)).collect();
        let before: Vec<BufferId> = places.iter().map(|&at| self.copied(at)).collect();
        self.network.update_with(&sgd, layers, rate, 1.0 / self.accumulation() as f32);
        for (at, before) in places.into_iter().zip(before) {
            let [w, _, v] = self.network.parameters[&at];
            let version = self.copied(at);
            if let Some(predict) = &predict {
                self.network.derive(predict, at, rate, &[(Tensor::W, w), (Tensor::V, v), (Tensor::Y, version)]);
            }
            self.history.get_mut(&at).unwrap().push(version);
            if let Some([drift, back]) = &set_back {
                let [average, weights] = self.set_back[&at];
                self.network.derive(drift, at, 0.0, &[(Tensor::W, w), (Tensor::Y, before), (Tensor::V, average)]);
                self.network.derive(back, at, 0.0, &[(Tensor::W, w), (Tensor::V, average), (Tensor::Y, weights)]);
            }
        }
    }

    /// A copy of a parameter's weights of this moment.
    fn copied(&mut self, at: Place) -> BufferId {
        let copy = self.network.like(at);
        self.network.copy(at, self.network.parameters[&at][0], copy);
        copy
    }
}

impl Stage {
    fn new(layers: Range<usize>, ahead: usize, s: f64, options: &StalenessOptions) -> Self {
        let corrections = options.corrections;
        let gamma = f64::from(OPTIMISER.momentum);
        let delay = if corrections.spike_compensation { s } else { 0.0 };
        let steps = corrections.prediction.map(|prediction| match prediction {
            Prediction::Linear => s,
            Prediction::Momentum => gamma * (1.0 - gamma.powf(s)) / (1.0 - gamma),
            Prediction::LookAhead => gamma,
        });
        let decay = (-2.0 / s).exp();
        Self {
            layers,
            ahead,
            staleness: s,
            sgd: sgd(corrections, delay),
            predict: steps.map(|steps| operation("extrapolate", &json!({"steps": steps, "rated": true}))),
            set_back: (corrections.discrepancy && s > 0.0).then(|| {
                let back = json!({"steps": s, "rated": false});
                [operation("drift", &json!({"decay": decay})), operation("extrapolate", &back)]
            }),
        }
    }

    /// (s + 1)^−p with p = 1 − min(step/K, 1).
    fn rate_factor(&self, step: usize, annealing: Option<usize>) -> f32 {
        annealing.map_or(1.0, |steps| {
            let p = 1.0 - (step as f64 / steps as f64).min(1.0);
            (self.staleness + 1.0).powf(-p) as f32
        })
    }
}

/// The optimiser, spike compensation for `delay` updates included.
fn sgd(corrections: Corrections, delay: f64) -> Arc<dyn Operation> {
    let looks_ahead = corrections.prediction == Some(Prediction::LookAhead);
    let attributes = json!({
        "learning_rate": 0.0, "momentum": OPTIMISER.momentum, "weight_decay": OPTIMISER.weight_decay,
        "spike_compensation": delay, "dampening": if looks_ahead { OPTIMISER.momentum.into() } else { 0.0 },
    });
    operation("sgd", &attributes)
}
