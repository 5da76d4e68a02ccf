//! The whole network on one executor, run pass by pass: what the definitions of pipelines are written with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use brigade::{Sequential, Shape};
use brigade_devices::{BufferId, Command, Executor, Program, Purpose, Run, Slice};
use brigade_kernels::{Operation, Pass, Problem, Scalars, Tensor, ops};
use brigade_pipeline::{NamedTensor, Samples};
use serde_json::json;

use super::{OPTIMISER, SEED, executor, small_model};

/// The whole network on one executor, a buffer for every tensor of every layer.
pub(crate) struct Network {
    pub(crate) model: Sequential,
    /// Samples of a microbatch.
    samples: usize,
    /// Microbatches of a step.
    microbatches: usize,
    executor: Box<dyn Executor>,
    loss: Arc<dyn Operation>,
    sgd: Arc<dyn Operation>,
    /// Weights, gradients and momentum by layer and role of the weight (W or B).
    pub(crate) parameters: BTreeMap<(usize, Tensor), [BufferId; 3]>,
    /// What passes read in place of the weights.
    pub(crate) read: BTreeMap<(usize, Tensor), BufferId>,
    /// Activations of a microbatch by layer: input of layer l is at l. What its forward saved.
    activations: BTreeMap<(usize, usize), BufferId>,
    saved: BTreeMap<(usize, usize), BufferId>,
    /// Gradient of the input of layer l, of a microbatch.
    gradients: BTreeMap<(usize, usize), BufferId>,
    scalars: BufferId,
}

impl Network {
    /// The small model, in steps of `microbatches` microbatches of `samples` samples.
    pub(crate) fn new(name: &str, sizes: [usize; 2]) -> Self {
        Self::of(small_model(), name, sizes)
    }

    /// As [`Network::new`], of any model.
    pub(crate) fn of(model: Sequential, name: &str, [samples, microbatches]: [usize; 2]) -> Self {
        let mut executor = executor(name);
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
            loss: operation("softmax_cross_entropy", &json!({})),
            sgd: operation("sgd", &sgd),
            model,
            samples,
            microbatches,
            executor,
            parameters,
            read: BTreeMap::new(),
            activations: BTreeMap::new(),
            saved: BTreeMap::new(),
            gradients: BTreeMap::new(),
            scalars,
        }
    }

    fn write(&mut self, buffer: BufferId, bytes: &[u8]) {
        self.executor.write(Slice { buffer, start: 0, elements: bytes.len() / 4 }, bytes).unwrap();
    }

    pub(crate) fn set_scalars(&mut self, microbatch: usize, learning_rate: f32) {
        let scalars = Scalars {
            learning_rate,
            gradient_scale: 1.0 / (self.samples * self.microbatches) as f32,
            first_sample: (microbatch * self.samples) as u64,
            seed: SEED,
            ..Scalars::new()
        };
        self.write(self.scalars, &scalars.to_bytes());
    }

    fn buffer(executor: &mut dyn Executor, elements: usize) -> BufferId {
        executor.allocate(elements, Purpose::Activations).unwrap()
    }

    pub(crate) fn run(
        &mut self,
        operation: &Arc<dyn Operation>,
        pass: Pass,
        problem: Problem,
        tensors: &[(Tensor, BufferId)],
    ) {
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
        let problem = Problem { n: self.samples, input: layer.input };
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
            Tensor::W | Tensor::B => self.read.get(&(l, tensor)).copied().unwrap_or(self.parameters[&(l, tensor)][0]),
            Tensor::Dw => self.parameters[&(l, Tensor::W)][1],
            Tensor::Db => self.parameters[&(l, Tensor::B)][1],
            Tensor::Scalars => self.scalars,
            other => panic!("{other} is no tensor of a layer"),
        }
    }

    pub(crate) fn forward(&mut self, layers: std::ops::Range<usize>, microbatch: usize, samples: &[Samples]) {
        self.set_scalars(microbatch, 0.0);
        if layers.start == 0 {
            let (step, part) = (microbatch / self.microbatches, microbatch % self.microbatches);
            let inputs = &samples[step].inputs;
            let width = inputs.len() / self.microbatches;
            let input = self.tensor(0, Tensor::X, microbatch, width);
            self.write(input, bytemuck(&inputs[part * width..][..width]));
        }
        for l in layers {
            self.layer(l, Pass::Forward, microbatch);
        }
    }

    pub(crate) fn backward(&mut self, layers: std::ops::Range<usize>, microbatch: usize, samples: &[Samples]) {
        self.set_scalars(microbatch, 0.0);
        let end = self.model.layers.len();
        if layers.end == end {
            let (step, part) = (microbatch / self.microbatches, microbatch % self.microbatches);
            self.loss(microbatch, &samples[step].labels[part * self.samples..][..self.samples]);
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
        let gradient = self.tensor(end, Tensor::Dx, microbatch, self.samples * classes);
        let label_buffer = Self::buffer(self.executor.as_mut(), self.samples);
        let metrics = Self::buffer(self.executor.as_mut(), 2 * self.samples);
        self.write(label_buffer, &labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>());
        let loss = Arc::clone(&self.loss);
        let tensors = [
            (Tensor::X, logits),
            (Tensor::Labels, label_buffer),
            (Tensor::Scalars, self.scalars),
            (Tensor::Dx, gradient),
            (Tensor::Metrics, metrics),
        ];
        self.run(&loss, Pass::Forward, Problem { n: self.samples, input: Shape::vector(classes) }, &tensors);
    }

    /// Gradients that no update has used go.
    pub(crate) fn clear_gradients(&mut self) {
        for at in self.parameters.keys().copied().collect::<Vec<_>>() {
            let zeros = vec![0.0; self.elements(at)];
            self.write(self.parameters[&at][1], bytemuck(&zeros));
        }
    }

    /// Plain SGD.
    pub(crate) fn update(&mut self, layers: std::ops::Range<usize>, rate: f32) {
        let sgd = Arc::clone(&self.sgd);
        self.update_with(&sgd, layers, rate, 1.0);
    }

    pub(crate) fn update_with(
        &mut self,
        sgd: &Arc<dyn Operation>,
        layers: std::ops::Range<usize>,
        learning_rate: f32,
        gradient_unscale: f32,
    ) {
        let scalars = Scalars { learning_rate, gradient_unscale, ..Scalars::new() };
        self.write(self.scalars, &scalars.to_bytes());
        for l in layers {
            for parameter in self.model.layers[l].parameters.clone() {
                let [w, dw, v] = self.parameters[&(l, parameter.tensor)];
                let problem = Problem { n: 1, input: Shape::vector(parameter.elements().unwrap()) };
                let tensors = [(Tensor::W, w), (Tensor::Dw, dw), (Tensor::V, v), (Tensor::Scalars, self.scalars)];
                self.run(sgd, Pass::Update, problem, &tensors);
            }
        }
    }

    /// Runs an operation of copies of a parameter.
    pub(crate) fn derive(
        &mut self,
        operation: &Arc<dyn Operation>,
        at: (usize, Tensor),
        learning_rate: f32,
        tensors: &[(Tensor, BufferId)],
    ) {
        let scalars = Scalars { learning_rate, ..Scalars::new() };
        self.write(self.scalars, &scalars.to_bytes());
        let tensors: Vec<_> = tensors.iter().copied().chain([(Tensor::Scalars, self.scalars)]).collect();
        let listed = operation.tensors(Pass::Update);
        let used: Vec<_> =
            tensors.into_iter().filter(|(tensor, _)| listed.iter().any(|used| used.tensor == *tensor)).collect();
        let problem = Problem { n: 1, input: Shape::vector(self.elements(at)) };
        self.run(operation, Pass::Update, problem, &used);
    }

    /// A new buffer as large as a parameter.
    pub(crate) fn like(&mut self, at: (usize, Tensor)) -> BufferId {
        let elements = self.elements(at);
        Self::buffer(self.executor.as_mut(), elements)
    }

    /// Copies a parameter, or a copy of it.
    pub(crate) fn copy(&mut self, at: (usize, Tensor), from: BufferId, to: BufferId) {
        let elements = self.elements(at);
        let bytes = self.executor.read(Slice { buffer: from, start: 0, elements }).unwrap();
        self.write(to, &bytes);
    }

    fn elements(&self, (l, tensor): (usize, Tensor)) -> usize {
        let parameters = &self.model.layers[l].parameters;
        parameters.iter().find(|parameter| parameter.tensor == tensor).unwrap().elements().unwrap()
    }

    pub(crate) fn tensors(&mut self) -> Vec<NamedTensor> {
        let mut found = Vec::new();
        for (l, layer) in self.model.layers.clone().iter().enumerate() {
            for (name, parameter) in layer.named_parameters() {
                let [w, _, v] = self.parameters[&(l, parameter.tensor)];
                let elements = parameter.elements().unwrap();
                let mut read = |buffer| floats(&self.executor.read(Slice { buffer, start: 0, elements }).unwrap());
                let (weights, momentum) = (read(w), read(v));
                let carried = Default::default();
                found.push(NamedTensor { name, dims: parameter.dims.clone(), weights, momentum, carried });
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

/// An operation of the list.
pub(crate) fn operation(name: &str, attributes: &serde_json::Value) -> Arc<dyn Operation> {
    Arc::from((ops::find(name).unwrap().from_attributes)(attributes).unwrap())
}
