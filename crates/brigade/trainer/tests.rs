use std::ops::ControlFlow;

use brigade_pipeline::{LearningRate, Samples, Stretch};

use super::*;

#[test]
fn a_stage_by_itself_computes_beside_neighbours_that_give_zeros() {
    let model = brigade_pipeline::model::built_in("lenet5").unwrap();
    let samples = Samples::new(vec![0.5; 4 * model.input.elements().unwrap()], vec![3; 4]);
    let placement = Placement::balanced(&model, &["reference"; 3]).unwrap();
    let trainer = Trainer::new(model, placement).batch(4);
    for alone in 0..3 {
        let mut pipeline = trainer.start_alone(alone).unwrap();
        let stretch = Stretch::new(12, LearningRate::constant(0.0));
        let batches = Box::new(vec![samples.clone(); 3].into_iter().map(Ok));
        let report = pipeline.train(&stretch, batches, &mut |_, _| ControlFlow::Continue(())).unwrap();
        assert_eq!(report.steps, 3);
        for stage in &report.stages {
            assert_eq!([stage.forward, stage.backward, stage.update].map(|tally| tally.count), [3; 3]);
            assert_eq!(stage.busy().is_zero(), stage.stage != alone, "stage {} of {alone}", stage.stage);
        }
        // Of zeros the classifier, whose biases start at zero, makes ten classes that are equally likely.
        let loss = if alone == 2 { 10f64.ln() } else { 0.0 };
        assert!((report.metrics.loss() - loss).abs() < 1e-6, "{:?}", report.metrics);
    }
}
