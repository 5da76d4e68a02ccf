//! Parameters on their way between a stage and the host, piece by piece, for replicas that are updated elsewhere.

use brigade_devices::{Command, Program, Slice, Ticket};
use brigade_kernels::Tensor;

use super::Stage;
use super::buffers::Buffers;
use super::programs::Key;
use crate::PipelineError;

/// Most elements of a piece: 4 MiB, so that staging memory stays small beside the parameters, and a transfer still
/// takes long beside what it costs to submit it.
const PIECE: usize = 1 << 20;

/// A part of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Piece {
    /// The parameter, in the order of the layers.
    pub(crate) parameter: usize,
    /// First element within the parameter.
    pub(crate) start: usize,
    pub(crate) elements: usize,
}

/// Parameters of these sizes, cut into pieces, in order.
pub(crate) fn pieces(sizes: &[usize]) -> Vec<Piece> {
    let cut = |(parameter, &size): (usize, &usize)| {
        (0..size).step_by(PIECE).map(move |start| Piece { parameter, start, elements: PIECE.min(size - start) })
    };
    sizes.iter().enumerate().flat_map(cut).collect()
}

impl Piece {
    fn slice(self, buffers: &Buffers, tensor: Tensor) -> Slice {
        let whole = buffers.parameter(&buffers.layout.parameters[self.parameter], tensor);
        Slice { start: whole.start + self.start, elements: self.elements, ..whole }
    }

    pub(super) fn send_gradients(self, buffers: &Buffers) -> Program {
        let downloads = vec![self.slice(buffers, Tensor::Dw)];
        Program { label: "gradients to the host".into(), downloads, ..Program::default() }
    }

    pub(super) fn receive_weights(self, buffers: &Buffers) -> Program {
        Program {
            label: "weights from the host".into(),
            uploads: vec![self.slice(buffers, Tensor::W)],
            commands: vec![Command::Clear(self.slice(buffers, Tensor::Dw))],
            ..Program::default()
        }
    }
}

impl Stage {
    /// Every parameter of the stage in pieces.
    pub(crate) fn pieces(&self) -> Vec<Piece> {
        let sizes: Vec<usize> = self.layout().parameters.iter().map(|placed| placed.elements).collect();
        pieces(&sizes)
    }

    /// Submits the way of a piece's gradients to the host; its download holds them.
    pub(crate) fn send_gradients(&mut self, piece: Piece) -> Result<Ticket, PipelineError> {
        self.submit_plain(Key::SendGradients(piece), &[])
    }

    /// Submits the way of a piece's new weights to the device.
    pub(crate) fn receive_weights(&mut self, piece: Piece, weights: &[u8]) -> Result<Ticket, PipelineError> {
        self.submit_plain(Key::ReceiveWeights(piece), &[weights])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_parameter_once() {
        let sizes = [1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7];
        let pieces = pieces(&sizes);
        for (parameter, &size) in sizes.iter().enumerate() {
            let mut next = 0;
            for piece in pieces.iter().filter(|piece| piece.parameter == parameter) {
                assert_eq!(piece.start, next);
                assert!((1..=PIECE).contains(&piece.elements));
                next += piece.elements;
            }
            assert_eq!(next, size);
        }
    }
}
