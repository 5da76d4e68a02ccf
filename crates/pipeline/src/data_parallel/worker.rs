//! A replica on its thread: its share of the batch, then its side of the exchange.

use std::collections::VecDeque;
use std::sync::mpsc;

use brigade_devices::{Completion, Ticket};
use tokio::sync::mpsc::channel;

use super::{PIECES_UNDER_WAY, WorkerReport};
use crate::link::{Message, Payload, Receiver, Sender, Tag};
use crate::schedule::Action;
use crate::stage::exchange::Piece;
use crate::stage::{Lane, Stage};
use crate::staleness::WeightCopy;
use crate::{Metrics, PipelineError};

/// What a worker tells the driver.
pub(super) enum Told {
    /// Loss and right answers of its share of a step.
    Metrics(Metrics),
    /// What it has counted.
    Report(WorkerReport),
    /// It has ended.
    Failed(PipelineError),
}

/// The worker's ends of its channels.
pub(super) struct Ends {
    feed: Receiver,
    gradients: Sender,
    weights: Receiver,
}

/// The host's ends of the way to one worker.
pub(super) struct Bus {
    pub(super) gradients: Receiver,
    pub(super) weights: Sender,
}

impl Ends {
    /// A worker's ends, what feeds it, and the host's ends. Weights of `pieces` pieces fit the way to the worker, so
    /// that the host never waits for one that still sends.
    pub(super) fn join(pieces: usize) -> (Self, Sender, Bus) {
        let (feed, fed) = channel(2);
        let (to_host, gradients) = channel(1);
        let (weights, from_host) = channel(pieces.max(1));
        (Self { feed: fed, gradients: to_host, weights: from_host }, feed, Bus { gradients, weights })
    }
}

/// A replica with its channels.
pub(super) struct Worker {
    stage: Stage,
    ends: Ends,
    tell: mpsc::Sender<Told>,
    pieces: Vec<Piece>,
    gradient_bytes: u64,
    weight_bytes: u64,
}

impl Worker {
    pub(super) fn new(stage: Stage, ends: Ends, tell: mpsc::Sender<Told>) -> Self {
        let pieces = stage.pieces();
        Self { stage, ends, tell, pieces, gradient_bytes: 0, weight_bytes: 0 }
    }

    pub(super) fn index(&self) -> usize {
        self.stage.index
    }

    pub(super) fn teller(&self) -> mpsc::Sender<Told> {
        self.tell.clone()
    }

    /// Steps until nothing is fed any more. An `End` asks for what has been counted.
    pub(super) fn run(mut self) -> Result<(), PipelineError> {
        while let Some(message) = self.ends.feed.blocking_recv() {
            match message {
                Message::Microbatch(tag, input) => self.step(&tag, &input)?,
                Message::End { .. } => self.tell(Told::Report(self.report())),
            }
        }
        Ok(())
    }

    fn step(&mut self, tag: &Tag, input: &Payload) -> Result<(), PipelineError> {
        // One activation set serves every step.
        let tag = &Tag { microbatch: 0, ..*tag };
        let forward = self.stage.forward(tag, input.bytes(), WeightCopy::Current)?;
        let Some(Message::Microbatch(_, labels)) = self.ends.feed.blocking_recv() else {
            return Err(self.left_alone());
        };
        let backward = self.stage.backward(tag, labels.bytes(), WeightCopy::Current)?;
        self.stage.wait(forward)?;
        let done = self.stage.wait(backward)?;
        let metrics = done.download.map(|download| Metrics::read(tag.samples, &download)).unwrap_or_default();
        self.send_gradients(tag)?;
        self.receive_weights()?;
        self.tell(Told::Metrics(metrics));
        Ok(())
    }

    /// Sends piece after piece, the next one already being copied while the host takes the one before.
    fn send_gradients(&mut self, tag: &Tag) -> Result<(), PipelineError> {
        let mut under_way: VecDeque<Ticket> = VecDeque::new();
        for index in 0..self.pieces.len() {
            while !under_way.is_empty() && !self.stage.has_room(Lane::Own)? {
                self.deliver(tag, under_way.pop_front())?;
            }
            under_way.push_back(self.stage.send_gradients(self.pieces[index])?);
            if under_way.len() == PIECES_UNDER_WAY {
                self.deliver(tag, under_way.pop_front())?;
            }
        }
        under_way.into_iter().try_for_each(|ticket| self.deliver(tag, Some(ticket)))
    }

    fn deliver(&mut self, tag: &Tag, ticket: Option<Ticket>) -> Result<(), PipelineError> {
        let Some(ticket) = ticket else { return Ok(()) };
        let Completion { download: Some(download), .. } = self.stage.wait(ticket)? else { return Ok(()) };
        self.gradient_bytes += download.len() as u64;
        let message = Message::Microbatch(*tag, Payload::Slot(download, 0));
        self.ends.gradients.blocking_send(message).map_err(|_| self.left_alone())
    }

    fn receive_weights(&mut self) -> Result<(), PipelineError> {
        let mut under_way: VecDeque<Ticket> = VecDeque::new();
        for index in 0..self.pieces.len() {
            let Some(Message::Microbatch(_, weights)) = self.ends.weights.blocking_recv() else {
                return Err(self.left_alone());
            };
            self.weight_bytes += weights.bytes().len() as u64;
            under_way.push_back(self.stage.receive_weights(self.pieces[index], weights.bytes())?);
            if under_way.len() == PIECES_UNDER_WAY {
                self.settle(under_way.pop_front())?;
            }
        }
        under_way.into_iter().try_for_each(|ticket| self.settle(Some(ticket)))
    }

    fn settle(&mut self, ticket: Option<Ticket>) -> Result<(), PipelineError> {
        ticket.map_or(Ok(()), |ticket| self.stage.wait(ticket).map(drop))
    }

    /// The host has gone; it knows why.
    fn left_alone(&self) -> PipelineError {
        PipelineError::Disconnected { stage: self.stage.index, action: Action::update(0) }
    }

    /// Where nobody listens any more the replicas are being dropped.
    fn tell(&self, told: Told) {
        let _ = self.tell.send(told);
    }

    fn report(&self) -> WorkerReport {
        let ledger = self.stage.executor().ledger();
        WorkerReport {
            worker: self.stage.index,
            gradient_bytes: self.gradient_bytes,
            weight_bytes: self.weight_bytes,
            peak_bytes: ledger.peak_bytes(),
            bytes: ledger.by_purpose().collect(),
        }
    }
}
