//! The worker: a thread of its own that walks its stage's row.
//!
//! It keeps up to two submissions in flight. An action whose message has already come is copied and submitted while
//! the one before it still computes; where the message has not come, everything in flight is finished and sent on
//! first, so that a neighbour never waits for a result that is ready.

mod incoming;
mod outgoing;
mod turns;

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use brigade_devices::Ticket;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Lane, Stage};
use crate::link::{Ends, Payload, Tag};
use crate::report::StageReport;
use crate::schedule::{Action, Schedule, Verb};
use crate::staleness::{Course, Versions, WeightCopy};
use crate::train::LearningRate;
use crate::{NamedTensor, PipelineError};
use incoming::Next;
use outgoing::InFlight;
pub(crate) use turns::Turns;

/// What a worker is told to do.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Walk the row of a segment.
    Train(Segment),
    /// Run this many microbatches forward.
    Evaluate { microbatches: usize },
    /// Read all parameters.
    Read,
    /// Overwrite parameters.
    Write(Vec<NamedTensor>),
}

/// A stretch of training between two moments at which the pipes are empty.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    /// Microbatches of each step.
    pub(crate) steps: Vec<usize>,
    /// The run's step that the segment starts with.
    pub(crate) first_step: usize,
    pub(crate) learning_rate: LearningRate,
    /// Whether every action is recorded with its times.
    pub(crate) record: bool,
    /// Whether nothing is to be stale in it, whatever the schedule.
    pub(crate) synchronous: bool,
    /// Steps of the run whose update is left out.
    pub(crate) left_out: Arc<BTreeSet<usize>>,
}

/// What a worker tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// The last stage computed a microbatch's loss.
    Metrics { samples: usize, loss_sum: f64, correct: usize },
    /// A stage has come to an action of its row, and computes it or waits for its message.
    At { stage: usize, action: Action, waiting: bool },
    /// An order has been carried out.
    Done(Box<StageReport>),
    /// All parameters of a stage.
    Parameters { stage: usize, parameters: Vec<NamedTensor> },
    /// The worker has ended with an error.
    Failed { error: PipelineError },
}

/// A stage with its links, on the way through a row.
pub(crate) struct Worker {
    stage: Stage,
    schedule: Schedule,
    ends: Ends,
    events: mpsc::Sender<Event>,
    in_flight: VecDeque<InFlight>,
    /// Microbatches whose weights still want their gradient.
    begun: VecDeque<Tag>,
    report: StageReport,
    record: bool,
    clock: Clock,
    last_finished: Option<Instant>,
    /// Whether what passes between stages is summed up and checked.
    checksums: bool,
    /// Where what has come is checked before it goes to the device.
    landing: Vec<u8>,
    /// The run's step that the segment at hand starts with.
    first_step: usize,
    /// Shared with the other layer-blocks of the device, where there are any.
    turns: Option<Turns>,
    /// Turns of the segments before the one at hand.
    turns_before: usize,
    /// When the order at hand began.
    started: Instant,
}

/// The published cycles, counted as they happen: within a cycle a stage runs its backward before its forward, and a
/// message sent in one cycle is read in a later one.
#[derive(Default)]
struct Clock {
    forward: u64,
    backward: u64,
}

impl Clock {
    fn tick(&mut self, verb: Verb, received: u64) -> u64 {
        match verb {
            Verb::Forward => {
                self.forward = (self.forward + 1).max(self.backward).max(received + 1);
                self.forward
            }
            Verb::Backward | Verb::InputGradient => {
                self.backward = (self.backward + 1).max(self.forward + 1).max(received + 1);
                self.backward
            }
            Verb::WeightGradient | Verb::Update => self.backward,
        }
    }
}

impl Worker {
    pub(crate) fn new(
        stage: Stage,
        schedule: Schedule,
        ends: Ends,
        turns: Option<Turns>,
        events: mpsc::Sender<Event>,
        checksums: bool,
    ) -> Self {
        let report = StageReport::new(stage.index);
        Self {
            stage,
            schedule,
            ends,
            events,
            in_flight: VecDeque::new(),
            begun: VecDeque::new(),
            report,
            record: false,
            clock: Clock::default(),
            last_finished: None,
            checksums,
            landing: Vec::new(),
            first_step: 0,
            turns,
            turns_before: 0,
            started: Instant::now(),
        }
    }

    /// Which stage, from 0.
    pub(crate) fn stage(&self) -> usize {
        self.stage.index
    }

    /// Drops the ends of the links, so that the neighbours notice at once, and so do the other blocks of the device.
    pub(crate) fn disconnect(&mut self) {
        self.turns.iter().for_each(Turns::end);
        self.ends = crate::link::Ends::none();
    }

    /// Carries out orders until there are no more.
    pub(crate) async fn run(&mut self, mut orders: UnboundedReceiver<Order>) -> Result<(), PipelineError> {
        while let Some(order) = orders.recv().await {
            match order {
                Order::Train(segment) => self.train(&segment).await?,
                Order::Evaluate { microbatches } => self.evaluate(microbatches).await?,
                Order::Read => {
                    let event = Event::Parameters { stage: self.stage.index, parameters: self.stage.parameters()? };
                    self.tell(event);
                    continue;
                }
                Order::Write(parameters) => self.stage.set_parameters(&parameters)?,
            }
            self.finish_order();
        }
        Ok(())
    }

    /// Where nobody listens any more the pipeline is being dropped, and the orders end as well.
    fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn finish_order(&mut self) {
        let mut report = std::mem::replace(&mut self.report, StageReport::new(self.stage.index));
        report.elapsed = self.started.elapsed();
        report.staleness = self.stage.plan().staleness;
        report.peak_bytes = self.stage.executor().ledger().peak_bytes();
        report.bytes = self.stage.executor().ledger().by_purpose().collect();
        self.tell(Event::Done(Box::new(report)));
    }

    async fn train(&mut self, segment: &Segment) -> Result<(), PipelineError> {
        self.start(segment.record);
        self.first_step = segment.first_step;
        let course = Course::new(self.schedule, self.stage.plan(), segment.synchronous);
        let Course { schedule, plan, .. } = course;
        let mut row = schedule.row(self.stage.index, &segment.steps);
        let mut turns = schedule.turns(self.stage.index, &segment.steps);
        let mut done = segment.steps.as_slice();
        let mut versions = Versions::new(plan, &row, done, segment.first_step);
        let before = plan.last_updated_step(segment.first_step);
        self.stage.refresh(segment.learning_rate.at(before) * plan.rate_factor(before))?;
        if course.drops_gradients {
            self.stage.drop_gradients()?;
        }
        let mut position = 0;
        while let Some(&action) = row.get(position) {
            self.tell(Event::At { stage: self.stage.index, action, waiting: false });
            self.make_room(Lane::of(action.verb)).await?;
            match action.verb {
                Verb::Update => {
                    if let Some(ticket) = self.update(action, segment, course, &versions)? {
                        self.push(action, None, ticket).await?;
                    }
                }
                Verb::WeightGradient => self.weight_gradient(action).await?,
                Verb::Forward | Verb::Backward | Verb::InputGradient => match self.receive(action).await? {
                    Next::End { steps } => {
                        self.pass_end_on(steps).await?;
                        done = &segment.steps[..steps];
                        row = schedule.row(self.stage.index, done);
                        turns = schedule.turns(self.stage.index, done);
                        versions = Versions::new(plan, &row, done, segment.first_step);
                        continue;
                    }
                    Next::Received(tag, payload) => {
                        self.take_turn(action, turns[position]).await?;
                        let weights = match action.verb {
                            Verb::Forward => versions.forward(action.index),
                            _ => versions.backward(action.index),
                        };
                        let ticket = self.submit(action, &tag, &payload, weights)?;
                        self.pass_turn(turns[position]);
                        self.let_go(payload);
                        self.push(action, Some(tag), ticket).await?;
                    }
                },
            }
            position += 1;
        }
        self.turns_before += schedule.turns_of_a_device(done);
        self.retire_down_to(0).await
    }

    /// Submits the update at the end of a step, where the step ends with one.
    fn update(
        &mut self,
        action: Action,
        segment: &Segment,
        course: Course,
        versions: &Versions,
    ) -> Result<Option<Ticket>, PipelineError> {
        let step = segment.first_step + action.index;
        let rate = segment.learning_rate.at(step);
        let span = tracing::debug_span!("action", stage = self.stage.index, %action);
        let _entered = span.enter();
        let left_out = segment.left_out.contains(&step);
        if course.finishes {
            let ended = if left_out { self.stage.leave_out(None) } else { self.stage.plain_update(rate) };
            return ended.map(Some);
        }
        if !course.plan.updates_after(step) {
            return Ok(None);
        }
        let keep = versions.kept_by_update(action.index);
        let rate = rate * course.plan.rate_factor(step);
        let ended = if left_out { self.stage.leave_out(keep) } else { self.stage.update(rate, keep) };
        ended.map(Some)
    }

    fn submit(
        &mut self,
        action: Action,
        tag: &Tag,
        payload: &Payload,
        weights: WeightCopy,
    ) -> Result<Ticket, PipelineError> {
        let bytes = payload.bytes();
        let (stage, microbatch) = (self.stage.index, tag.microbatch);
        let span = tracing::debug_span!("action", stage, %action, microbatch, bytes = bytes.len());
        let _entered = span.enter();
        self.count_ends(action.verb, tag, bytes.len());
        let ticket = match action.verb {
            Verb::Forward => self.stage.forward(tag, bytes, weights),
            Verb::InputGradient => {
                self.begun.push_back(*tag);
                self.stage.input_gradient(tag, bytes)
            }
            Verb::Backward | Verb::WeightGradient | Verb::Update => self.stage.backward(tag, bytes, weights),
        }?;
        self.report.count_received(action.verb, self.stage.copied_in());
        Ok(ticket)
    }

    /// The rest of the oldest backward that has been begun.
    async fn weight_gradient(&mut self, action: Action) -> Result<(), PipelineError> {
        let stage = self.stage.index;
        let Some(tag) = self.begun.pop_front().filter(|tag| tag.microbatch == action.index) else {
            let found = "a row that never began it".into();
            return Err(PipelineError::WrongMessage { stage, action, wanted: action.index, found });
        };
        let span = tracing::debug_span!("action", stage, %action, microbatch = tag.microbatch);
        let ticket = span.in_scope(|| self.stage.weight_gradient(&tag))?;
        self.push(action, None, ticket).await
    }

    /// What enters at the first stage and what leaves the last layer.
    fn count_ends(&mut self, verb: Verb, tag: &Tag, received: usize) {
        if verb != Verb::Forward {
            return;
        }
        if self.ends.to_previous.is_none() {
            self.report.input_bytes += received as u64;
        }
        if self.ends.to_next.is_none() {
            self.report.output_bytes += self.stage.output_bytes(tag.samples);
        }
    }

    async fn evaluate(&mut self, microbatches: usize) -> Result<(), PipelineError> {
        self.start(false);
        for index in 0..microbatches {
            let action = Action::forward(index);
            self.tell(Event::At { stage: self.stage.index, action, waiting: false });
            self.make_room(Lane::Next).await?;
            let (tag, input) = match self.receive(action).await? {
                Next::Received(tag, input) => (tag, input),
                Next::End { steps } => {
                    self.pass_end_on(steps).await?;
                    break;
                }
            };
            let labels = match self.ends.to_next {
                Some(_) => None,
                None => match self.receive(Action::backward(index)).await? {
                    Next::Received(_, labels) => Some(labels),
                    Next::End { .. } => None,
                },
            };
            let ticket = self.stage.evaluate(&tag, input.bytes(), labels.as_ref().map(Payload::bytes))?;
            self.let_go(input);
            drop(labels);
            self.push_as(action, Some(tag), ticket, true).await?;
        }
        self.retire_down_to(0).await
    }

    fn start(&mut self, record: bool) {
        self.record = record;
        self.clock = Clock::default();
        self.begun.clear();
        self.last_finished = None;
        self.started = Instant::now();
        self.report = StageReport::new(self.stage.index);
    }
}
