//! Samples on their way into the pipeline.

use std::ops::Range;
use std::sync::Arc;

use crate::link::{Message, Payload, Tag};

/// The samples of one step, on the host. A clone shares them.
#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    /// N×C×H×W values.
    pub inputs: Arc<Vec<f32>>,
    /// N classes.
    pub labels: Arc<Vec<u32>>,
}

impl Samples {
    /// Samples of these values and classes.
    pub fn new(inputs: Vec<f32>, labels: Vec<u32>) -> Self {
        Self { inputs: Arc::new(inputs), labels: Arc::new(labels) }
    }
}

/// Samples step by step; an error ends the run.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<Samples, Box<dyn std::error::Error + Send + Sync>>> + Send + 'a>;

/// Cuts `samples` samples into at most `microbatches` ranges as equal as possible, the longer ones first, none empty.
pub fn microbatches(samples: usize, microbatches: usize) -> Vec<Range<usize>> {
    let count = microbatches.min(samples);
    let (short, longer) = (samples / count.max(1), samples % count.max(1));
    let mut start = 0;
    (0..count)
        .map(|index| {
            let end = start + short + usize::from(index < longer);
            std::mem::replace(&mut start, end)..end
        })
        .collect()
}

/// Samples of each step where `samples` samples go in steps of `batch`, the last one smaller where they do not divide.
pub(crate) fn step_sizes(samples: usize, batch: usize) -> Vec<usize> {
    (0..samples).step_by(batch).map(|start| batch.min(samples - start)).collect()
}

/// The messages of one step: inputs for the first stage and labels for the last, a pair for each microbatch.
/// `first_microbatch` counts within the segment, `first_sample` within the run.
pub(crate) fn messages(
    samples: Samples,
    count: usize,
    first_microbatch: usize,
    first_sample: u64,
) -> impl Iterator<Item = (Message, Message)> {
    let step_samples = samples.labels.len();
    let width = samples.inputs.len() / step_samples.max(1);
    let Samples { inputs, labels } = samples;
    microbatches(step_samples, count).into_iter().enumerate().map(move |(index, range)| {
        let tag = Tag {
            microbatch: first_microbatch + index,
            samples: range.len(),
            step_samples,
            first_sample: first_sample + range.start as u64,
            cycle: 0,
            checksum: None,
        };
        let values = range.start * width..range.end * width;
        let input = Payload::Inputs(Arc::clone(&inputs), values);
        (Message::Microbatch(tag, input), Message::Microbatch(tag, Payload::Labels(Arc::clone(&labels), range)))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn microbatches_cover_the_samples(samples in 1usize..100, count in 1usize..20) {
            let ranges = microbatches(samples, count);
            prop_assert_eq!(ranges.len(), count.min(samples));
            prop_assert_eq!(ranges[0].start, 0);
            prop_assert_eq!(ranges[ranges.len() - 1].end, samples);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start && pair[0].len() >= pair[1].len()));
            prop_assert!(ranges[0].len() - ranges[ranges.len() - 1].len() <= 1);
        }
    }
}
