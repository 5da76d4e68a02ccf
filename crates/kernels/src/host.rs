//! Tensors on the host, for the reference arithmetic.

use std::collections::BTreeMap;

use crate::{Scalars, Tensor};

/// The tensors of one pass in f64, by role.
#[derive(Debug, Clone, Default)]
pub struct HostTensors {
    /// What changes from step to step.
    pub scalars: Scalars,
    tensors: BTreeMap<Tensor, Vec<f64>>,
}

impl HostTensors {
    /// No tensors yet.
    pub fn new(scalars: Scalars) -> Self {
        Self { scalars, tensors: BTreeMap::new() }
    }

    /// Puts a tensor in its place.
    pub fn put(&mut self, tensor: Tensor, values: Vec<f64>) {
        self.tensors.insert(tensor, values);
    }

    /// Takes a tensor out, to write it while others are read.
    ///
    /// # Panics
    /// Where the caller has not put it there: every pass lists its tensors in `Operation::tensors`.
    pub fn take(&mut self, tensor: Tensor) -> Vec<f64> {
        let values = self.tensors.remove(&tensor);
        assert!(values.is_some(), "the reference needs {tensor}");
        values.unwrap_or_default()
    }

    /// A tensor to read.
    ///
    /// # Panics
    /// As [`HostTensors::take`].
    pub fn read(&self, tensor: Tensor) -> &[f64] {
        &self.tensors[&tensor]
    }

    /// Whether the tensor is there.
    pub fn has(&self, tensor: Tensor) -> bool {
        self.tensors.contains_key(&tensor)
    }
}
