//! Every byte that a device has allocated, by purpose.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// What a buffer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Parameters.
    Weights,
    /// Gradients of parameters.
    Gradients,
    /// Optimiser state.
    Optimiser,
    /// Copies of parameters: older versions, predicted ones.
    WeightVersions,
    /// Activation sets, inputs included.
    Activations,
    /// Gradients of activations.
    ActivationGradients,
    /// Mapped upload and download slots.
    Staging,
    /// Scratch memory of passes.
    Workspace,
    /// Uniforms, scalars, labels, metrics and timestamps.
    Small,
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Weights => "weights",
            Self::Gradients => "gradients",
            Self::Optimiser => "optimiser state",
            Self::WeightVersions => "versions of weights",
            Self::Activations => "activations",
            Self::ActivationGradients => "gradients of activations",
            Self::Staging => "staging",
            Self::Workspace => "workspace",
            Self::Small => "small buffers",
        })
    }
}

/// Counts bytes allocated on one device, at this moment and at most.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Ledger {
    live: BTreeMap<Purpose, u64>,
    peak_bytes: u64,
}

impl Ledger {
    /// Notes an allocation.
    pub fn allocate(&mut self, purpose: Purpose, bytes: u64) {
        *self.live.entry(purpose).or_default() += bytes;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes());
    }

    /// Notes that an allocation has gone.
    pub fn release(&mut self, purpose: Purpose, bytes: u64) {
        let live = self.live.entry(purpose).or_default();
        *live = live.saturating_sub(bytes);
    }

    /// Bytes allocated at this moment for `purpose`.
    pub fn bytes(&self, purpose: Purpose) -> u64 {
        self.live.get(&purpose).copied().unwrap_or(0)
    }

    /// Bytes allocated at this moment.
    pub fn live_bytes(&self) -> u64 {
        self.live.values().sum()
    }

    /// The most bytes that were allocated at any moment.
    pub const fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// Bytes by purpose.
    pub fn by_purpose(&self) -> impl Iterator<Item = (Purpose, u64)> + '_ {
        self.live.iter().map(|(&purpose, &bytes)| (purpose, bytes))
    }
}
