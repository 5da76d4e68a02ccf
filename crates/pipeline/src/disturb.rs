//! The seam of the link: what a planted fault makes of a message on its way. Without the feature `faults` of
//! `brigade-devices` a message is always itself.

use std::cell::RefCell;

use brigade_devices::Download;
use brigade_devices::fault::{self, Fault};

use crate::link::{Message, Payload};

thread_local! {
    /// A message that the next one overtakes. Each sender has a thread of its own.
    static HELD: RefCell<Option<Message>> = const { RefCell::new(None) };
}

/// Flips a bit in the middle of `bytes`, where a planted fault says so.
pub(crate) fn flipped(site: &str, bytes: &mut [u8]) {
    let middle = bytes.len() / 2;
    if let (Some(Fault::Flip), Some(byte)) = (fault::at(site), bytes.get_mut(middle)) {
        *byte ^= 1;
    }
}

/// What is sent in place of `message` at `site`.
pub(crate) fn disturbed(site: &str, message: Message) -> Vec<Message> {
    let fault = fault::at(site);
    let held = HELD.take();
    let (mut tag, payload) = match message {
        Message::Microbatch(tag, payload) => (tag, payload),
        end @ Message::End { .. } => return held.into_iter().chain([end]).collect(),
    };
    let mut sent = match fault {
        Some(Fault::Drop) => Vec::new(),
        Some(Fault::Double) => {
            let copy = Payload::Slot(Download::from(payload.bytes().to_vec()), 0);
            vec![Message::Microbatch(tag, copy), Message::Microbatch(tag, payload)]
        }
        Some(Fault::Stale) => {
            tag.microbatch = tag.microbatch.wrapping_sub(1);
            vec![Message::Microbatch(tag, payload)]
        }
        Some(Fault::Swap) => {
            HELD.set(Some(Message::Microbatch(tag, payload)));
            Vec::new()
        }
        _ => vec![Message::Microbatch(tag, payload)],
    };
    sent.extend(held);
    sent
}
