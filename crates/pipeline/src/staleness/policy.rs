//! Which version of the weights a microbatch meets.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::StalenessError;

/// The weight policies of the schedules that never flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightPolicy {
    /// One copy: forward with the weights of its moment, backward with those of its own (Kawaguchi 2018).
    #[default]
    Single,
    /// Backward with the version that the forward read (PipeDream's weight stashing, Narayanan et al. 2019).
    Stashed,
    /// Both passes of a microbatch of update k with the weights before update k − 1, at every stage (PipeDream-2BW,
    /// Narayanan et al. 2021).
    DoubleBuffered,
}

impl WeightPolicy {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Single, Self::Stashed, Self::DoubleBuffered];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Stashed => "stashed",
            Self::DoubleBuffered => "double-buffered",
        }
    }
}

impl fmt::Display for WeightPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WeightPolicy {
    type Err = StalenessError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let unknown = || StalenessError::Unknown { what: "weight policy", word: word.to_owned(), known: known() };
        Self::ALL.into_iter().find(|policy| policy.name() == word).ok_or_else(unknown)
    }
}
