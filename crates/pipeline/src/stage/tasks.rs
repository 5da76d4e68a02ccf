//! What a stage will compute over and over, known before it has a device.

use std::sync::Arc;

use brigade_devices::{Slice, Task};
use brigade_kernels::{Operation, Pass, Problem, Shape};

use super::programs::Block;
use crate::model::Layer;

impl Block {
    /// The passes that the programs of microbatches of `samples` samples are made of.
    pub(crate) fn tasks(&self, samples: usize) -> Vec<Task> {
        let task = |operation: &Arc<dyn Operation>, pass, n, input| Task {
            operation: Arc::clone(operation),
            pass,
            problem: Problem { n, input },
        };
        let of_layer = |layer: &Layer, pass| task(&layer.operation, pass, samples, layer.input);
        let forward = self.layers.iter().map(|layer| of_layer(layer, Pass::Forward));
        let backward = self.backward_passes().map(|(_, layer, pass)| of_layer(layer, pass));
        let loss = self.loss.iter().zip(self.layers.last()).map(|(loss, last)| {
            let Shape { c, h, w } = last.output;
            task(loss, Pass::Forward, samples, Shape::vector(c * h * w))
        });
        // As the layout packs them: each starts aligned, so that vectors divide the whole.
        let named = self.layers.iter().flat_map(Layer::named_parameters);
        let sizes = named.filter_map(|(_, parameter)| parameter.elements().ok());
        let parameters: usize = sizes.map(|elements| elements.next_multiple_of(Slice::ALIGNMENT)).sum();
        let update = (parameters > 0).then(|| task(&self.optimiser, Pass::Update, 1, Shape::vector(parameters)));
        let all = forward.chain(backward).chain(loss).chain(update);
        all.filter(|task| !task.operation.tensors(task.pass).is_empty()).collect()
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
    use crate::pipeline::loss_and_optimiser;
    use crate::stage::buffers::Buffers;
    use crate::stage::layout::{Extent, Layout};
    use crate::stage::programs::Key;

    /// The classes of everything that the programs of a stage run.
    fn run(block: &Block, buffers: &Buffers, samples: usize) -> BTreeSet<ShapeClass> {
        let keys = [
            Key::Forward { set: 0, samples },
            Key::Backward { set: 0, samples },
            Key::Evaluate { samples },
            Key::Update,
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
        let [loss, optimiser] = loss_and_optimiser(optimiser).unwrap();
        for name in ["lenet5", "cnn-small"] {
            let model = built_in(name).unwrap();
            let end = model.layers.len();
            for range in [0..end, 0..3, 3..6, 6..end] {
                let block = Block::new(&model, range.clone(), &loss, &optimiser);
                let last = range.end == end;
                let extent =
                    Extent { samples: 3, sets: 1, buffer_elements: 1 << 28, last, splits: false, updates: true };
                let layout = Layout::new(&model, range.clone(), extent).unwrap();
                let buffers = Buffers::allocate(layout, &mut ReferenceExecutor::new()).unwrap();
                let tasks = block.tasks(3);
                let classes: BTreeSet<_> =
                    tasks.iter().map(|task| ShapeClass::of(task.operation.as_ref(), task.pass, task.problem)).collect();
                assert_eq!(classes, run(&block, &buffers, 3), "{name} {range:?}");
            }
        }
    }
}
