//! Rectifiers that are computed by the operations beside them.
//!
//! A rectifier does next to nothing with what it reads, and takes as long as reading and writing take. The operation
//! before it can rectify what it stores, and the one behind it can mask the gradient that it stores; then neither pass of
//! the rectifier is left. The numbers are those of the separate passes, to the bit: the same sum is rectified, and the
//! same sum is masked. Where a gradient is added up in pieces each of them is masked, which is the same.

use std::fmt;

use crate::ops::MASK;
use crate::{Access, Binding, HostTensors, Pass, Random, Tensor, Use};

/// What `shaders/shared/stored.wgsl` is expanded with.
pub(crate) type Stored = [(&'static str, u32); 2];

/// The rectifiers whose passes an operation computes besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fusion {
    /// The one that follows: forward stores max(y, 0) in place of y.
    pub rectifies: bool,
    /// The one before, whose output is `x`: backward_input stores the gradient where x > 0, else 0.
    pub masks: bool,
}

impl fmt::Display for Fusion {
    /// Nothing where nothing is fused, to be written behind a pass.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.rectifies { " rectified" } else { "" })?;
        f.write_str(if self.masks { " masked" } else { "" })
    }
}

impl Fusion {
    /// None: the operation by itself.
    pub const NONE: Self = Self { rectifies: false, masks: false };
    /// The rectifier that follows.
    pub const RECTIFIES: Self = Self { rectifies: true, masks: false };
    /// The rectifier before.
    pub const MASKS: Self = Self { rectifies: false, masks: true };

    /// What of it changes a pass.
    #[must_use]
    pub const fn of(self, pass: Pass) -> Self {
        match pass {
            Pass::Forward => Self { masks: false, ..self },
            Pass::BackwardInput => Self { rectifies: false, ..self },
            Pass::BackwardWeight | Pass::Update => Self::NONE,
        }
    }

    /// A random one, for test cases.
    pub(crate) fn generate(random: &mut Random) -> Self {
        Self { rectifies: random.chance(0.4), masks: random.chance(0.4) }
    }

    /// What a pass reads besides what the operation itself does.
    pub(crate) fn uses(self, pass: Pass) -> Option<Use> {
        self.of(pass).masks.then_some(Use::read(Tensor::X))
    }

    /// For `shaders/shared/stored.wgsl`, in the kernel of a pass that stores its results; `mask` is the slot of the
    /// rectifier's output.
    pub(crate) fn definitions(self, pass: Pass, mask: u32) -> Stored {
        let Self { rectifies, masks } = self.of(pass);
        [("RECTIFY", u32::from(rectifies)), ("MASK", if masks { mask } else { 0 })]
    }

    /// For the same text in every other kernel.
    pub(crate) fn no_definitions() -> Stored {
        Self::NONE.definitions(Pass::Forward, 0)
    }

    /// As [`Fusion::definitions`], for a kernel that stores its results through the slot `result` of `bindings`: beside
    /// them the same elements of the rectifier's output are bound.
    pub(crate) fn bound(self, pass: Pass, result: u32, bindings: &mut Vec<Binding>) -> Stored {
        let stored = bindings.iter().find(|binding| self.of(pass).masks && binding.slot == result);
        let mask = stored.map(|dx| Binding { slot: MASK, tensor: Tensor::X, access: Access::Read, ..dx.clone() });
        bindings.extend(mask);
        self.definitions(pass, MASK)
    }

    /// The meaning of it: the rectifier's pass on what the operation's own has left.
    pub(crate) fn reference(self, pass: Pass, host: &mut HostTensors) {
        let Self { rectifies, masks } = self.of(pass);
        if rectifies {
            let mut y = host.take(Tensor::Y);
            y.iter_mut().for_each(|y| *y = rectified(*y));
            host.put(Tensor::Y, y);
        }
        if masks {
            let mut dx = host.take(Tensor::Dx);
            for (dx, x) in dx.iter_mut().zip(host.read(Tensor::X)) {
                *dx = masked(*x, *dx);
            }
            host.put(Tensor::Dx, dx);
        }
    }
}

/// max(x, 0); NaN passes.
pub(crate) fn rectified(x: f64) -> f64 {
    if x.is_nan() { x } else { x.max(0.0) }
}

/// The gradient of a rectifier's input where its output is `y`; NaN passes.
pub(crate) fn masked(y: f64, dy: f64) -> f64 {
    if y > 0.0 || y.is_nan() { dy } else { 0.0 }
}
