//! What comes to a stage: waited for, held against its tag, and against its checksum where it has one.

use std::time::Instant;

use super::{Event, Worker};
use crate::PipelineError;
use crate::disturb::flipped;
use crate::link::{Message, Payload, Receiver, Tag};
use crate::schedule::{Action, Verb};

/// How often a message is taken from its sender before the link counts as broken.
const ATTEMPTS: usize = 4;

/// Whether the row goes on.
pub(super) enum Next {
    Received(Tag, Payload),
    End { steps: usize },
}

impl Worker {
    /// The message that `action` needs, checked against its tag.
    pub(super) async fn receive(&mut self, action: Action) -> Result<Next, PipelineError> {
        let stage = self.stage.index;
        let message = match self.ready(action.verb) {
            Some(message) => message,
            None => self.wait_for(action).await?,
        };
        match message {
            Message::End { steps } => Ok(Next::End { steps }),
            Message::Microbatch(tag, payload) if tag.microbatch == action.index => {
                Ok(Next::Received(tag, self.checked(action, &tag, payload)?))
            }
            Message::Microbatch(tag, _) => {
                let found = format!("microbatch {}", tag.microbatch);
                Err(PipelineError::WrongMessage { stage, action, wanted: action.index, found })
            }
        }
    }

    fn channel(&mut self, verb: Verb) -> &mut Receiver {
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

    /// What has come, where it has a checksum as it lands on the host. What does not arrive as it left is taken from the
    /// sender's staging slot again.
    fn checked(&mut self, action: Action, tag: &Tag, payload: Payload) -> Result<Payload, PipelineError> {
        let Some(wanted) = tag.checksum else { return Ok(payload) };
        for _ in 0..ATTEMPTS {
            let mut landing = std::mem::take(&mut self.landing);
            landing.clear();
            landing.extend_from_slice(payload.bytes());
            flipped("link.copy", &mut landing);
            if crc32fast::hash(&landing) == wanted {
                return Ok(Payload::Landed(landing));
            }
            self.landing = landing;
            self.report.sent_again += 1;
            let stage = self.stage.index;
            tracing::warn!("stage {stage}, {action}: a message did not arrive as it was sent; it is sent again");
        }
        let (stage, microbatch) = (self.stage.index, tag.microbatch);
        Err(PipelineError::Checksum { stage, action, microbatch, attempts: ATTEMPTS })
    }

    /// Gives a message's slot back to its sender, or keeps the memory that it landed in for the next one.
    pub(super) fn let_go(&mut self, payload: Payload) {
        if let Payload::Landed(landing) = payload {
            self.landing = landing;
        }
    }
}
