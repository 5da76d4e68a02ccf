//! What a device is asked to do for one action, as plain data.

use std::sync::Arc;

use brigade_kernels::{Operation, Pass, Problem, Tensor};

/// A buffer of one executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BufferId(pub(crate) usize);

/// A part of a buffer. `start` and `elements` count 4-byte elements; starts are multiples of 64 (256 bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slice {
    /// The buffer.
    pub buffer: BufferId,
    /// First element.
    pub start: usize,
    /// Number of elements.
    pub elements: usize,
}

impl Slice {
    /// Starts of slices are multiples of this many elements: 256 bytes, the strictest alignment among adapters.
    pub const ALIGNMENT: usize = 64;
}

/// A pass of an operation on given buffers.
#[derive(Debug, Clone)]
pub struct Run {
    /// The operation.
    pub operation: Arc<dyn Operation>,
    /// The pass.
    pub pass: Pass,
    /// Its size.
    pub problem: Problem,
    /// Where each tensor of the pass is, all of [`Operation::tensors`]. Scratch memory is the executor's own.
    pub tensors: Vec<(Tensor, Slice)>,
}

impl Run {
    /// Where a tensor is.
    pub fn slice(&self, tensor: Tensor) -> Option<&Slice> {
        self.tensors.iter().find(|(candidate, _)| *candidate == tensor).map(|(_, slice)| slice)
    }
}

/// One step of a program.
#[derive(Debug, Clone)]
pub enum Command {
    /// Runs a pass.
    Run(Run),
    /// Copies a slice; the two slices have the same number of elements and lie in different buffers.
    Copy {
        /// Source.
        from: Slice,
        /// Destination.
        to: Slice,
    },
    /// Sets every element to zero bits.
    Clear(Slice),
}

/// Everything a stage does for one action: one encoder and one submission.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// What it is, for messages and traces, such as `2F0`.
    pub label: String,
    /// Parts of the upload slot, back to back in this order, and where each goes before the commands run.
    pub uploads: Vec<Slice>,
    /// The commands, in order.
    pub commands: Vec<Command>,
    /// What is copied to the download slot after the commands, back to back in this order.
    pub downloads: Vec<Slice>,
    /// Programs of one lane share the slots that their results come back in, those of different lanes never do: results
    /// of one kind that wait somewhere hold no slot that another kind needs.
    pub lane: usize,
}

impl Program {
    /// Bytes of the upload slot that the program reads.
    pub fn upload_bytes(&self) -> usize {
        bytes(&self.uploads)
    }

    /// Bytes of the download slot that the program fills.
    pub fn download_bytes(&self) -> usize {
        bytes(&self.downloads)
    }
}

fn bytes(slices: &[Slice]) -> usize {
    4 * slices.iter().map(|slice| slice.elements).sum::<usize>()
}
