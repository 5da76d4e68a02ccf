//! Which of several errors began it.

use std::cmp::Reverse;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::PipelineError;
use crate::stage::worker::Event;

/// How long the other workers have to say why they ended, once one has.
const GRACE: Duration = Duration::from_secs(5);

/// The precedence of an error that cannot follow from another stage's.
const BEGAN_IT: (u8, usize, Reverse<usize>) = (0, 0, Reverse(0));

/// Of the errors that follow one another when one of `workers` that were at work ends, the one that began it. What is no
/// number spreads to the stages before it: there the others are heard as well.
pub(super) fn root_cause(first: PipelineError, workers: usize, events: &Receiver<Event>) -> PipelineError {
    let mut error = first;
    let mut heard = 1;
    while heard < workers && precedence(&error) > BEGAN_IT {
        match events.recv_timeout(GRACE) {
            Ok(Event::Failed { error: other }) => {
                heard += 1;
                if precedence(&other) < precedence(&error) {
                    error = other;
                }
            }
            Ok(Event::Done(_)) => heard += 1,
            Ok(_) => {}
            Err(_) => break,
        }
    }
    error
}

/// Lower for what is more likely to have begun it: what is no number appears at the earliest step, and there at the
/// latest stage, as gradients flow from there.
fn precedence(error: &PipelineError) -> (u8, usize, Reverse<usize>) {
    match error {
        PipelineError::NotFinite { step, stage, .. } => (1, *step, Reverse(*stage)),
        PipelineError::Disconnected { .. } => (2, 0, Reverse(0)),
        _ => BEGAN_IT,
    }
}
