//! The host's side: adds up what the workers send, updates, and hands the weights back.

use std::collections::BTreeMap;
use std::sync::Arc;

use brigade_devices::{Ledger, Purpose};
use brigade_kernels::{HostTensors, Operation, Pass, Problem, Scalars, Shape, Tensor};

use super::host::{Held, HostMemory};
use super::worker::Bus;
use crate::NamedTensor;
use crate::link::{Message, Payload, Tag};
use crate::model::{Layer, Sequential};
use crate::stage::exchange::{Piece, pieces};

/// Elements that are updated at once: wide numbers of a whole piece would take six times its own memory.
const UPDATED_AT_ONCE: usize = 4096;

/// The weights that all workers share, with their momentum. Nothing is allocated per step but what an update computes in.
pub(super) struct Server {
    buses: Vec<Bus>,
    optimiser: Arc<dyn Operation>,
    pieces: Vec<Piece>,
    memory: HostMemory,
    /// Of each piece, shared with the workers that have not copied it yet.
    weights: Vec<Held<Arc<Vec<f32>>>>,
    momentum: Vec<Held<Vec<f32>>>,
    /// The sum of a piece's gradients over the workers, as long as the largest piece.
    gradients: Held<Vec<f32>>,
    parameters: Vec<(String, Vec<usize>)>,
}

/// What the host will hold for parameters of these sizes, by formula: weights, momentum, and the gradients of the largest
/// piece; for a moment what an update computes in: weights, gradients and momentum of some elements in wide numbers. What
/// it does hold [`HostMemory`] counts.
pub(super) fn planned(sizes: &[usize]) -> Ledger {
    let largest = pieces(sizes).iter().map(|piece| piece.elements).max().unwrap_or(0);
    let (all, narrow, wide) = (sizes.iter().sum::<usize>(), size_of::<f32>(), size_of::<f64>());
    let scratch = (3 * wide * largest.min(UPDATED_AT_ONCE)) as u64;
    let mut ledger = Ledger::default();
    ledger.allocate(Purpose::Weights, (narrow * all) as u64);
    ledger.allocate(Purpose::Optimiser, (narrow * all) as u64);
    ledger.allocate(Purpose::Gradients, (narrow * largest) as u64);
    ledger.allocate(Purpose::Workspace, scratch);
    ledger.release(Purpose::Workspace, scratch);
    ledger
}

impl Server {
    pub(super) fn new(model: &Sequential, seed: u64, optimiser: Arc<dyn Operation>, buses: Vec<Bus>) -> Self {
        let values: Vec<Vec<f32>> = (0..model.layers.len()).flat_map(|l| model.initial_values(l, seed)).collect();
        let named = model.layers.iter().flat_map(Layer::named_parameters);
        let parameters = named.map(|(name, parameter)| (name, parameter.dims.clone())).collect();
        let pieces = pieces(&values.iter().map(Vec::len).collect::<Vec<_>>());
        let memory = HostMemory::default();
        let part = |piece: &Piece| values[piece.parameter][piece.start..piece.start + piece.elements].to_vec();
        let weights = pieces.iter().map(|piece| memory.hold(Arc::new(part(piece)), Purpose::Weights)).collect();
        let momentum = pieces.iter().map(|piece| memory.hold(vec![0.0; piece.elements], Purpose::Optimiser)).collect();
        let largest = pieces.iter().map(|piece| piece.elements).max().unwrap_or(0);
        let gradients = memory.hold(vec![0.0; largest], Purpose::Gradients);
        Self { buses, optimiser, pieces, memory, weights, momentum, gradients, parameters }
    }

    /// One exchange, piece by piece: the sum over the workers in their order, the update, the new weights to each.
    ///
    /// # Errors
    /// Where a worker has gone.
    pub(super) fn step(&mut self, learning_rate: f32) -> Result<(), ()> {
        for index in 0..self.pieces.len() {
            self.gather(self.pieces[index].elements)?;
            self.update(index, learning_rate);
            self.spread(index)?;
        }
        Ok(())
    }

    fn gather(&mut self, elements: usize) -> Result<(), ()> {
        let sum = &mut self.gradients[..elements];
        sum.fill(0.0);
        for bus in &mut self.buses {
            let Some(Message::Microbatch(_, payload)) = bus.gradients.blocking_recv() else { return Err(()) };
            for (sum, bytes) in sum.iter_mut().zip(payload.bytes().chunks_exact(size_of::<f32>())) {
                *sum += bytemuck::pod_read_unaligned::<f32>(bytes);
            }
        }
        Ok(())
    }

    /// The optimiser's own definition, on one piece, some elements at a time: it treats each by itself.
    fn update(&mut self, index: usize, learning_rate: f32) {
        let elements = self.pieces[index].elements;
        let room = || Vec::with_capacity(elements.min(UPDATED_AT_ONCE));
        let mut scratch = self.memory.hold([room(), room(), room()], Purpose::Workspace);
        // Every worker has copied the weights of the step before, or it would not have sent gradients since.
        let weights = Arc::make_mut(&mut *self.weights[index]).chunks_mut(UPDATED_AT_ONCE);
        let momentum = self.momentum[index].chunks_mut(UPDATED_AT_ONCE);
        for ((w, dw), v) in weights.zip(self.gradients[..elements].chunks(UPDATED_AT_ONCE)).zip(momentum) {
            let mut host = HostTensors::new(Scalars { learning_rate, ..Scalars::new() });
            for (wide, (tensor, narrow)) in
                scratch.iter_mut().zip([(Tensor::W, &*w), (Tensor::Dw, dw), (Tensor::V, &*v)])
            {
                let mut wide = std::mem::take(wide);
                wide.clear();
                wide.extend(narrow.iter().copied().map(f64::from));
                host.put(tensor, wide);
            }
            let problem = Problem { n: 1, input: Shape::vector(dw.len()) };
            self.optimiser.reference(Pass::Update, problem, &mut host);
            for (wide, tensor) in scratch.iter_mut().zip([Tensor::W, Tensor::Dw, Tensor::V]) {
                *wide = host.take(tensor);
            }
            for (narrow, wide) in w.iter_mut().zip(&scratch[0]).chain(v.iter_mut().zip(&scratch[2])) {
                *narrow = *wide as f32;
            }
        }
    }

    fn spread(&self, index: usize) -> Result<(), ()> {
        let weights = &self.weights[index];
        let tag = Tag { microbatch: index, samples: 0, step_samples: 0, first_sample: 0, cycle: 0, checksum: None };
        self.buses.iter().try_for_each(|bus| {
            let payload = Payload::Inputs(Arc::clone(weights), 0..weights.len());
            bus.weights.blocking_send(Message::Microbatch(tag, payload)).map_err(|_| ())
        })
    }

    /// Closes every bus, so that workers which wait for the host end.
    pub(super) fn hang_up(&mut self) {
        self.buses.clear();
    }

    /// What the host has allocated, as it was counted there.
    pub(super) fn ledger(&self) -> Ledger {
        self.memory.counted()
    }

    /// The parameters, put together again.
    pub(super) fn parameters(&self) -> Vec<NamedTensor> {
        let joined = |parameter: usize, part: &dyn Fn(usize) -> Vec<f32>| -> Vec<f32> {
            let own = self.pieces.iter().enumerate().filter(|(_, piece)| piece.parameter == parameter);
            own.flat_map(|(index, _)| part(index)).collect()
        };
        let each = self.parameters.iter().enumerate();
        each.map(|(parameter, (name, dims))| NamedTensor {
            name: name.clone(),
            dims: dims.clone(),
            weights: joined(parameter, &|index| self.weights[index].to_vec()),
            momentum: joined(parameter, &|index| self.momentum[index].to_vec()),
            carried: BTreeMap::new(),
        })
        .collect()
    }
}
