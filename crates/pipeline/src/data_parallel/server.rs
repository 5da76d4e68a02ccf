//! The host's side: adds up what the workers send, updates, and hands the weights back.

use std::collections::BTreeMap;
use std::sync::Arc;

use brigade_devices::{Ledger, Purpose};
use brigade_kernels::{HostTensors, Operation, Pass, Problem, Scalars, Shape, Tensor};

use super::worker::Bus;
use crate::NamedTensor;
use crate::link::{Message, Payload, Tag};
use crate::model::{Layer, Sequential};
use crate::stage::exchange::{Piece, pieces};

/// The weights that all workers share, with their momentum.
pub(super) struct Server {
    buses: Vec<Bus>,
    optimiser: Arc<dyn Operation>,
    pieces: Vec<Piece>,
    /// Of each piece, shared with the workers that have not copied it yet.
    weights: Vec<Arc<Vec<f32>>>,
    momentum: Vec<Vec<f32>>,
    parameters: Vec<(String, Vec<usize>)>,
}

/// What the host of these parameters holds: weights, momentum, and the gradients of the largest piece.
pub(super) fn host_ledger(pieces: &[Piece]) -> Ledger {
    let elements = || pieces.iter().map(|piece| piece.elements);
    let bytes = |elements: usize| (size_of::<f32>() * elements) as u64;
    let mut ledger = Ledger::default();
    ledger.allocate(Purpose::Weights, bytes(elements().sum()));
    ledger.allocate(Purpose::Optimiser, bytes(elements().sum()));
    ledger.allocate(Purpose::Gradients, bytes(elements().max().unwrap_or(0)));
    ledger
}

impl Server {
    pub(super) fn new(model: &Sequential, seed: u64, optimiser: Arc<dyn Operation>, buses: Vec<Bus>) -> Self {
        let values: Vec<Vec<f32>> = (0..model.layers.len()).flat_map(|l| model.initial_values(l, seed)).collect();
        let named = model.layers.iter().flat_map(Layer::named_parameters);
        let parameters = named.map(|(name, parameter)| (name, parameter.dims.clone())).collect();
        let pieces = pieces(&values.iter().map(Vec::len).collect::<Vec<_>>());
        let part = |piece: &Piece| values[piece.parameter][piece.start..piece.start + piece.elements].to_vec();
        let weights = pieces.iter().map(|piece| Arc::new(part(piece))).collect();
        let momentum = pieces.iter().map(|piece| vec![0.0; piece.elements]).collect();
        Self { buses, optimiser, pieces, weights, momentum, parameters }
    }

    /// One exchange, piece by piece: the sum over the workers in their order, the update, the new weights to each.
    ///
    /// # Errors
    /// Where a worker has gone.
    pub(super) fn step(&mut self, learning_rate: f32) -> Result<(), ()> {
        for index in 0..self.pieces.len() {
            let gradient = self.gather(self.pieces[index].elements)?;
            self.update(index, &gradient, learning_rate);
            self.spread(index)?;
        }
        Ok(())
    }

    fn gather(&mut self, elements: usize) -> Result<Vec<f32>, ()> {
        let mut sum = vec![0.0; elements];
        for bus in &mut self.buses {
            let Some(Message::Microbatch(_, payload)) = bus.gradients.blocking_recv() else { return Err(()) };
            for (sum, bytes) in sum.iter_mut().zip(payload.bytes().chunks_exact(size_of::<f32>())) {
                *sum += bytemuck::pod_read_unaligned::<f32>(bytes);
            }
        }
        Ok(sum)
    }

    /// The optimiser's own definition, on one piece.
    fn update(&mut self, index: usize, gradient: &[f32], learning_rate: f32) {
        let wide = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        let mut host = HostTensors::new(Scalars { learning_rate, ..Scalars::new() });
        host.put(Tensor::W, wide(&self.weights[index]));
        host.put(Tensor::Dw, wide(gradient));
        host.put(Tensor::V, wide(&self.momentum[index]));
        let problem = Problem { n: 1, input: Shape::vector(gradient.len()) };
        self.optimiser.reference(Pass::Update, problem, &mut host);
        let narrow = |tensor| host.read(tensor).iter().map(|&value| value as f32).collect::<Vec<_>>();
        self.weights[index] = Arc::new(narrow(Tensor::W));
        self.momentum[index] = narrow(Tensor::V);
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

    /// What the host holds.
    pub(super) fn ledger(&self) -> Ledger {
        host_ledger(&self.pieces)
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
            momentum: joined(parameter, &|index| self.momentum[index].clone()),
            carried: BTreeMap::new(),
        })
        .collect()
    }
}
