//! The operations. To add one: its file here, its shader in `shaders/`, and one word in the list below.

mod attributes;
mod bound;
pub(crate) mod elementwise;
mod gemm;
pub(crate) mod items;
mod pooling;
mod slots;

pub(crate) use slots::MASK;

use crate::Entry;

/// Declares the modules and the list that everything else walks.
macro_rules! operations {
    ($($operation:ident),* $(,)?) => {
        $(pub mod $operation;)*

        /// Every operation.
        pub static OPERATIONS: &[&Entry] = &[$(&$operation::ENTRY),*];
    };
}

operations![
    conv2d,
    linear,
    relu,
    max_pool2d,
    avg_pool2d,
    local_response_norm,
    dropout,
    softmax_cross_entropy,
    non_finite,
    sgd,
    extrapolate,
    drift
];

/// The operation called `name`.
pub fn find(name: &str) -> Option<&'static Entry> {
    OPERATIONS.iter().copied().find(|entry| entry.name == name)
}
