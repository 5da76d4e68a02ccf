//! Layer-blocks of one device take turns, in the order of the device's row.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use super::{Event, Worker};
use crate::PipelineError;
use crate::schedule::Action;

/// Whose turn it is among the layer-blocks of a device, counted over all of a run.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<watch::Sender<usize>>);

/// The turn of nobody: a stage of the device has ended.
const OVER: usize = usize::MAX;

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    fn is_at(&self, turn: usize) -> bool {
        *self.0.borrow() == turn
    }

    /// Waits until it is `turn`'s; false where it never will be.
    async fn come_to(&self, turn: usize) -> bool {
        let mut now = self.0.subscribe();
        now.wait_for(|&at| at == turn || at == OVER).await.is_ok_and(|at| *at == turn)
    }

    fn pass(&self) {
        self.0.send_modify(|at| *at = at.saturating_add(1));
    }

    /// Nobody of this device goes on.
    pub(super) fn end(&self) {
        self.0.send_replace(OVER);
    }
}

impl Worker {
    /// Waits until the device comes to `action`, its message having come. What is in flight is sent on before: the other
    /// layer-blocks may wait for it.
    pub(super) async fn take_turn(&mut self, action: Action, turn: Option<usize>) -> Result<(), PipelineError> {
        let Some((turns, turn)) = self.turns.clone().zip(turn) else { return Ok(()) };
        let turn = self.turns_before + turn;
        if turns.is_at(turn) {
            return Ok(());
        }
        self.retire_down_to(0).await?;
        let (started, stage) = (Instant::now(), self.stage.index);
        self.tell(Event::At { stage, action, waiting: true });
        let come = turns.come_to(turn).await;
        self.report.waited += started.elapsed();
        self.tell(Event::At { stage, action, waiting: false });
        if come { Ok(()) } else { Err(PipelineError::Disconnected { stage, action }) }
    }

    /// Lets the device go on to its next action.
    pub(super) fn pass_turn(&self, turn: Option<usize>) {
        if let Some((turns, _)) = self.turns.as_ref().zip(turn) {
            turns.pass();
        }
    }
}
