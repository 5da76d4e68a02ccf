//! What leaves a stage: submissions waited for in their order, their results counted and sent on.

use std::time::{Duration, Instant};

use brigade_devices::{Download, Ticket};

use super::{Event, Worker};
use crate::disturb::disturbed;
use crate::link::{Message, Payload, Sender, Tag};
use crate::report::Record;
use crate::schedule::{Action, Verb};
use crate::stage::{Lane, Stage};
use crate::{Metrics, PipelineError};

/// Submissions in flight.
const IN_FLIGHT: usize = 2;

/// A submission that has not been waited for.
pub(super) struct InFlight {
    pub(super) action: Action,
    pub(super) tag: Option<Tag>,
    pub(super) cycle: u64,
    pub(super) ticket: Ticket,
    pub(super) evaluation: bool,
}

impl Worker {
    pub(super) async fn push(&mut self, action: Action, tag: Option<Tag>, ticket: Ticket) -> Result<(), PipelineError> {
        self.push_as(action, tag, ticket, false).await
    }

    pub(super) async fn push_as(
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

    /// Sends on what is in flight until a slot is free for what a program of `lane` leaves.
    pub(super) async fn make_room(&mut self, lane: Lane) -> Result<(), PipelineError> {
        while !self.in_flight.is_empty() && !self.stage.has_room(lane)? {
            self.retire().await?;
        }
        Ok(())
    }

    pub(super) async fn retire_down_to(&mut self, remaining: usize) -> Result<(), PipelineError> {
        while self.in_flight.len() > remaining {
            self.retire().await?;
        }
        Ok(())
    }

    /// Waits for the oldest submission and sends on what it leaves.
    pub(super) async fn retire(&mut self) -> Result<(), PipelineError> {
        let Some(done) = self.in_flight.pop_front() else { return Ok(()) };
        let completion = self.stage.wait(done.ticket)?;
        let busy = self.note_time(completion.submitted, completion.finished);
        self.report.count(done.action.verb, completion.device_time.unwrap_or(busy));
        self.report.note(&completion);
        if self.record {
            let (action, cycle, end) = (done.action, done.cycle, completion.finished);
            self.report.records.push(Record { action, cycle, start: end - busy, end });
        }
        let Some(download) = completion.download else { return Ok(()) };
        let Some(tag) = done.tag else { return self.check_applied(done.action, &download) };
        let tag = Tag { cycle: done.cycle, ..tag };
        if self.ends.to_next.is_none() && (done.evaluation || done.action.verb.passes_gradients()) {
            let Metrics { samples: _, loss_sum, correct } = Metrics::read(tag.samples, &download);
            self.tell(Event::Metrics { samples: tag.samples, loss_sum, correct });
        }
        self.send(done.action, tag, download).await
    }

    /// Ends with an error where the device held an update, and names what held it.
    fn check_applied(&mut self, action: Action, left: &[u8]) -> Result<(), PipelineError> {
        if action.verb != Verb::Update || !Stage::is_held(left) {
            return Ok(());
        }
        // Later microbatches may have added to the gradients since, but none makes a number of what is none.
        let found = self.stage.first_bad_gradient()?;
        let (parameter, value) = found.unwrap_or_else(|| ("some parameter".to_owned(), f64::NAN));
        let (stage, step) = (self.stage.index, self.first_step + action.index);
        Err(PipelineError::NotFinite { stage, step, tensor: format!("the gradient of {parameter}"), value })
    }

    /// The time in which this submission had the device to itself.
    fn note_time(&mut self, submitted: Instant, finished: Instant) -> Duration {
        let start = self.last_finished.map_or(submitted, |last| last.max(submitted));
        self.last_finished = Some(finished);
        finished.saturating_duration_since(start)
    }

    async fn send(&mut self, action: Action, tag: Tag, download: Download) -> Result<(), PipelineError> {
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
        let checksum = self.checksums.then(|| crc32fast::hash(&download[skip..]));
        let message = Message::Microbatch(Tag { checksum, ..tag }, Payload::Slot(download, skip));
        for message in disturbed("link.send", message) {
            let sent = deliver(to, message).await;
            sent.map_err(|()| PipelineError::Disconnected { stage: self.stage.index, action })?;
        }
        Ok(())
    }

    pub(super) async fn pass_end_on(&mut self, steps: usize) -> Result<(), PipelineError> {
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
