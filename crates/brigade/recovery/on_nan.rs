//! What a run does where a loss or a gradient is no number.

use std::str::FromStr;

use brigade_pipeline::Position;

use crate::failure::Failure;

/// What is done with a step whose loss or gradients are no numbers. Its update is applied in no case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnNan {
    /// The run ends.
    #[default]
    Stop,
    /// The run goes back to the last snapshot and comes to the same steps again; that one ends without its update, at
    /// every stage.
    Skip,
    /// The run goes on from the last snapshot's weights with the step after that one.
    RollBack,
}

impl OnNan {
    /// Every policy with its word.
    pub const ALL: [(Self, &str); 3] = [(Self::Stop, "stop"), (Self::Skip, "skip"), (Self::RollBack, "roll-back")];

    /// Its word.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(known, _)| *known == self).map_or("", |(_, word)| word)
    }
}

impl FromStr for OnNan {
    type Err = Failure;

    fn from_str(word: &str) -> Result<Self, Failure> {
        let found = Self::ALL.iter().find(|(_, known)| *known == word).map(|(policy, _)| *policy);
        let known = || Self::ALL.map(|(_, known)| known).join(", ");
        found.ok_or_else(|| Failure::usage(format!("on-nan: `{word}` is unknown; known: {}", known())))
    }
}

/// Where a run stands after step `step` of the epoch that `position` is in, of `samples` samples in batches of `batch`.
pub(super) fn after(step: usize, position: Position, samples: usize, batch: usize) -> Position {
    let per_epoch = samples.div_ceil(batch);
    let next = (position.batch + (step + 1).saturating_sub(position.step)).min(per_epoch);
    let seen = |batches: usize| (batches * batch).min(samples);
    let passed = Position {
        step: position.step + next - position.batch,
        samples: position.samples + (seen(next) - seen(position.batch)) as u64,
        ..position
    };
    if next == per_epoch {
        Position { epoch: position.epoch + 1, batch: 0, ..passed }
    } else {
        Position { batch: next, ..passed }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_passed_with_their_samples() {
        let start = Position { step: 10, epoch: 1, batch: 2, samples: 106 };
        // 22 samples in batches of 8: 8, 8, 6.
        assert_eq!(after(10, start, 22, 8), Position { step: 11, epoch: 2, batch: 0, samples: 112 });
        let start = Position { step: 8, epoch: 1, batch: 0, samples: 90 };
        assert_eq!(after(9, start, 22, 8), Position { step: 10, epoch: 1, batch: 2, samples: 106 });
        assert_eq!(after(8, start, 22, 8), Position { step: 9, epoch: 1, batch: 1, samples: 98 });
    }

    #[test]
    fn words_are_read_and_others_refused() {
        for (policy, word) in OnNan::ALL {
            assert_eq!((word.parse::<OnNan>().unwrap(), policy.word()), (policy, word));
        }
        assert!("ignore".parse::<OnNan>().unwrap_err().message.contains("roll-back"));
    }
}
