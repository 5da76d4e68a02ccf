//! Layer-block-wise training is what its definition says: forward of microbatch b at stage s in cycle b + s − 1, its
//! backward in cycle b + 2P − s, a backward before a forward within a cycle, every pass with the weights of its own
//! moment. The simulation here walks the cycles one after another, layer by layer, and knows nothing of stages,
//! schedules, links or threads; the pipeline must give the same bits, and the same cycles.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use brigade::{LearningRate, Schedule, Sequential, Shape};
use brigade_devices::{BufferId, Command, Executor, Program, Purpose, Run, Slice};
use brigade_kernels::{Operation, Pass, Problem, Scalars, Tensor, ops};
use brigade_pipeline::schedule::Verb;
use brigade_pipeline::{NamedTensor, Samples};
use common::{OPTIMISER, SEED, assert_same_bits, executor, pipeline, samples, small_model, trained};
use serde_json::json;

const STARTS: [usize; 4] = [0, 2, 4, 7];
const BATCH: usize = 4;
const STEPS: usize = 20;

/// The whole network on one executor, a buffer for every tensor of every layer.
struct Network {
    model: Sequential,
    executor: Box<dyn Executor>,
    loss: Arc<dyn Operation>,
    sgd: Arc<dyn Operation>,
    /// Weights, gradients and momentum by layer and role of the weight (W or B).
    parameters: BTreeMap<(usize, Tensor), [BufferId; 3]>,
    /// Activations of a microbatch by layer: input of layer l is at l. What its forward saved.
    activations: BTreeMap<(usize, usize), BufferId>,
    saved: BTreeMap<(usize, usize), BufferId>,
    /// Gradient of the input of layer l, of a microbatch.
    gradients: BTreeMap<(usize, usize), BufferId>,
    scalars: BufferId,
}

impl Network {
    fn new(name: &str) -> Self {
        let model = small_model();
        let mut executor = executor(name);
        let operation = |name: &str, attributes: serde_json::Value| -> Arc<dyn Operation> {
            Arc::from((ops::find(name).unwrap().from_attributes)(&attributes).unwrap())
        };
        let sgd = json!({"learning_rate": 0.0, "momentum": OPTIMISER.momentum, "weight_decay": OPTIMISER.weight_decay});
        let mut parameters = BTreeMap::new();
        for (l, layer) in model.layers.iter().enumerate() {
            for (parameter, values) in layer.parameters.iter().zip(model.initial_values(l, SEED)) {
                let buffers = [(); 3].map(|()| executor.allocate(values.len(), Purpose::Weights).unwrap());
                let slice = Slice { buffer: buffers[0], start: 0, elements: values.len() };
                executor.write(slice, bytemuck(&values)).unwrap();
                parameters.insert((l, parameter.tensor), buffers);
            }
        }
        let scalars = executor.allocate(Scalars::ELEMENTS, Purpose::Small).unwrap();
        Self {
            loss: operation("softmax_cross_entropy", json!({})),
            sgd: operation("sgd", sgd),
            model,
            executor,
            parameters,
            activations: BTreeMap::new(),
            saved: BTreeMap::new(),
            gradients: BTreeMap::new(),
            scalars,
        }
    }

    fn write(&mut self, buffer: BufferId, bytes: &[u8]) {
        self.executor.write(Slice { buffer, start: 0, elements: bytes.len() / 4 }, bytes).unwrap();
    }

    fn set_scalars(&mut self, microbatch: usize, learning_rate: f32) {
        let scalars = Scalars {
            learning_rate,
            gradient_scale: 1.0 / BATCH as f32,
            first_sample: (microbatch * BATCH) as u64,
            seed: SEED,
            ..Scalars::new()
        };
        self.write(self.scalars, &scalars.to_bytes());
    }

    fn buffer(executor: &mut dyn Executor, elements: usize) -> BufferId {
        executor.allocate(elements, Purpose::Activations).unwrap()
    }

    fn run(&mut self, operation: &Arc<dyn Operation>, pass: Pass, problem: Problem, tensors: &[(Tensor, BufferId)]) {
        let tensors = tensors
            .iter()
            .map(|&(tensor, buffer)| {
                let elements = operation.elements(tensor, problem).unwrap();
                (tensor, Slice { buffer, start: 0, elements })
            })
            .collect();
        let run = Run { operation: Arc::clone(operation), pass, problem, tensors };
        let program = Program { label: pass.to_string(), commands: vec![Command::Run(run)], ..Program::default() };
        let id = self.executor.prepare(&program, 1).unwrap();
        let ticket = self.executor.submit(id, None).unwrap();
        self.executor.wait(ticket, Duration::from_secs(60)).unwrap();
        self.executor.forget(id);
    }

    /// Runs one pass of a layer with whatever tensors it lists.
    fn layer(&mut self, l: usize, pass: Pass, microbatch: usize) {
        let layer = self.model.layers[l].clone();
        let problem = Problem { n: BATCH, input: layer.input };
        let tensors: Vec<_> = layer
            .operation
            .tensors(pass)
            .iter()
            .map(|used| {
                (
                    used.tensor,
                    self.tensor(l, used.tensor, microbatch, layer.operation.elements(used.tensor, problem).unwrap()),
                )
            })
            .collect();
        if !tensors.is_empty() {
            self.run(&layer.operation, pass, problem, &tensors);
        }
    }

    fn tensor(&mut self, l: usize, tensor: Tensor, microbatch: usize, elements: usize) -> BufferId {
        let executor = self.executor.as_mut();
        let mut in_map = |map: &mut BTreeMap<(usize, usize), BufferId>, l: usize| {
            *map.entry((microbatch, l)).or_insert_with(|| Self::buffer(executor, elements))
        };
        match tensor {
            Tensor::X => in_map(&mut self.activations, l),
            Tensor::Y => in_map(&mut self.activations, l + 1),
            Tensor::Saved => in_map(&mut self.saved, l),
            Tensor::Dx => in_map(&mut self.gradients, l),
            Tensor::Dy => in_map(&mut self.gradients, l + 1),
            Tensor::W | Tensor::B => self.parameters[&(l, tensor)][0],
            Tensor::Dw => self.parameters[&(l, Tensor::W)][1],
            Tensor::Db => self.parameters[&(l, Tensor::B)][1],
            Tensor::Scalars => self.scalars,
            other => panic!("{other} is no tensor of a layer"),
        }
    }

    fn forward(&mut self, layers: std::ops::Range<usize>, microbatch: usize, samples: &[Samples]) {
        self.set_scalars(microbatch, 0.0);
        if layers.start == 0 {
            let inputs = &samples[microbatch].inputs;
            let input = self.tensor(0, Tensor::X, microbatch, inputs.len());
            self.write(input, bytemuck(inputs));
        }
        for l in layers {
            self.layer(l, Pass::Forward, microbatch);
        }
    }

    fn backward(&mut self, layers: std::ops::Range<usize>, microbatch: usize, samples: &[Samples]) {
        self.set_scalars(microbatch, 0.0);
        let end = self.model.layers.len();
        if layers.end == end {
            self.loss(microbatch, &samples[microbatch].labels);
        }
        for l in layers.rev() {
            self.layer(l, Pass::BackwardWeight, microbatch);
            if l > 0 {
                self.layer(l, Pass::BackwardInput, microbatch);
            }
        }
    }

    fn loss(&mut self, microbatch: usize, labels: &[u32]) {
        let end = self.model.layers.len();
        let classes = self.model.classes();
        let logits = self.activations[&(microbatch, end)];
        let gradient = self.tensor(end, Tensor::Dx, microbatch, BATCH * classes);
        let label_buffer = Self::buffer(self.executor.as_mut(), BATCH);
        let metrics = Self::buffer(self.executor.as_mut(), 2 * BATCH);
        self.write(label_buffer, &labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>());
        let loss = Arc::clone(&self.loss);
        let tensors = [
            (Tensor::X, logits),
            (Tensor::Labels, label_buffer),
            (Tensor::Scalars, self.scalars),
            (Tensor::Dx, gradient),
            (Tensor::Metrics, metrics),
        ];
        self.run(&loss, Pass::Forward, Problem { n: BATCH, input: Shape::vector(classes) }, &tensors);
    }

    fn update(&mut self, layers: std::ops::Range<usize>, step: usize, rate: &LearningRate) {
        self.set_scalars(step, rate.at(step));
        let sgd = Arc::clone(&self.sgd);
        for l in layers {
            for parameter in self.model.layers[l].parameters.clone() {
                let [w, dw, v] = self.parameters[&(l, parameter.tensor)];
                let problem = Problem { n: 1, input: Shape::vector(parameter.elements().unwrap()) };
                let tensors = [(Tensor::W, w), (Tensor::Dw, dw), (Tensor::V, v), (Tensor::Scalars, self.scalars)];
                self.run(&sgd, Pass::Update, problem, &tensors);
            }
        }
    }

    fn tensors(&mut self) -> Vec<NamedTensor> {
        let mut found = Vec::new();
        for (l, layer) in self.model.layers.clone().iter().enumerate() {
            for (name, parameter) in layer.named_parameters() {
                let [w, _, v] = self.parameters[&(l, parameter.tensor)];
                let elements = parameter.elements().unwrap();
                let mut read = |buffer| floats(&self.executor.read(Slice { buffer, start: 0, elements }).unwrap());
                found.push(NamedTensor { name, dims: parameter.dims.clone(), weights: read(w), momentum: read(v) });
            }
        }
        found
    }
}

fn bytemuck(values: &[f32]) -> &[u8] {
    ::bytemuck::cast_slice(values)
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    ::bytemuck::pod_collect_to_vec(bytes)
}

/// The definition, cycle by cycle. Stages and microbatches count from 1, as in the papers.
fn by_definition(name: &str, samples: &[Samples]) -> Vec<NamedTensor> {
    let mut network = Network::new(name);
    let rate = LearningRate { initial: 0.05, milestones: vec![12], factor: 0.5 };
    let p = STARTS.len();
    let ends = [STARTS[1], STARTS[2], STARTS[3], network.model.layers.len()];
    for cycle in 1..=STEPS + 2 * p {
        for s in 1..=p {
            let layers = STARTS[s - 1]..ends[s - 1];
            if let Some(b) = (cycle + s).checked_sub(2 * p).filter(|b| (1..=STEPS).contains(b)) {
                network.backward(layers.clone(), b - 1, samples);
                network.update(layers.clone(), b - 1, &rate);
            }
            if let Some(b) = (cycle + 1).checked_sub(s).filter(|b| (1..=STEPS).contains(b)) {
                network.forward(layers, b - 1, samples);
            }
        }
    }
    network.tensors()
}

fn holds_on(name: &str) {
    let samples = samples(&small_model(), BATCH, STEPS);
    let mut pipeline = pipeline(&[name], &STARTS, Schedule::LayerBlockWise, BATCH, 1);
    let (weights, report) = trained(&mut pipeline, &samples);
    assert_same_bits(&weights, &by_definition(name, &samples));

    let p = STARTS.len() as u64;
    for (s, stage) in (1..).zip(&report.stages) {
        let cycle_of = |verb: Verb, index: usize| {
            let of = |record: &&brigade_pipeline::Record| record.action.verb == verb && record.action.index == index;
            stage.records.iter().find(of).unwrap().cycle
        };
        for index in 0..STEPS {
            let b = index as u64 + 1;
            assert_eq!(cycle_of(Verb::Forward, index), b + s - 1, "forward of {b} at stage {s}");
            assert_eq!(cycle_of(Verb::Backward, index), b + 2 * p - s, "backward of {b} at stage {s}");
            let latency = cycle_of(Verb::Backward, index) - cycle_of(Verb::Forward, index);
            assert_eq!(latency, 2 * p - 2 * s + 1, "latency at stage {s}");
        }
    }
}

#[test]
fn layer_block_wise_is_its_definition_on_the_reference() {
    holds_on("reference");
}

#[test]
fn layer_block_wise_is_its_definition_on_llvmpipe() {
    holds_on("llvmpipe");
}

#[test]
fn layer_block_wise_is_its_definition_on_swiftshader() {
    holds_on("swiftshader");
}
