//! Rectifiers that the layers beside them compute, also across a cut.
//!
//! The layer before a rectifier rectifies what it stores, and the layer behind it masks the gradient that it stores, where
//! their operations can. A stage knows the layers on the other side of its cuts, and what it sends there is then what the
//! rectifier would have made of it: wherever a model is cut, the same passes run, and the stages together run no more of
//! them than one alone.

use std::ops::Range;
use std::sync::Arc;

use brigade_kernels::{Fusion, Operation, Pass, Tensor, Use};

use crate::model::Layer;

/// A layer as its stage runs it.
#[derive(Debug, Clone)]
pub(crate) struct StageLayer {
    /// The layer itself.
    pub(crate) layer: Layer,
    /// What runs: the layer's operation, with the rectifiers beside it fused to it.
    pub(crate) operation: Arc<dyn Operation>,
    /// Whether the layer before computes its forward.
    pub(crate) rectified: bool,
    /// Whether the layer behind computes its backward.
    pub(crate) masked: bool,
}

impl StageLayer {
    /// What one of the layer's passes reads and writes; empty where the stage runs no such pass.
    pub(crate) fn uses(&self, pass: Pass) -> Vec<Use> {
        match pass {
            Pass::Forward if self.rectified => Vec::new(),
            Pass::BackwardInput if self.masked => Vec::new(),
            _ => self.operation.tensors(pass),
        }
    }

    /// Whether a backward pass that the stage runs for the layer reads `tensor`.
    pub(crate) fn backward_reads(&self, tensor: Tensor) -> bool {
        [Pass::BackwardInput, Pass::BackwardWeight]
            .iter()
            .flat_map(|&pass| self.uses(pass))
            .any(|used| used.tensor == tensor && used.access.reads())
    }
}

/// The layers `range` of a model as a stage runs them, every rectifier fused to its neighbours as far as they can.
pub(crate) fn fuse(model: &[Layer], range: Range<usize>) -> Vec<StageLayer> {
    let is_rectifier = |layer: Option<&Layer>| layer.is_some_and(|layer| layer.operation.name() == "relu");
    let can = |l: usize, fusion| model[l].operation.fused(fusion).is_some();
    let rectifies = |l: usize| is_rectifier(model.get(l + 1)) && can(l, Fusion::RECTIFIES);
    let masks = |l: usize| l > 0 && is_rectifier(model.get(l - 1)) && can(l, Fusion::MASKS);
    let of_stage = |l: usize| {
        let layer = &model[l];
        let fusion = Fusion { rectifies: rectifies(l), masks: masks(l) };
        let fused = if fusion == Fusion::NONE { None } else { layer.operation.fused(fusion) };
        StageLayer {
            layer: layer.clone(),
            operation: fused.unwrap_or_else(|| Arc::clone(&layer.operation)),
            rectified: l > 0 && rectifies(l - 1),
            masked: l + 1 < model.len() && masks(l + 1),
        }
    };
    range.map(of_stage).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use brigade_devices::{BufferId, Command, Program, ReferenceExecutor};
    use brigade_kernels::Access;

    use super::*;
    use crate::model::{ModelSpec, Sequential, built_in};
    use crate::pipeline::loss;
    use crate::stage::buffers::Buffers;
    use crate::stage::layout::{CopyNeeds, Extent, Layout};
    use crate::stage::programs::{Block, Key};
    use crate::staleness::WeightCopy;

    /// For each layer: what is fused to it, and whether its forward and its backward run by themselves.
    type Fused = Vec<(Fusion, bool, bool)>;

    /// Of all of a model's layers in one stage.
    fn fused(operations: &[&str]) -> Fused {
        cut(operations, operations.len())
    }

    /// Of a model that is cut before the layer `at`, its stages behind each other.
    fn cut(operations: &[&str], at: usize) -> Fused {
        let layer = |operation: &&str| match *operation {
            "conv2d" => serde_json::json!({"op": "conv2d", "out_channels": 2, "kernel": 1}),
            "max_pool2d" => serde_json::json!({"op": "max_pool2d", "kernel": 1}),
            other => serde_json::json!({"op": other}),
        };
        let layers: Vec<_> = operations.iter().map(layer).collect();
        let spec = serde_json::json!({"name": "test", "input": {"c": 1, "h": 4, "w": 4}, "layers": layers});
        let spec: ModelSpec = serde_json::from_value(spec).unwrap();
        let runs = |layer: &StageLayer, pass| !layer.uses(pass).is_empty();
        let layers = Sequential::new(&spec).unwrap().layers;
        [0..at, at..layers.len()]
            .into_iter()
            .flat_map(|range| fuse(&layers, range))
            .map(|layer| (layer.operation.fusion(), runs(&layer, Pass::Forward), runs(&layer, Pass::BackwardInput)))
            .collect()
    }

    #[test]
    fn a_rectifier_between_two_that_can_has_no_pass_left() {
        let between = fused(&["conv2d", "relu", "max_pool2d"]);
        assert_eq!(
            between,
            [(Fusion::RECTIFIES, true, true), (Fusion::NONE, false, false), (Fusion::MASKS, true, true)]
        );
    }

    #[test]
    fn a_rectifier_keeps_what_its_neighbours_do_not_compute() {
        let alone = (Fusion::NONE, true, true);
        // At the ends of a model, and beside operations that cannot.
        assert_eq!(fused(&["relu", "conv2d"]), [(Fusion::NONE, true, false), (Fusion::MASKS, true, true)]);
        assert_eq!(fused(&["conv2d", "relu"]), [(Fusion::RECTIFIES, true, true), (Fusion::NONE, false, true)]);
        assert_eq!(fused(&["max_pool2d", "relu", "relu"]), [alone; 3]);
    }

    #[test]
    fn the_same_passes_run_wherever_a_model_is_cut() {
        let operations = ["conv2d", "relu", "conv2d", "relu", "relu", "max_pool2d", "conv2d", "relu", "max_pool2d"];
        let whole = fused(&operations);
        for at in 1..operations.len() {
            assert_eq!(cut(&operations, at), whole, "cut before {at}");
        }
    }

    /// What runs of a model's layers on the reference: the buffers of the programs, and the programs themselves.
    fn programs(model: &Sequential, range: std::ops::Range<usize>, splits: bool) -> (Buffers, Vec<Program>) {
        let extent = Extent {
            samples: 2,
            sets: 2,
            buffer_elements: 1 << 28,
            last: range.end == model.layers.len(),
            splits,
            updates: true,
            copies: CopyNeeds::default(),
        };
        let layout = Layout::new(model, range.clone(), extent).unwrap();
        let buffers = Buffers::allocate(layout, &mut ReferenceExecutor::new()).unwrap();
        let block = Block::new(model, range, &loss().unwrap(), None);
        let (set, samples, weights) = (1, 2, WeightCopy::Current);
        let backward = if splits {
            vec![Key::InputGradient { set, samples }, Key::WeightGradient { set, samples }]
        } else {
            vec![Key::Backward { set, samples, weights }]
        };
        let keys = [Key::Forward { set, samples, weights }, Key::Evaluate { samples }].into_iter().chain(backward);
        let programs = keys.map(|key| block.program(key, &buffers)).collect();
        (buffers, programs)
    }

    #[test]
    fn no_pass_writes_a_buffer_that_it_reads() {
        for name in ["lenet5", "cnn-small"] {
            let model = built_in(name).unwrap();
            let end = model.layers.len();
            for (range, splits) in
                [(0..end, false), (0..end, true), (1..end, false), (0..2, true), (2..end - 1, true), (1..2, false)]
            {
                let (_, programs) = programs(&model, range.clone(), splits);
                let runs = programs.iter().flat_map(|program| &program.commands);
                for command in runs {
                    let Command::Run(run) = command else { panic!("{command:?}") };
                    let uses = run.operation.tensors(run.pass);
                    let of = |wanted: &dyn Fn(Access) -> bool| -> Vec<BufferId> {
                        let found = uses.iter().filter(|used| wanted(used.access));
                        found.map(|used| run.slice(used.tensor).unwrap().buffer).collect()
                    };
                    let (read, written) = (of(&|access| access == Access::Read), of(&|access| access.writes()));
                    let what = format!("{name} {range:?} {:?} {}", run.operation, run.pass);
                    assert!(!written.is_empty() && !read.iter().any(|buffer| written.contains(buffer)), "{what}");
                }
            }
        }
    }

    #[test]
    fn a_fused_rectifier_needs_no_buffers_of_its_own() {
        let model = built_in("cnn-small").unwrap();
        let rectifier = model.layers.iter().position(|layer| layer.operation.name() == "relu").unwrap();
        let (buffers, _) = programs(&model, 0..model.layers.len(), true);
        let Layout { outputs, gradients, .. } = &buffers.layout;
        assert_eq!(outputs[rectifier], outputs[rectifier - 1]);
        assert_eq!(gradients[rectifier], gradients[rectifier + 1]);
        assert_ne!(outputs[rectifier], outputs[rectifier + 1]);
        assert_ne!(gradients[rectifier + 1], gradients[rectifier + 2]);
    }
}
