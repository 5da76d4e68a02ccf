//! Glyphs are too hard for a linear classifier, and not so hard that it learns nothing.
#![allow(clippy::unwrap_used)]

use brigade_data::{Batch, Dataset, Kind, Loader, Sampler, Spec, open};

const CLASSES: usize = 10;
const PIXELS: usize = 28 * 28;
const EPOCHS: u64 = 20;
const RATE: f32 = 0.01;

/// Softmax regression: one row of weights for each class, the bias last.
struct Linear {
    w: Vec<[f32; PIXELS + 1]>,
}

impl Linear {
    fn scores(&self, x: &[f32]) -> Vec<f32> {
        self.w.iter().map(|row| row[PIXELS] + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()).collect()
    }

    /// One step of gradient descent on the mean loss of `batch`.
    fn step(&mut self, batch: &Batch) {
        let rate = RATE / batch.len() as f32;
        let samples = batch.pixels.chunks_exact(PIXELS).zip(&batch.labels);
        let errors: Vec<(&[f32], Vec<f32>)> = samples
            .map(|(x, &label)| {
                let scores = self.scores(x);
                let top = scores.iter().copied().fold(f32::MIN, f32::max);
                let powers: Vec<f32> = scores.iter().map(|score| (score - top).exp()).collect();
                let sum: f32 = powers.iter().sum();
                let wanted = |class| if class == label as usize { 1.0 } else { 0.0 };
                (x, powers.iter().enumerate().map(|(class, power)| power / sum - wanted(class)).collect())
            })
            .collect();
        for (x, error) in errors {
            for (row, dy) in self.w.iter_mut().zip(error) {
                row.iter_mut().zip(x).for_each(|(w, x)| *w -= rate * dy * x);
                row[PIXELS] -= rate * dy;
            }
        }
    }

    fn accuracy(&self, test: &Dataset) -> f64 {
        let batch = test.batch(&(0..test.len() as u32).collect::<Vec<_>>()).unwrap();
        let right = batch.pixels.chunks_exact(PIXELS).zip(&batch.labels).filter(|(x, label)| {
            let scores = self.scores(x);
            let best = (0..CLASSES).max_by(|&a, &b| scores[a].total_cmp(&scores[b]));
            best == Some(**label as usize)
        });
        right.count() as f64 / test.len() as f64
    }
}

#[test]
fn a_linear_classifier_learns_glyphs_but_stays_under_90_percent() {
    let spec = Spec { train: Some(4_000), test: Some(1_000), ..Spec::new(Kind::Glyphs) };
    let (train, test) = open(&spec).unwrap();
    let sampler = Sampler::new(train.len(), 32).unwrap().shuffled(1);
    let mut model = Linear { w: vec![[0.0; PIXELS + 1]; CLASSES] };
    for epoch in 0..EPOCHS {
        for batch in Loader::start(&train, sampler.epoch(epoch), 0).unwrap() {
            model.step(&batch.unwrap());
        }
    }
    let (seen, unseen) = (model.accuracy(&train), model.accuracy(&test));
    println!("linear classifier on glyphs: training accuracy {seen:.3}, test accuracy {unseen:.3}");
    assert!(unseen < 0.90, "{unseen}");
    assert!(unseen > 0.30, "{unseen}");
}
