//! What a stage asks its executor to do for each kind of action.

use std::ops::Range;
use std::sync::Arc;

use brigade_devices::{Command, Program, Run};
use brigade_kernels::{Operation, Pass, Problem, Shape, Tensor};

use super::buffers::Buffers;
use super::exchange::Piece;
use super::fusion::{StageLayer, fuse};
use super::update::Updates;
use crate::model::Sequential;
use crate::schedule::Verb;
use crate::staleness::WeightCopy;

/// A program that a stage prepares once and submits many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// Forward of `samples` samples into activation set `set`, with these weights.
    Forward { set: usize, samples: usize, weights: WeightCopy },
    /// Backward of `samples` samples from activation set `set`, on the last stage with the loss before it.
    Backward { set: usize, samples: usize, weights: WeightCopy },
    /// The part of a backward that ends with the gradient of the stage's input.
    InputGradient { set: usize, samples: usize },
    /// The rest of a backward: gradients of the weights.
    WeightGradient { set: usize, samples: usize },
    /// Forward of `samples` samples, on the last stage with the loss after it; nothing is kept.
    Evaluate { samples: usize },
    /// New weights; the version that they replace goes to slot `keep`.
    Update { keep: Option<usize> },
    /// New weights where nothing is stale.
    PlainUpdate,
    /// A step's end without its update: its gradients are dropped, and versions are kept as an update keeps them.
    LeaveOut { keep: Option<usize> },
    /// Copies of the weights that follow from them.
    Refresh,
    /// Every slot of older versions from the newest.
    KeepEverywhere,
    /// Sends a piece of a parameter's gradients to the host.
    SendGradients(Piece),
    /// Takes a piece of a parameter's weights from the host, and clears its gradients.
    ReceiveWeights(Piece),
}

/// What the results of a program are for. They wait in the links by kind, and so each kind has staging slots of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// The stage itself, or the host.
    Own,
    /// The next stage.
    Next,
    /// The previous stage.
    Previous,
}

impl Lane {
    /// Of what an action leaves.
    pub(crate) const fn of(verb: Verb) -> Self {
        match verb {
            Verb::Forward => Self::Next,
            Verb::Backward | Verb::InputGradient => Self::Previous,
            Verb::WeightGradient | Verb::Update => Self::Own,
        }
    }
}

impl Key {
    /// Where its results go.
    pub(crate) const fn lane(self) -> Lane {
        match self {
            Self::Forward { .. } | Self::Evaluate { .. } => Lane::Next,
            Self::Backward { .. } | Self::InputGradient { .. } => Lane::Previous,
            _ => Lane::Own,
        }
    }
}

/// A stage's layers and what is around them.
pub(crate) struct Block {
    pub(crate) layers: Vec<StageLayer>,
    /// The first layer of the stage whose weights want a gradient, where the stage is the model's first: no layer
    /// at or before it needs the gradient of its input.
    pub(crate) stop: Option<usize>,
    /// The loss, on the last stage.
    pub(crate) loss: Option<Arc<dyn Operation>>,
    /// What ends a step, where the weights are updated here.
    pub(crate) updates: Option<Updates>,
}

impl Block {
    /// The layers of `range`; the model's first stage passes no gradient on, and its last computes the loss.
    pub(crate) fn new(
        model: &Sequential,
        range: Range<usize>,
        loss: &Arc<dyn Operation>,
        updates: Option<Updates>,
    ) -> Self {
        let layers = fuse(&model.layers, range.clone());
        let first_trained = layers.iter().position(|of| !of.layer.parameters.is_empty()).unwrap_or(layers.len());
        Self {
            layers,
            stop: (range.start == 0).then_some(first_trained),
            loss: (range.end == model.layers.len()).then(|| Arc::clone(loss)),
            updates,
        }
    }

    /// The program of `key` on `buffers`.
    pub(crate) fn program(&self, key: Key, buffers: &Buffers) -> Program {
        Program { lane: key.lane() as usize, ..self.body(key, buffers) }
    }

    fn body(&self, key: Key, buffers: &Buffers) -> Program {
        match key {
            Key::Forward { set, samples, weights } => self.forward((set, weights), samples, buffers),
            Key::Backward { set, samples, weights } => self.backward((set, weights), samples, buffers),
            Key::InputGradient { set, samples } => self.input_gradient(set, samples, buffers),
            Key::WeightGradient { set, samples } => self.weight_gradient(set, samples, buffers),
            Key::Evaluate { samples } => self.evaluate(samples, buffers),
            Key::Update { keep } => self.ended(|updates| updates.update(keep, buffers)),
            Key::LeaveOut { keep } => self.ended(|updates| updates.leave_out(keep, buffers)),
            Key::PlainUpdate => self.ended(|updates| updates.plain_update(buffers)),
            Key::Refresh => self.ended(|updates| updates.refresh(buffers)),
            Key::KeepEverywhere => self.ended(|updates| updates.keep_everywhere(buffers)),
            Key::SendGradients(piece) => piece.send_gradients(buffers),
            Key::ReceiveWeights(piece) => piece.receive_weights(buffers),
        }
    }

    /// A program of what ends a step; an empty one where the weights are updated elsewhere.
    fn ended(&self, program: impl Fn(&Updates) -> Program) -> Program {
        self.updates.as_ref().map_or_else(Program::default, program)
    }

    /// Bytes of the largest upload of microbatches of `samples` samples.
    pub(super) fn most_uploaded(&self, samples: usize, buffers: &Buffers) -> usize {
        let weights = WeightCopy::Current;
        let keys = [Key::Evaluate { samples }, Key::Backward { set: 0, samples, weights }];
        keys.map(|key| self.program(key, buffers).upload_bytes()).into_iter().max().unwrap_or(0)
    }

    /// Elements of the stage's input and output for one sample.
    pub(super) fn edges(&self) -> (usize, usize) {
        let elements = |shape: Shape| shape.c * shape.h * shape.w;
        let [first, last] = [self.layers.first(), self.layers.last()];
        (first.map_or(0, |of| elements(of.layer.input)), last.map_or(0, |of| elements(of.layer.output)))
    }

    fn forward(&self, at: (usize, WeightCopy), samples: usize, buffers: &Buffers) -> Program {
        let (set, _) = at;
        let (input, output) = self.edges();
        let last = self.layers.len() - 1;
        let sends = self.loss.is_none();
        Program {
            label: format!("F set {set}"),
            uploads: vec![buffers.scalars(), buffers.input(set, samples * input)],
            commands: self.forward_runs(at, samples, buffers),
            downloads: sends.then(|| buffers.output(set, last, samples * output)).into_iter().collect(),
            ..Program::default()
        }
    }

    fn evaluate(&self, samples: usize, buffers: &Buffers) -> Program {
        let mut program = self.forward((0, WeightCopy::Current), samples, buffers);
        program.label = "evaluation".into();
        if let Some(loss) = self.loss_run(0, samples, buffers) {
            program.uploads.extend(buffers.labels(samples));
            program.commands.push(loss);
            program.downloads = buffers.metrics(samples).into_iter().collect();
        }
        program
    }

    fn backward(&self, at: (usize, WeightCopy), samples: usize, buffers: &Buffers) -> Program {
        let (set, _) = at;
        let program = self.received(format!("B set {set}"), set, samples, buffers);
        let runs = self.backward_runs(at, samples, buffers);
        Program { commands: program.commands.into_iter().chain(runs.map(|(_, run)| run)).collect(), ..program }
    }

    fn input_gradient(&self, set: usize, samples: usize, buffers: &Buffers) -> Program {
        let program = self.received(format!("I set {set}"), set, samples, buffers);
        let runs = self
            .backward_runs((set, WeightCopy::Current), samples, buffers)
            .filter(|(pass, _)| *pass == Pass::BackwardInput);
        Program { commands: program.commands.into_iter().chain(runs.map(|(_, run)| run)).collect(), ..program }
    }

    fn weight_gradient(&self, set: usize, samples: usize, buffers: &Buffers) -> Program {
        let runs = self
            .backward_runs((set, WeightCopy::Current), samples, buffers)
            .filter(|(pass, _)| *pass == Pass::BackwardWeight);
        Program {
            label: format!("W set {set}"),
            uploads: vec![buffers.scalars()],
            commands: runs.map(|(_, run)| run).collect(),
            ..Program::default()
        }
    }

    /// What a backward starts with, and what it leaves to send: the gradient of the stage's output, or the loss.
    fn received(&self, label: String, set: usize, samples: usize, buffers: &Buffers) -> Program {
        let (input, output) = self.edges();
        let end = self.layers.len();
        let loss = self.loss_run(set, samples, buffers);
        let received = match &loss {
            Some(_) => buffers.labels(samples),
            None => Some(buffers.gradient(set, end, samples * output)),
        };
        let sent = self.stop.is_none().then(|| buffers.gradient(set, 0, samples * input));
        Program {
            label,
            uploads: std::iter::once(buffers.scalars()).chain(received).collect(),
            downloads: loss.as_ref().and_then(|_| buffers.metrics(samples)).into_iter().chain(sent).collect(),
            commands: loss.into_iter().collect(),
            ..Program::default()
        }
    }

    fn forward_runs(&self, at: (usize, WeightCopy), samples: usize, buffers: &Buffers) -> Vec<Command> {
        let each = self.layers.iter().enumerate();
        each.filter_map(|(l, layer)| layer_run(layer, l, Pass::Forward, at, samples, buffers)).collect()
    }

    fn backward_runs(
        &self,
        at: (usize, WeightCopy),
        samples: usize,
        buffers: &Buffers,
    ) -> impl Iterator<Item = (Pass, Command)> {
        let each = self.backward_passes();
        each.filter_map(move |(l, layer, pass)| Some((pass, layer_run(layer, l, pass, at, samples, buffers)?)))
    }

    /// From the last layer to the first: gradients of the weights, then of the input, where they are wanted.
    pub(crate) fn backward_passes(&self) -> impl Iterator<Item = (usize, &StageLayer, Pass)> {
        let stop = self.stop;
        let wanted = move |l: usize, pass: Pass| match (stop, pass) {
            (Some(stop), Pass::BackwardInput) => l > stop,
            _ => true,
        };
        let each = self.layers.iter().enumerate().rev();
        each.flat_map(|(l, layer)| [Pass::BackwardWeight, Pass::BackwardInput].map(|pass| (l, layer, pass)))
            .filter(move |&(l, _, pass)| wanted(l, pass))
    }

    fn loss_run(&self, set: usize, samples: usize, buffers: &Buffers) -> Option<Command> {
        let operation = self.loss.clone()?;
        let (_, classes) = self.edges();
        let end = self.layers.len();
        let tensors = vec![
            (Tensor::X, buffers.output(set, end - 1, samples * classes)),
            (Tensor::Labels, buffers.labels(samples)?),
            (Tensor::Scalars, buffers.scalars()),
            (Tensor::Dx, buffers.gradient(set, end, samples * classes)),
            (Tensor::Metrics, buffers.metrics(samples)?),
        ];
        let problem = Problem { n: samples, input: Shape::vector(classes) };
        Some(Command::Run(Run { operation, pass: Pass::Forward, problem, tensors }))
    }
}

fn layer_run(
    of: &StageLayer,
    l: usize,
    pass: Pass,
    at: (usize, WeightCopy),
    samples: usize,
    buffers: &Buffers,
) -> Option<Command> {
    let problem = Problem { n: samples, input: of.layer.input };
    let uses = of.uses(pass);
    if uses.is_empty() {
        return None;
    }
    let tensors = uses
        .iter()
        .filter_map(|used| Some((used.tensor, buffers.tensor(&of.layer, l, used.tensor, at, problem)?)))
        .collect();
    Some(Command::Run(Run { operation: Arc::clone(&of.operation), pass, problem, tensors }))
}
