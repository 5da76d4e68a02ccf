//! The stage itself: parameters, prepared programs, submissions. It knows no thread and no link.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brigade_devices::{Completion, DeviceError, Executor, ProgramId, Slice, Ticket};
use brigade_kernels::{Operation, Scalars, Tensor};

use super::buffers::Buffers;
use super::layout::{CopyNeeds, Extent, Layout};
use super::programs::{Block, Key, Lane};
use super::update::Updates;
use crate::model::Sequential;
use crate::staleness::{StagePlan, WeightCopy, WeightPolicy};
use crate::{Carried, NamedTensor, PipelineError, Tag};

/// How long a submission may take before the device counts as hung. Software adapters run a whole VGG-F backward in
/// one submission, which takes tens of seconds there.
const SUBMISSION_TIMEOUT: Duration = Duration::from_secs(300);

/// What a stage is built with besides its layers and its executor.
pub(crate) struct StageOptions {
    /// The stage's place, from 0.
    pub(crate) index: usize,
    /// Whether it computes the loss.
    pub(crate) last: bool,
    /// Whether a backward is split into the gradient of the input and that of the weights.
    pub(crate) splits: bool,
    /// Activation sets.
    pub(crate) sets: usize,
    /// Most samples of a microbatch.
    pub(crate) samples: usize,
    /// Staging slots for the results of each [`Lane`].
    pub(crate) depths: [usize; 3],
    /// Seed of the run.
    pub(crate) seed: u64,
    /// What the loss is multiplied with until the gradients are used.
    pub(crate) loss_scale: f32,
    /// The loss.
    pub(crate) loss: Arc<dyn Operation>,
    /// What ends a step; absent where the weights are updated elsewhere.
    pub(crate) updates: Option<Updates>,
    /// What is done about staleness.
    pub(crate) plan: StagePlan,
}

/// A layer-block on its executor.
pub(crate) struct Stage {
    pub(crate) index: usize,
    executor: Box<dyn Executor>,
    block: Block,
    buffers: Buffers,
    programs: HashMap<Key, ProgramId>,
    depths: [usize; 3],
    seed: u64,
    loss_scale: f32,
    plan: StagePlan,
    /// Whether the slots of older versions hold what they should.
    versions_known: bool,
    copied_in: Duration,
}

impl Stage {
    /// Allocates the stage's buffers and gives the parameters their first values.
    pub(crate) fn new(
        model: &Sequential,
        range: Range<usize>,
        executor: Box<dyn Executor>,
        options: &StageOptions,
    ) -> Result<Self, PipelineError> {
        let mut stage = Self::allocated(model, range.clone(), executor, options)?;
        stage.initialise(model, range)?;
        Ok(stage)
    }

    /// A stage whose parameters have no values yet.
    pub(crate) fn allocated(
        model: &Sequential,
        range: Range<usize>,
        mut executor: Box<dyn Executor>,
        options: &StageOptions,
    ) -> Result<Self, PipelineError> {
        let index = options.index;
        let on_device = |source| PipelineError::Device { stage: index, source };
        let extent = Extent {
            samples: options.samples,
            sets: options.sets,
            buffer_elements: usize::try_from(executor.info().limits.buffer_bytes / 4).unwrap_or(usize::MAX),
            last: options.last,
            splits: options.splits,
            updates: options.updates.is_some(),
            copies: CopyNeeds::of(&options.plan),
        };
        let layout = Layout::new(model, range.clone(), extent).map_err(PipelineError::Shape)?;
        let buffers = Buffers::allocate(layout, executor.as_mut()).map_err(on_device)?;
        let block = Block::new(model, range, &options.loss, options.updates.clone());
        executor.reserve_uploads(block.most_uploaded(options.samples, &buffers)).map_err(on_device)?;
        let programs = HashMap::new();
        Ok(Self {
            index,
            executor,
            block,
            buffers,
            programs,
            depths: options.depths,
            seed: options.seed,
            loss_scale: options.loss_scale,
            plan: options.plan,
            versions_known: false,
            copied_in: Duration::ZERO,
        })
    }

    fn initialise(&mut self, model: &Sequential, range: Range<usize>) -> Result<(), PipelineError> {
        let first = range.clone().flat_map(|index| model.initial_values(index, self.seed));
        let values: Vec<Vec<f32>> = first.collect();
        for (index, weights) in values.iter().enumerate() {
            let slice = self.buffers.parameter(&self.buffers.layout.parameters[index], Tensor::W);
            self.write(slice, weights)?;
        }
        Ok(())
    }

    /// The executor, for what it says of itself.
    pub(crate) fn executor(&self) -> &dyn Executor {
        self.executor.as_ref()
    }

    /// Where the stage's parameters lie.
    pub(super) fn layout(&self) -> &Layout {
        &self.buffers.layout
    }

    /// Activation sets of the stage.
    pub(crate) fn sets(&self) -> usize {
        self.buffers.layout.sets
    }

    /// Bytes of the stage's output for this many samples.
    pub(crate) fn output_bytes(&self, samples: usize) -> u64 {
        let (_, output) = self.block.edges();
        (size_of::<f32>() * samples * output) as u64
    }

    /// Time of the host copy into the upload slot of the last submission: what a message takes to cross.
    pub(crate) fn copied_in(&self) -> Duration {
        self.copied_in
    }

    /// What is done about staleness.
    pub(crate) fn plan(&self) -> StagePlan {
        self.plan
    }

    /// Submits the forward of a microbatch into its activation set, with a copy of the weights.
    pub(crate) fn forward(&mut self, tag: &Tag, input: &[u8], weights: WeightCopy) -> Result<Ticket, PipelineError> {
        let key = Key::Forward { set: tag.microbatch % self.sets(), samples: tag.samples, weights };
        self.submit(key, self.scalars(tag, true), &[input])
    }

    /// Submits the backward of a microbatch. `received` is the gradient of the stage's output, or on the last stage
    /// the labels.
    pub(crate) fn backward(
        &mut self,
        tag: &Tag,
        received: &[u8],
        weights: WeightCopy,
    ) -> Result<Ticket, PipelineError> {
        let key = Key::Backward { set: tag.microbatch % self.sets(), samples: tag.samples, weights };
        self.submit(key, self.scalars(tag, true), &[received])
    }

    /// Submits the part of a backward that ends with the gradient of the stage's input.
    pub(crate) fn input_gradient(&mut self, tag: &Tag, received: &[u8]) -> Result<Ticket, PipelineError> {
        let key = Key::InputGradient { set: tag.microbatch % self.sets(), samples: tag.samples };
        self.submit(key, self.scalars(tag, true), &[received])
    }

    /// Submits the rest of a backward: the gradients of the weights.
    pub(crate) fn weight_gradient(&mut self, tag: &Tag) -> Result<Ticket, PipelineError> {
        let key = Key::WeightGradient { set: tag.microbatch % self.sets(), samples: tag.samples };
        self.submit(key, self.scalars(tag, true), &[])
    }

    /// Submits a forward that nothing follows; `labels` are for the last stage.
    pub(crate) fn evaluate(&mut self, tag: &Tag, input: &[u8], labels: Option<&[u8]>) -> Result<Ticket, PipelineError> {
        let parts: Vec<&[u8]> = std::iter::once(input).chain(labels).collect();
        self.submit(Key::Evaluate { samples: tag.samples }, self.scalars(tag, false), &parts)
    }

    /// Submits the update of all weights.
    pub(crate) fn update(&mut self, learning_rate: f32, keep: Option<usize>) -> Result<Ticket, PipelineError> {
        let gradients = self.loss_scale * self.plan.accumulation as f32;
        self.submit(Key::Update { keep }, self.update_scalars(learning_rate, 1.0 / gradients), &[])
    }

    /// Submits the update of all weights where nothing is stale.
    pub(crate) fn plain_update(&mut self, learning_rate: f32) -> Result<Ticket, PipelineError> {
        self.submit(Key::PlainUpdate, self.update_scalars(learning_rate, 1.0 / self.loss_scale), &[])
    }

    /// Drops the gradients that no update has used.
    pub(crate) fn drop_gradients(&mut self) -> Result<(), PipelineError> {
        let ticket = self.leave_out(None)?;
        self.wait(ticket).map(drop)
    }

    /// Submits the end of a step whose update is left out.
    pub(crate) fn leave_out(&mut self, keep: Option<usize>) -> Result<Ticket, PipelineError> {
        self.submit(Key::LeaveOut { keep }, self.update_scalars(0.0, 1.0), &[])
    }

    /// Whether an update that has come back was held, by what it left.
    pub(crate) fn is_held(left: &[u8]) -> bool {
        left.first_chunk().is_some_and(|scalars| Scalars::from_bytes(scalars).hold)
    }

    /// The first gradient that is no number, in the order in which a backward computes them, with the number.
    pub(crate) fn first_bad_gradient(&mut self) -> Result<Option<(String, f64)>, PipelineError> {
        for placed in self.buffers.layout.parameters.iter().rev() {
            let tensor = if placed.tensor == Tensor::B { Tensor::Db } else { Tensor::Dw };
            let bytes = self.executor.read(self.buffers.parameter(placed, tensor));
            let bytes = bytes.map_err(|source| PipelineError::Device { stage: self.index, source })?;
            let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
            if let Some(&bad) = values.iter().find(|value| !value.is_finite()) {
                return Ok(Some((placed.name.clone(), f64::from(bad))));
            }
        }
        Ok(None)
    }

    /// Before a row: makes the copies of the weights that follow from them afresh, and older versions from the newest
    /// where there have been none. `learning_rate` is that of the last update.
    pub(crate) fn refresh(&mut self, learning_rate: f32) -> Result<(), PipelineError> {
        let copies = self.buffers.layout.copies;
        if copies.predicted || copies.set_back {
            let ticket = self.submit(Key::Refresh, self.update_scalars(learning_rate, 1.0), &[])?;
            self.wait(ticket)?;
        }
        if copies.kept > 0 && !self.versions_known {
            let ticket = self.submit(Key::KeepEverywhere, self.update_scalars(learning_rate, 1.0), &[])?;
            self.wait(ticket)?;
        }
        self.versions_known = true;
        Ok(())
    }

    fn update_scalars(&self, learning_rate: f32, gradient_unscale: f32) -> Scalars {
        Scalars { learning_rate, gradient_unscale, seed: self.seed, ..Scalars::new() }
    }

    /// Whether a submission has finished.
    pub(crate) fn is_finished(&mut self, ticket: &Ticket) -> Result<bool, PipelineError> {
        self.executor.is_finished(ticket).map_err(|source| PipelineError::Device { stage: self.index, source })
    }

    /// Waits for a submission.
    pub(crate) fn wait(&mut self, ticket: Ticket) -> Result<Completion, PipelineError> {
        let waited = self.executor.wait(ticket, SUBMISSION_TIMEOUT);
        waited.map_err(|source| PipelineError::Device { stage: self.index, source })
    }

    fn scalars(&self, tag: &Tag, training: bool) -> Scalars {
        Scalars {
            learning_rate: 0.0,
            gradient_scale: self.loss_scale / tag.step_samples as f32,
            gradient_unscale: 1.0 / self.loss_scale,
            first_sample: tag.first_sample,
            seed: self.seed,
            training,
            hold: false,
        }
    }

    fn submit(&mut self, key: Key, scalars: Scalars, parts: &[&[u8]]) -> Result<Ticket, PipelineError> {
        let scalars = scalars.to_bytes();
        let parts: Vec<&[u8]> = std::iter::once(&scalars[..]).chain(parts.iter().copied()).collect();
        self.submit_plain(key, &parts)
    }

    /// Submits a program whose upload slot takes `parts` back to back.
    pub(super) fn submit_plain(&mut self, key: Key, parts: &[&[u8]]) -> Result<Ticket, PipelineError> {
        let stage = self.index;
        self.try_submit(key, parts).map_err(|source| PipelineError::Device { stage, source })
    }

    fn try_submit(&mut self, key: Key, parts: &[&[u8]]) -> Result<Ticket, DeviceError> {
        let program = match self.programs.get(&key) {
            Some(&program) => program,
            None => self.prepare(key)?,
        };
        let mut upload = self.executor.upload(program)?;
        let (mut offset, started) = (0, Instant::now());
        for part in parts {
            upload.write(offset, part);
            offset += part.len();
        }
        self.copied_in = started.elapsed();
        self.executor.submit(program, Some(upload))
    }

    /// Prepares a program that will be submitted, where it is not prepared already.
    pub(super) fn foresee(&mut self, key: Key) -> Result<(), PipelineError> {
        if self.programs.contains_key(&key) {
            return Ok(());
        }
        let stage = self.index;
        self.prepare(key).map(drop).map_err(|source| PipelineError::Device { stage, source })
    }

    /// Whether the results of another program of `lane` have a slot to come back in.
    pub(crate) fn has_room(&mut self, lane: Lane) -> Result<bool, PipelineError> {
        let room = self.executor.has_room(lane as usize);
        room.map_err(|source| PipelineError::Device { stage: self.index, source })
    }

    fn prepare(&mut self, key: Key) -> Result<ProgramId, DeviceError> {
        let program =
            self.executor.prepare(&self.block.program(key, &self.buffers), self.depths[key.lane() as usize])?;
        self.programs.insert(key, program);
        Ok(program)
    }

    /// Reads every parameter with its state, in the order of the layers. An older version that no row has made yet is left
    /// out: whoever goes on from these parameters makes it of the newest, as this stage would.
    pub(crate) fn parameters(&mut self) -> Result<Vec<NamedTensor>, PipelineError> {
        let (plan, versions_known) = (self.plan(), self.versions_known);
        let mut read = |slice: Slice| -> Result<Vec<f32>, PipelineError> {
            let bytes = self.executor.read(slice);
            let bytes = bytes.map_err(|source| PipelineError::Device { stage: self.index, source })?;
            Ok(bytemuck::pod_collect_to_vec(&bytes))
        };
        let placed = self.buffers.layout.parameters.iter();
        placed
            .map(|placed| {
                let weights = read(self.buffers.parameter(placed, Tensor::W))?;
                let momentum = self.buffers.momentum(placed).map_or_else(|| Ok(Vec::new()), &mut read)?;
                let carried = self.buffers.carried(placed, plan).into_iter();
                let carried = carried.filter(|(what, _)| versions_known || *what != Carried::Version);
                let carried = carried.map(|(what, slice)| Ok((what, read(slice)?)));
                let carried = carried.collect::<Result<_, PipelineError>>()?;
                Ok(NamedTensor { name: placed.name.clone(), dims: placed.dims.clone(), weights, momentum, carried })
            })
            .collect()
    }

    /// Reads the largest parameter, as a snapshot does: the most staging memory that one needs.
    pub(super) fn read_largest(&mut self) -> Result<(), PipelineError> {
        let placed = self.buffers.layout.parameters.iter().max_by_key(|placed| placed.elements);
        let Some(largest) = placed.map(|placed| self.buffers.parameter(placed, Tensor::W)) else { return Ok(()) };
        let read = self.executor.read(largest).map(drop);
        read.map_err(|source| PipelineError::Device { stage: self.index, source })
    }

    /// Overwrites the parameters that are named, with their state.
    pub(crate) fn set_parameters(&mut self, parameters: &[NamedTensor]) -> Result<(), PipelineError> {
        let plan = self.plan();
        let versions = parameters.iter().filter(|parameter| parameter.carried.contains_key(&Carried::Version)).count();
        for index in 0..self.buffers.layout.parameters.len() {
            let placed = &self.buffers.layout.parameters[index];
            let Some(parameter) = parameters.iter().find(|parameter| parameter.name == placed.name) else { continue };
            let (weights, momentum) = (self.buffers.parameter(placed, Tensor::W), self.buffers.momentum(placed));
            let carried = self.buffers.carried(placed, plan);
            self.write(weights, &parameter.weights)?;
            momentum.map_or(Ok(()), |slice| self.write(slice, &parameter.momentum))?;
            for (what, slice) in carried {
                parameter.carried.get(&what).map_or(Ok(()), |values| self.write(slice, values))?;
            }
        }
        self.versions_known = plan.weights() == WeightPolicy::DoubleBuffered && versions == parameters.len();
        Ok(())
    }

    fn write(&mut self, slice: Slice, values: &[f32]) -> Result<(), PipelineError> {
        let written = self.executor.write(slice, bytemuck::cast_slice(values));
        written.map_err(|source| PipelineError::Device { stage: self.index, source })
    }
}
