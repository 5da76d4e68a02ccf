//! What balanced cuts even out.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What balanced cuts even out between the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Balance {
    /// Floating-point operations: the same cuts on any machine, and even ones where the devices are alike.
    #[default]
    Flops,
    /// Times measured on the devices before the start: a slower device gets fewer layers.
    Measured,
}

impl Balance {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Flops, Self::Measured];

    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flops => "flops",
            Self::Measured => "measured",
        }
    }
}

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Balance {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|b| b.name() == word).ok_or_else(|| format!("`{word}` is none of {}", known()))
    }
}
