//! The worker: a thread of its own that walks its stage's row.
//!
//! It keeps up to two submissions in flight. An action whose message has already come is copied and submitted while
//! the one before it still computes; where the message has not come, everything in flight is finished and sent on
//! first, so that a neighbour never waits for a result that is ready.

use std::collections::VecDeque;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use brigade_devices::Ticket;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{Parameter, Stage};
use crate::disturb::disturbed;
use crate::link::{Ends, Message, Payload, Sender, Tag};
use crate::report::{Record, StageReport};
use crate::schedule::{Action, Kind, Schedule, Verb};
use crate::staleness::{StagePlan, Versions, WeightCopy};
use crate::train::LearningRate;
use crate::{Metrics, PipelineError};

/// Submissions in flight.
const IN_FLIGHT: usize = 2;

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
    Write(Vec<Parameter>),
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
    /// Whether the segment runs under `1f1b` whatever the schedule, so that nothing is stale.
    pub(crate) synchronous: bool,
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
    Parameters { stage: usize, parameters: Vec<Parameter> },
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
    /// When the order at hand began.
    started: Instant,
}

/// A submission that has not been waited for.
struct InFlight {
    action: Action,
    tag: Option<Tag>,
    cycle: u64,
    ticket: Ticket,
    evaluation: bool,
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

/// Whether the row goes on.
enum Next {
    Received(Tag, Payload),
    End { steps: usize },
}

impl Worker {
    pub(crate) fn new(stage: Stage, schedule: Schedule, ends: Ends, events: mpsc::Sender<Event>) -> Self {
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
            started: Instant::now(),
        }
    }

    /// Which stage, from 0.
    pub(crate) fn stage(&self) -> usize {
        self.stage.index
    }

    /// Drops the ends of the links, so that the neighbours notice at once.
    pub(crate) fn disconnect(&mut self) {
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
        let (schedule, plan) = self.course(segment);
        let mut row = schedule.row(self.stage.index, &segment.steps);
        let mut versions = Versions::new(plan, &row, &segment.steps, segment.first_step);
        let before = plan.last_updated_step(segment.first_step);
        self.stage.refresh(segment.learning_rate.at(before) * plan.rate_factor(before))?;
        let mut position = 0;
        while let Some(&action) = row.get(position) {
            self.tell(Event::At { stage: self.stage.index, action, waiting: false });
            match action.verb {
                Verb::Update => {
                    if let Some(ticket) = self.update(action, segment, &versions)? {
                        self.push(action, None, ticket).await?;
                    }
                }
                Verb::WeightGradient => self.weight_gradient(action).await?,
                Verb::Forward | Verb::Backward | Verb::InputGradient => match self.receive(action).await? {
                    Next::End { steps } => {
                        self.pass_end_on(steps).await?;
                        row = schedule.row(self.stage.index, &segment.steps[..steps]);
                        versions = Versions::new(plan, &row, &segment.steps[..steps], segment.first_step);
                        continue;
                    }
                    Next::Received(tag, payload) => {
                        let weights = match action.verb {
                            Verb::Forward => versions.forward(action.index),
                            _ => versions.backward(action.index),
                        };
                        let ticket = self.submit(action, &tag, &payload, weights)?;
                        drop(payload);
                        self.push(action, Some(tag), ticket).await?;
                    }
                },
            }
            position += 1;
        }
        self.retire_down_to(0).await
    }

    /// The schedule of a segment, and what is done about its staleness.
    fn course(&self, segment: &Segment) -> (Schedule, StagePlan) {
        if segment.synchronous {
            let schedule = Schedule::new(Kind::OneForwardOneBackward, self.schedule.stages);
            (schedule, StagePlan::synchronous())
        } else {
            (self.schedule, self.stage.plan())
        }
    }

    /// Submits the update at the end of a step, where the step ends with one.
    fn update(
        &mut self,
        action: Action,
        segment: &Segment,
        versions: &Versions,
    ) -> Result<Option<Ticket>, PipelineError> {
        let step = segment.first_step + action.index;
        let rate = segment.learning_rate.at(step);
        let span = tracing::debug_span!("action", stage = self.stage.index, %action);
        let _entered = span.enter();
        if segment.synchronous {
            return self.stage.plain_update(rate).map(Some);
        }
        let plan = self.stage.plan();
        let updates = plan.updates_after(step);
        let keep = versions.kept_by_update(action.index);
        updates.then(|| self.stage.update(rate * plan.rate_factor(step), keep)).transpose()
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
        match action.verb {
            Verb::Forward => self.stage.forward(tag, bytes, weights),
            Verb::InputGradient => {
                self.begun.push_back(*tag);
                self.stage.input_gradient(tag, bytes)
            }
            Verb::Backward | Verb::WeightGradient | Verb::Update => self.stage.backward(tag, bytes, weights),
        }
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
            drop((input, labels));
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

    /// The message that `action` needs, checked against its tag.
    async fn receive(&mut self, action: Action) -> Result<Next, PipelineError> {
        let stage = self.stage.index;
        let message = match self.ready(action.verb) {
            Some(message) => message,
            None => self.wait_for(action).await?,
        };
        match message {
            Message::End { steps } => Ok(Next::End { steps }),
            Message::Microbatch(tag, payload) if tag.microbatch == action.index => Ok(Next::Received(tag, payload)),
            Message::Microbatch(tag, _) => {
                let found = format!("microbatch {}", tag.microbatch);
                Err(PipelineError::WrongMessage { stage, action, wanted: action.index, found })
            }
        }
    }

    fn channel(&mut self, verb: Verb) -> &mut crate::link::Receiver {
        match verb {
            Verb::Forward => &mut self.ends.upstream,
            _ => &mut self.ends.downstream,
        }
    }

    /// A message that has already come.
    fn ready(&mut self, verb: Verb) -> Option<Message> {
        self.channel(verb).try_recv().ok()
    }

    /// Sends on what is in flight, as it finishes, and then waits for the message.
    async fn wait_for(&mut self, action: Action) -> Result<Message, PipelineError> {
        while !self.in_flight.is_empty() {
            self.retire().await?;
            if let Some(message) = self.ready(action.verb) {
                return Ok(message);
            }
        }
        let started = Instant::now();
        let stage = self.stage.index;
        self.tell(Event::At { stage, action, waiting: true });
        let message = self.channel(action.verb).recv().await;
        self.report.waited += started.elapsed();
        self.tell(Event::At { stage, action, waiting: false });
        message.ok_or(PipelineError::Disconnected { stage: self.stage.index, action })
    }

    async fn push(&mut self, action: Action, tag: Option<Tag>, ticket: Ticket) -> Result<(), PipelineError> {
        self.push_as(action, tag, ticket, false).await
    }

    async fn push_as(
        &mut self,
        action: Action,
        tag: Option<Tag>,
        ticket: Ticket,
        evaluation: bool,
    ) -> Result<(), PipelineError> {
        let cycle = self.clock.tick(action.verb, tag.map_or(0, |tag| tag.cycle));
        self.in_flight.push_back(InFlight { action, tag, cycle, ticket, evaluation });
        self.retire_finished().await?;
        self.retire_down_to(IN_FLIGHT).await
    }

    /// Sends on what has finished already.
    async fn retire_finished(&mut self) -> Result<(), PipelineError> {
        while let Some(oldest) = self.in_flight.front() {
            if !self.stage.is_finished(&oldest.ticket)? {
                break;
            }
            self.retire().await?;
        }
        Ok(())
    }

    async fn retire_down_to(&mut self, remaining: usize) -> Result<(), PipelineError> {
        while self.in_flight.len() > remaining {
            self.retire().await?;
        }
        Ok(())
    }

    /// Waits for the oldest submission and sends on what it leaves.
    async fn retire(&mut self) -> Result<(), PipelineError> {
        let Some(done) = self.in_flight.pop_front() else { return Ok(()) };
        let completion = self.stage.wait(done.ticket)?;
        let busy = self.note_time(completion.submitted, completion.finished);
        self.report.count(done.action.verb, completion.device_time.unwrap_or(busy));
        self.report.note(&completion);
        if self.record {
            let (action, cycle, end) = (done.action, done.cycle, completion.finished);
            self.report.records.push(Record { action, cycle, start: end - busy, end });
        }
        let (Some(tag), Some(download)) = (done.tag, completion.download) else { return Ok(()) };
        let tag = Tag { cycle: done.cycle, ..tag };
        if self.ends.to_next.is_none() && (done.evaluation || done.action.verb.passes_gradients()) {
            let Metrics { samples: _, loss_sum, correct } = Metrics::read(tag.samples, &download);
            self.tell(Event::Metrics { samples: tag.samples, loss_sum, correct });
        }
        self.send(done.action, tag, download).await
    }

    /// The time in which this submission had the device to itself.
    fn note_time(&mut self, submitted: Instant, finished: Instant) -> Duration {
        let start = self.last_finished.map_or(submitted, |last| last.max(submitted));
        self.last_finished = Some(finished);
        finished.saturating_duration_since(start)
    }

    async fn send(
        &mut self,
        action: Action,
        tag: Tag,
        download: brigade_devices::Download,
    ) -> Result<(), PipelineError> {
        let to = match action.verb {
            Verb::Forward => &self.ends.to_next,
            _ => &self.ends.to_previous,
        };
        let Some(to) = to else { return Ok(()) };
        // On the last stage the metrics come before the gradient.
        let skip = if action.verb.passes_gradients() && self.ends.to_next.is_none() { 8 * tag.samples } else { 0 };
        let bytes = (download.len() - skip) as u64;
        match action.verb {
            Verb::Forward => self.report.activation_bytes += bytes,
            _ => self.report.gradient_bytes += bytes,
        }
        let message = Message::Microbatch(tag, Payload::Slot(download, skip));
        for message in disturbed("link.send", message) {
            let sent = deliver(to, message).await;
            sent.map_err(|()| PipelineError::Disconnected { stage: self.stage.index, action })?;
        }
        Ok(())
    }

    async fn pass_end_on(&mut self, steps: usize) -> Result<(), PipelineError> {
        let stage = self.stage.index;
        self.retire_down_to(0).await?;
        match &self.ends.to_next {
            Some(next) => deliver(next, Message::End { steps })
                .await
                .map_err(|()| PipelineError::Disconnected { stage, action: Action::update(steps) }),
            None => Ok(()),
        }
    }
}

async fn deliver(to: &Sender, message: Message) -> Result<(), ()> {
    to.send(message).await.map_err(|_| ())
}
