//! What a stage will compute over and over, known before it has a device.

use std::sync::Arc;

use brigade_devices::{Slice, Task};
use brigade_kernels::{Operation, Pass, Problem, Shape};

use super::fusion::StageLayer;
use super::programs::Block;
use super::update::Updates;

impl Block {
    /// The passes that the programs of microbatches of `samples` samples are made of.
    pub(crate) fn tasks(&self, samples: usize) -> Vec<Task> {
        let task = |operation: &Arc<dyn Operation>, pass, n, input| Task {
            operation: Arc::clone(operation),
            pass,
            problem: Problem { n, input },
        };
        let of_layer = |of: &StageLayer, pass| {
            (!of.uses(pass).is_empty()).then(|| task(&of.operation, pass, samples, of.layer.input))
        };
        let forward = self.layers.iter().filter_map(|of| of_layer(of, Pass::Forward));
        let backward = self.backward_passes().filter_map(|(_, of, pass)| of_layer(of, pass));
        let loss = self.loss.iter().zip(self.layers.last()).map(|(loss, last)| {
            let Shape { c, h, w } = last.layer.output;
            task(loss, Pass::Forward, samples, Shape::vector(c * h * w))
        });
        // As the layout packs them: each starts aligned, so that vectors divide the whole.
        let named = self.layers.iter().flat_map(|of| of.layer.named_parameters());
        let sizes = named.filter_map(|(_, parameter)| parameter.elements().ok());
        let parameters: usize = sizes.map(|elements| elements.next_multiple_of(Slice::ALIGNMENT)).sum();
        let updates = self.updates.iter().flat_map(Updates::all).filter(|_| parameters > 0);
        let update = updates.map(|operation| task(operation, Pass::Update, 1, Shape::vector(parameters)));
        forward.chain(backward).chain(loss).chain(update).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeSet;

    use brigade_devices::{Command, ReferenceExecutor, ShapeClass};

    use super::*;
    use crate::Optimiser;
    use crate::model::built_in;
    use crate::pipeline::operation;
    use crate::schedule::{Kind, Schedule};
    use crate::stage::Updates;
    use crate::stage::buffers::Buffers;
    use crate::stage::layout::{CopyNeeds, Extent, Layout};
    use crate::stage::programs::Key;
    use crate::staleness::{Corrections, StagePlan, StalenessOptions, WeightCopy, WeightPolicy};

    /// The classes of everything that the programs of a stage run.
    fn run(block: &Block, buffers: &Buffers, samples: usize) -> BTreeSet<ShapeClass> {
        let keys = [
            Key::Forward { set: 0, samples, weights: WeightCopy::Current },
            Key::Backward { set: 0, samples, weights: WeightCopy::Current },
            Key::Evaluate { samples },
            Key::Update { keep: None },
            Key::PlainUpdate,
            Key::Refresh,
        ];
        let commands = keys.into_iter().flat_map(|key| block.program(key, buffers).commands);
        commands
            .filter_map(|command| match command {
                Command::Run(run) => Some(ShapeClass::of(run.operation.as_ref(), run.pass, run.problem)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_tasks_are_what_the_programs_run() {
        let optimiser = Optimiser { momentum: 0.9, weight_decay: 0.0, nesterov: false };
        let loss = operation("softmax_cross_entropy", &serde_json::json!({})).unwrap();
        for corrections in ["none", "discrepancy", "spike-compensation,momentum-prediction"] {
            let corrections = Corrections::parse(corrections.split(',')).unwrap();
            let options = StalenessOptions { weights: WeightPolicy::Single, corrections };
            let plan = StagePlan::new(&options, &Schedule::new(Kind::LayerBlockWise, 3), 0, 1).unwrap();
            tasks_are_complete(&loss, &plan, &Updates::new(optimiser, &plan).unwrap());
        }
    }

    fn tasks_are_complete(loss: &Arc<dyn Operation>, plan: &StagePlan, updates: &Updates) {
        for name in ["lenet5", "cnn-small"] {
            let model = built_in(name).unwrap();
            let end = model.layers.len();
            for range in [0..end, 0..3, 3..6, 6..end] {
                let block = Block::new(&model, range.clone(), loss, Some(updates.clone()));
                let (last, copies) = (range.end == end, CopyNeeds::of(plan));
                let (splits, buffer_elements) = (false, 1 << 28);
                let extent = Extent { samples: 3, sets: 1, buffer_elements, last, splits, updates: true, copies };
                let layout = Layout::new(&model, range.clone(), extent).unwrap();
                let buffers = Buffers::allocate(layout, &mut ReferenceExecutor::new()).unwrap();
                let tasks = block.tasks(3);
                let classes: BTreeSet<_> =
                    tasks.iter().map(|task| ShapeClass::of(task.operation.as_ref(), task.pass, task.problem)).collect();
                let run = run(&block, &buffers, 3);
                assert_eq!(run, classes, "{name} {range:?}");
            }
        }
    }
}
