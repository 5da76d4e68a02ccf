//! What the training examples share: data, options and printing.

use std::ops::ControlFlow;

use brigade::{Data, DataKind, Failure, LearningRate, Pipeline, Position, Progress, Spec, TrainOptions, train};

/// Glyphs, generated: ten classes of 28×28 pictures.
#[allow(dead_code, reason = "not every example trains on glyphs")]
pub(crate) fn glyphs() -> Result<Data, Failure> {
    let mut spec = Spec::new(DataKind::Glyphs);
    (spec.train, spec.test) = (Some(2000), Some(500));
    Data::open(&spec, 1)
}

/// Trains and prints what happens, device by device and epoch by epoch.
pub(crate) fn run(pipeline: &mut Pipeline, data: &Data, epochs: usize) -> Result<(), Failure> {
    for (stage, (device, layers)) in pipeline.devices().iter().zip(pipeline.ranges()).enumerate() {
        println!("stage {stage}: layers {layers:?} on {}", device.name);
    }
    let options = TrainOptions::new(epochs, 32, LearningRate::constant(0.01));
    let report = train(pipeline, data, &options, Position::default(), &mut |progress| {
        if let Progress::Epoch { epoch, train, test, seconds } = progress {
            let accuracy = test.map_or(0.0, |test| 100.0 * test.accuracy());
            println!("epoch {epoch}: loss {:.4}, test accuracy {accuracy:.2} %, {seconds:.1} s", train.loss());
        }
        ControlFlow::Continue(())
    })?;
    for pair in report.stages.windows(2) {
        println!(
            "link {} → {}: {} bytes of activations, {} bytes of gradients",
            pair[0].stage, pair[1].stage, pair[0].activation_bytes, pair[1].gradient_bytes
        );
    }
    Ok(())
}
