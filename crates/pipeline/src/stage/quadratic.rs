//! Weight policies and corrections on a quadratic, against a scalar simulation that shares nothing with them: plain f64,
//! a history of all weights, and the formulas of `docs/staleness.md` written out.
//!
//! The gradient is PipeMare's model of one that a forward and a backward read different weights for (Yang et al. 2021):
//! λ·u + Δ·(u − v) with u what the forward read and v what the backward read.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use brigade_devices::{Executor, Program, ReferenceExecutor, Slice};
use brigade_kernels::Scalars;
use serde_json::json;

use super::buffers::Buffers;
use super::layout::{CopyNeeds, Extent, Layout};
use super::update::Updates;
use crate::model::Sequential;
use crate::pipeline::Optimiser;
use crate::schedule::{Kind, Schedule, Verb};
use crate::staleness::{
    Corrections, StagePlan, StalenessOptions, Versions, WeightCopy, WeightPolicy, run_ahead, stable_rate,
};

const STEPS: usize = 60;

/// One weight on one stage of a pipeline.
#[derive(Clone, Copy)]
struct Quadratic<'a> {
    schedule: Schedule,
    stage: usize,
    microbatches: usize,
    weights: WeightPolicy,
    corrections: &'a str,
    momentum: f64,
    weight_decay: f64,
    rate: f64,
    /// λ.
    curvature: f64,
    /// Δ.
    discrepancy: f64,
}

impl Default for Quadratic<'_> {
    fn default() -> Self {
        Self {
            schedule: Schedule::new(Kind::LayerBlockWise, 3),
            stage: 0,
            microbatches: 1,
            weights: WeightPolicy::Single,
            corrections: "none",
            momentum: 0.9,
            weight_decay: 0.01,
            rate: 0.02,
            curvature: 1.0,
            discrepancy: 0.3,
        }
    }
}

impl Quadratic<'_> {
    fn corrections(&self) -> Corrections {
        Corrections::parse(self.corrections.split(',')).unwrap()
    }

    fn plan(&self) -> StagePlan {
        let options = StalenessOptions { weights: self.weights, corrections: self.corrections() };
        StagePlan::new(&options, &self.schedule, self.stage, self.microbatches).unwrap()
    }

    /// λ·u + Δ·(u − v).
    fn gradient(&self, forward: f64, backward: f64) -> f64 {
        self.curvature * forward + self.discrepancy * (forward - backward)
    }

    /// The rate before the stage's own factor falls once, so that a prediction with the wrong step's rate is seen.
    fn rate_at(&self, step: usize) -> f64 {
        if step < STEPS / 2 { self.rate } else { self.rate / 2.0 }
    }
}

/// The weight after each step of the stage's own row, updated by the programs that a pipeline runs.
fn run(case: &Quadratic<'_>) -> Vec<f64> {
    let steps = vec![case.microbatches; STEPS];
    let row = case.schedule.row(case.stage, &steps);
    let versions = Versions::new(case.plan(), &row, &steps, 0);
    let mut stage = Device::new(case);
    let mut read = vec![0.0; STEPS * case.microbatches];
    let mut weights = Vec::new();
    for action in row {
        match action.verb {
            Verb::Forward => read[action.index] = stage.weight(versions.forward(action.index)),
            Verb::Update => {
                stage.end_step(action.index, versions.kept_by_update(action.index));
                weights.push(stage.weight(WeightCopy::Current));
            }
            _ => {
                let backward = stage.weight(versions.backward(action.index));
                stage.add_gradient(case.gradient(read[action.index], backward) / case.microbatches as f64);
            }
        }
    }
    weights
}

/// A stage of one trained element on the reference executor.
struct Device<'a> {
    case: &'a Quadratic<'a>,
    plan: StagePlan,
    updates: Updates,
    executor: ReferenceExecutor,
    buffers: Buffers,
}

impl<'a> Device<'a> {
    fn new(case: &'a Quadratic<'a>) -> Self {
        let layers = json!([{"op": "linear", "out_features": 1}]);
        let spec = json!({"name": "one", "input": {"c": 1, "h": 1, "w": 1}, "layers": layers});
        let model = Sequential::new(&serde_json::from_value(spec).unwrap()).unwrap();
        let plan = case.plan();
        let (copies, buffer_elements) = (CopyNeeds::of(&plan), 1 << 20);
        let extent = Extent { samples: 1, sets: 1, buffer_elements, last: false, splits: false, updates: true, copies };
        let mut executor = ReferenceExecutor::new();
        let buffers = Buffers::allocate(Layout::new(&model, 0..1, extent).unwrap(), &mut executor).unwrap();
        let (momentum, weight_decay) = (case.momentum as f32, case.weight_decay as f32);
        let updates = Updates::new(Optimiser { momentum, weight_decay, nesterov: false }, &plan).unwrap();
        let mut this = Self { case, plan, updates, executor, buffers };
        this.begin();
        this
    }

    /// The weight is 1, and every copy of it too.
    fn begin(&mut self) {
        self.write(self.buffers.copy(0, WeightCopy::Current), 1.0);
        self.submit(&self.updates.refresh(&self.buffers), Scalars::new());
        self.submit(&self.updates.keep_everywhere(&self.buffers), Scalars::new());
    }

    fn end_step(&mut self, step: usize, keep: Option<usize>) {
        if self.plan.updates_after(step) {
            let learning_rate = self.case.rate_at(step) as f32 * self.plan.rate_factor(step);
            let gradient_unscale = 1.0 / self.plan.accumulation as f32;
            let scalars = Scalars { learning_rate, gradient_unscale, ..Scalars::new() };
            self.submit(&self.updates.update(keep, &self.buffers), scalars);
        }
    }

    fn weight(&mut self, copy: WeightCopy) -> f64 {
        self.read(self.buffers.copy(0, copy))
    }

    fn add_gradient(&mut self, gradient: f64) {
        let slice = self.buffers.group(0).nth(1).unwrap().1;
        let sum = self.read(slice) + gradient;
        self.write(slice, sum);
    }

    fn read(&mut self, slice: Slice) -> f64 {
        let bytes = self.executor.read(Slice { elements: 1, ..slice }).unwrap();
        f64::from(bytemuck::pod_read_unaligned::<f32>(&bytes))
    }

    fn write(&mut self, slice: Slice, value: f64) {
        self.executor.write(Slice { elements: 1, ..slice }, &(value as f32).to_ne_bytes()).unwrap();
    }

    fn submit(&mut self, program: &Program, scalars: Scalars) {
        let id = self.executor.prepare(program, 1).unwrap();
        let mut upload = self.executor.upload(id).unwrap();
        upload.write(0, &scalars.to_bytes());
        let ticket = self.executor.submit(id, Some(upload)).unwrap();
        self.executor.wait(ticket, Duration::from_secs(1)).unwrap();
        self.executor.forget(id);
    }
}

/// The same, microbatch after microbatch.
fn simulate(case: &Quadratic<'_>) -> Vec<f64> {
    let corrections = case.corrections.split(',').collect::<Vec<_>>();
    let on = |name: &str| corrections.iter().any(|word| word.split('=').next() == Some(name));
    let number = |name: &str| {
        corrections.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(|n| n.parse().unwrap())
    };
    let [ahead, m] = [run_ahead(&case.schedule, case.stage), case.microbatches];
    let k: usize = number("accumulation").unwrap_or(1);
    let double_buffered = case.weights == WeightPolicy::DoubleBuffered;
    let s = if double_buffered { 1.0 } else { ahead as f64 / (m * k) as f64 };
    let gamma = case.momentum;
    let look_ahead = on("look-ahead");
    let steps_ahead = if on("linear-prediction") {
        s
    } else if on("momentum-prediction") {
        gamma * (1.0 - gamma.powf(s)) / (1.0 - gamma)
    } else if look_ahead {
        gamma
    } else {
        0.0
    };
    let [a, b] =
        if on("spike-compensation") { [gamma.powf(s), (1.0 - gamma.powf(s)) / (1.0 - gamma)] } else { [1.0, 0.0] };
    let fresh = if look_ahead { 1.0 - gamma } else { 1.0 };
    let beta = (-2.0 / s).exp();
    let set_back = on("discrepancy") && s > 0.0;

    let (mut w, mut v, mut delta, mut sum) = (1.0, 0.0, 0.0, 0.0);
    let mut forward_versions = vec![w];
    let mut after_steps = Vec::new();
    for batch in 0..STEPS * m {
        let own = batch / (m * k);
        let read = match case.weights {
            WeightPolicy::DoubleBuffered => own.saturating_sub(1),
            _ => batch.saturating_sub(ahead) / (m * k),
        };
        let forward: f64 = forward_versions[read];
        let backward = match case.weights {
            WeightPolicy::Single if set_back => w - s * delta,
            WeightPolicy::Single if look_ahead => forward_versions[own],
            WeightPolicy::Single => w,
            _ => forward,
        };
        sum += case.gradient(forward, backward) / (m * k) as f64;
        let step = batch / m;
        if (batch + 1) % (m * k) == 0 {
            let power: f64 = number("rate-per-stage").map_or(0.0, |n| 1.0 - (step as f64 / n as f64).min(1.0));
            let rate = case.rate_at(step) * (s + 1.0).powf(-power);
            let gradient = sum + case.weight_decay * w;
            let before = w;
            v = gamma * v + fresh * gradient;
            w -= rate * (a * v + b * gradient);
            delta = beta * delta + (1.0 - beta) * (w - before);
            forward_versions.push(w - steps_ahead * rate * v);
            sum = 0.0;
        }
        if (batch + 1) % m == 0 {
            after_steps.push(w);
        }
    }
    after_steps
}

fn agrees(case: &Quadratic<'_>) {
    let (ran, simulated) = (run(case), simulate(case));
    let largest = simulated.iter().fold(1.0, |most: f64, w| most.max(w.abs()));
    let what = format!(
        "{} stage {} × {} {} {}",
        case.schedule.kind, case.stage, case.microbatches, case.weights, case.corrections
    );
    for (step, (ran, simulated)) in ran.iter().zip(&simulated).enumerate() {
        // Weight, velocity and copies are rounded to f32 at each of 60 updates: 60 × 6e-8, some ten times over for what
        // feedback makes of it.
        assert!((ran - simulated).abs() < 4e-5 * largest, "{what}: step {step}: {ran}, simulated {simulated}");
    }
    assert!((simulated[STEPS - 1] - 1.0).abs() > 0.01, "{what}: the weight never moved");
}

/// Each alone, and in combinations.
const CORRECTIONS: &[&str] = &[
    "none",
    "rate-per-stage=20",
    "discrepancy",
    "spike-compensation",
    "linear-prediction",
    "momentum-prediction",
    "look-ahead",
    "accumulation=3",
    "discrepancy,rate-per-stage=20",
    "discrepancy,spike-compensation,accumulation=2",
    "momentum-prediction,spike-compensation",
    "linear-prediction,accumulation=3,rate-per-stage=20",
];

#[test]
fn corrections_are_a_scalar_simulation_of_their_formulas() {
    for &corrections in CORRECTIONS {
        for kind in [Kind::LayerBlockWise, Kind::OneForwardOneBackwardAsync] {
            for (stages, microbatches) in [(1, 1), (2, 1), (3, 1), (4, 2), (4, 4), (3, 5)] {
                for stage in 0..stages {
                    let schedule = Schedule::new(kind, stages);
                    agrees(&Quadratic { schedule, stage, microbatches, corrections, ..Quadratic::default() });
                }
            }
        }
    }
}

#[test]
fn policies_are_a_scalar_simulation_of_their_definition() {
    for corrections in ["none", "linear-prediction", "momentum-prediction,spike-compensation", "accumulation=2"] {
        for (weights, microbatches) in
            [(WeightPolicy::Stashed, 1), (WeightPolicy::Stashed, 3), (WeightPolicy::DoubleBuffered, 6)]
        {
            for stage in 0..4 {
                let schedule = Schedule::new(Kind::LayerBlockWise, 4);
                agrees(&Quadratic { schedule, stage, microbatches, weights, corrections, ..Quadratic::default() });
            }
        }
    }
}

/// The largest weight among the last updates.
fn size(case: &Quadratic<'_>) -> f64 {
    run(case)[STEPS - 15..].iter().fold(0.0, |most, w| most.max(w.abs()))
}

#[test]
fn a_rate_beyond_the_bound_diverges_in_a_pipeline_too() {
    let schedule = Schedule::new(Kind::LayerBlockWise, 2);
    let plain = Quadratic { schedule, momentum: 0.0, weight_decay: 0.0, discrepancy: 0.0, ..Quadratic::default() };
    let bound = stable_rate(plain.plan().staleness);
    assert!(size(&Quadratic { rate: 0.8 * bound, ..plain }) < 1.0);
    // The rate halves after half of the steps.
    assert!(size(&Quadratic { rate: 2.4 * bound, ..plain }) > 10.0);
}

#[test]
fn prediction_trains_at_a_rate_at_which_stale_momentum_diverges() {
    let stale = Quadratic { rate: 0.04, discrepancy: 0.0, ..Quadratic::default() };
    let predicted = Quadratic { corrections: "momentum-prediction", ..stale };
    assert!(size(&stale) > 1.0 && size(&predicted) < 0.5, "{} and {}", size(&stale), size(&predicted));
}
