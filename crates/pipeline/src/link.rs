//! What passes between neighbouring stages, and what feeds the pipeline at its ends.

use std::ops::Range;
use std::sync::Arc;

use brigade_devices::Download;
use tokio::sync::mpsc;

/// Says which microbatch a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Microbatch within the segment.
    pub microbatch: usize,
    /// Samples of the microbatch.
    pub samples: usize,
    /// Samples of the whole step, over which the loss is averaged.
    pub step_samples: usize,
    /// Samples that the run had seen before this microbatch.
    pub first_sample: u64,
    /// Cycle of the sending action on the sender's clock; data and labels come at cycle 0.
    pub cycle: u64,
    /// CRC-32 of the payload, where links are checked.
    pub checksum: Option<u32>,
}

/// The bytes of a message.
#[derive(Debug)]
pub enum Payload {
    /// A mapped staging slot of the sender, from this byte on; dropping it gives it back.
    Slot(Download, usize),
    /// Memory of the receiver, which a checked message has landed in.
    Landed(Vec<u8>),
    /// Samples on the host, shared by the microbatches of a step.
    Inputs(Arc<Vec<f32>>, Range<usize>),
    /// Labels on the host, shared by the microbatches of a step.
    Labels(Arc<Vec<u32>>, Range<usize>),
}

impl Payload {
    /// The bytes, to be copied into the receiver's staging memory.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Slot(download, start) => &download[*start..],
            Self::Landed(bytes) => bytes,
            Self::Inputs(values, range) => bytemuck::cast_slice(&values[range.clone()]),
            Self::Labels(values, range) => bytemuck::cast_slice(&values[range.clone()]),
        }
    }
}

/// What a channel carries.
#[derive(Debug)]
pub enum Message {
    /// Activations, gradients, inputs or labels of a microbatch.
    Microbatch(Tag, Payload),
    /// The segment ends early: it has this many steps, and no further forwards will come.
    End {
        /// Steps of the segment.
        steps: usize,
    },
}

/// One direction of a link.
pub(crate) type Sender = mpsc::Sender<Message>;
/// The receiving end of one direction of a link.
pub(crate) type Receiver = mpsc::Receiver<Message>;

/// What one stage holds of the links around it. The ends of the pipeline are fed by channels of the same kind: inputs
/// into the first stage, labels into the last.
pub(crate) struct Ends {
    /// Activations from the previous stage, or inputs.
    pub(crate) upstream: Receiver,
    /// Gradients from the next stage, or labels.
    pub(crate) downstream: Receiver,
    /// Activations to the next stage; the last stage has none.
    pub(crate) to_next: Option<Sender>,
    /// Gradients to the previous stage; the first stage has none.
    pub(crate) to_previous: Option<Sender>,
}

impl Ends {
    /// Ends that lead nowhere.
    pub(crate) fn none() -> Self {
        let closed = || mpsc::channel(1).1;
        Self { upstream: closed(), downstream: closed(), to_next: None, to_previous: None }
    }
}

/// What feeds the pipeline at its ends.
pub(crate) struct Feed {
    pub(crate) inputs: Sender,
    pub(crate) labels: Sender,
}

/// Joins stages by links. `capacities[i]` messages fit the link between stage i and i + 1 in each direction; `feed`
/// fit each of the feeding channels.
pub(crate) fn join(capacities: &[usize], inputs: usize, labels: usize) -> (Feed, Vec<Ends>) {
    let (feed_inputs, mut upstream) = mpsc::channel(inputs);
    let mut ends = Vec::with_capacity(capacities.len() + 1);
    let mut to_previous = None;
    for &capacity in capacities {
        let (to_next, next_upstream) = mpsc::channel(capacity);
        let (next_to_previous, downstream) = mpsc::channel(capacity);
        ends.push(Ends { upstream, downstream, to_next: Some(to_next), to_previous });
        (upstream, to_previous) = (next_upstream, Some(next_to_previous));
    }
    let (feed_labels, downstream) = mpsc::channel(labels);
    ends.push(Ends { upstream, downstream, to_next: None, to_previous });
    (Feed { inputs: feed_inputs, labels: feed_labels }, ends)
}
