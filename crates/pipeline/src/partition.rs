//! Where the cuts are.

use std::ops::Range;

use thiserror::Error;

/// A partition that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PartitionError {
    /// More stages than layers.
    #[error("{stages} stages are more than the model's {layers} layers; at most {layers} stages are possible")]
    TooManyStages {
        /// Stages asked for.
        stages: usize,
        /// Layers there are.
        layers: usize,
    },
    /// No stages at all.
    #[error("a pipeline needs at least one stage")]
    NoStages,
    /// A cut after a layer that does not exist, or after the last one.
    #[error("there is no layer `{name}` to cut after; layers that can be cut after are: {known}")]
    NoSuchLayer {
        /// The name given.
        name: String,
        /// The names there are.
        known: String,
    },
    /// Cuts out of order or given twice.
    #[error("the cut after `{name}` is given twice or out of order; cuts go from the input to the output")]
    Order {
        /// The layer.
        name: String,
    },
    /// Numbers that do not agree.
    #[error("{cuts} cuts make {} stages, and {stages} stages are asked for", cuts + 1)]
    Count {
        /// Cuts given.
        cuts: usize,
        /// Stages asked for.
        stages: usize,
    },
}

/// Contiguous ranges of layers, one a stage, such that the slowest stage is as fast as possible; among those the
/// one whose stages' squares sum to the least, so that the other stages are even as well. Exact, by dynamic
/// programming over cuts: `costs[i]` is the work of layer i.
///
/// # Errors
/// Where there are more stages than layers, or none.
pub fn balanced(costs: &[u64], stages: usize) -> Result<Vec<Range<usize>>, PartitionError> {
    balanced_over(&vec![costs; stages])
}

/// As [`balanced`], over stages that are not alike: `costs[s][i]` is the work of layer i at stage s, with an entry for
/// every layer at every stage.
///
/// # Errors
/// As [`balanced`].
pub fn balanced_over(costs: &[impl AsRef<[u64]>]) -> Result<Vec<Range<usize>>, PartitionError> {
    let stages = costs.len();
    let layers = costs.first().ok_or(PartitionError::NoStages)?.as_ref().len();
    if stages > layers {
        return Err(PartitionError::TooManyStages { stages, layers });
    }
    let sums: Vec<_> = costs.iter().map(|costs| prefix_sums(costs.as_ref())).collect();
    let stage_cost = |stage: usize, range: Range<usize>| sums[stage][range.end] - sums[stage][range.start];
    // best[k][end]: the least (slowest stage, sum of squares) of layers 0..end in k + 1 stages, and where the last one starts.
    let mut best: Vec<Vec<Option<Choice>>> = vec![vec![None; layers + 1]; stages];
    for (end, choice) in best[0].iter_mut().enumerate().skip(1) {
        *choice = Some(Choice::first(stage_cost(0, 0..end)));
    }
    for k in 1..stages {
        for end in k + 1..=layers {
            best[k][end] = (k..end)
                .filter_map(|start| best[k - 1][start].map(|before| before.then(start, stage_cost(k, start..end))))
                .min_by(|a, b| a.slowest.cmp(&b.slowest).then(a.squares.total_cmp(&b.squares)));
        }
    }
    Ok(walk_back(&best, layers))
}

#[derive(Clone, Copy)]
struct Choice {
    slowest: u64,
    squares: f64,
    start: usize,
}

impl Choice {
    fn first(cost: u64) -> Self {
        Self { slowest: cost, squares: (cost as f64).powi(2), start: 0 }
    }

    fn then(self, start: usize, cost: u64) -> Self {
        Self { slowest: self.slowest.max(cost), squares: self.squares + (cost as f64).powi(2), start }
    }
}

fn prefix_sums(costs: &[u64]) -> Vec<u64> {
    let mut sums = vec![0];
    for cost in costs {
        sums.push(sums[sums.len() - 1] + cost);
    }
    sums
}

fn walk_back(best: &[Vec<Option<Choice>>], layers: usize) -> Vec<Range<usize>> {
    let mut end = layers;
    let mut ranges: Vec<_> = best
        .iter()
        .rev()
        .map(|row| {
            let start = row[end].map_or(0, |choice| choice.start);
            std::mem::replace(&mut end, start)..start
        })
        .map(|reversed| reversed.end..reversed.start)
        .collect();
    ranges.reverse();
    ranges
}

/// Ranges of layers from the names of the layers after which the model is cut.
///
/// # Errors
/// Where a name is not that of a layer, is the last layer's, or is out of order.
pub fn by_cuts(names: &[&str], cuts: &[String]) -> Result<Vec<Range<usize>>, PartitionError> {
    let mut start = 0;
    let mut ranges = Vec::with_capacity(cuts.len() + 1);
    for cut in cuts {
        let position = names[..names.len().saturating_sub(1)].iter().position(|name| name == cut);
        let Some(position) = position else {
            let known = names[..names.len().saturating_sub(1)].join(", ");
            return Err(PartitionError::NoSuchLayer { name: cut.clone(), known });
        };
        if position < start {
            return Err(PartitionError::Order { name: cut.clone() });
        }
        ranges.push(start..position + 1);
        start = position + 1;
    }
    ranges.push(start..names.len());
    Ok(ranges)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slowest(costs: &[Vec<u64>], ranges: &[Range<usize>]) -> u64 {
        costs.iter().zip(ranges).map(|(costs, range)| costs[range.clone()].iter().sum()).max().unwrap_or(0)
    }

    /// Every way to cut `layers` layers into `stages` stages.
    fn all_partitions(layers: usize, stages: usize) -> Vec<Vec<Range<usize>>> {
        if stages == 1 {
            return vec![std::iter::once(0..layers).collect()];
        }
        (stages - 1..layers)
            .flat_map(|start| {
                all_partitions(start, stages - 1).into_iter().map(move |mut ranges| {
                    ranges.push(start..layers);
                    ranges
                })
            })
            .collect()
    }

    proptest! {
        #[test]
        fn balanced_is_the_best_of_all_partitions(
            costs in (1usize..9).prop_flat_map(|layers| {
                prop::collection::vec(prop::collection::vec(0u64..50, layers), 1..5)
            })
        ) {
            let (stages, layers) = (costs.len(), costs[0].len());
            prop_assume!(stages <= layers);
            let ranges = balanced_over(&costs).unwrap();
            let best = all_partitions(layers, stages).iter().map(|ranges| slowest(&costs, ranges)).min();
            prop_assert_eq!(Some(slowest(&costs, &ranges)), best);
            prop_assert_eq!(ranges.len(), stages);
            prop_assert!(ranges.iter().all(|range| !range.is_empty()));
            prop_assert_eq!(ranges.iter().map(ExactSizeIterator::len).sum::<usize>(), layers);
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn a_slower_stage_gets_fewer_layers() {
        let [fast, slow] = [vec![1; 8], vec![3; 8]];
        assert_eq!(balanced_over(&[&fast, &slow]), Ok(vec![0..6, 6..8]));
        assert_eq!(balanced_over(&[&slow, &fast]), Ok(vec![0..2, 2..8]));
    }

    #[test]
    fn cuts_are_named_and_ordered() {
        let names = ["conv1", "relu1", "fc1"];
        assert_eq!(by_cuts(&names, &["relu1".into()]), Ok(vec![0..2, 2..3]));
        assert!(matches!(by_cuts(&names, &["fc1".into()]), Err(PartitionError::NoSuchLayer { .. })));
        let twice = by_cuts(&names, &["relu1".into(), "conv1".into()]);
        assert!(matches!(twice, Err(PartitionError::Order { .. })));
        assert_eq!(balanced(&[1, 2], 3), Err(PartitionError::TooManyStages { stages: 3, layers: 2 }));
    }
}
