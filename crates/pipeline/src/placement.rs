//! Which device has which layers.

use std::ops::Range;

use brigade_kernels::{Pass, ShapeError};
use thiserror::Error;

use crate::model::Sequential;
use crate::partition::{PartitionError, balanced, by_cuts};

/// A placement that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlacementError {
    /// The cuts are wrong.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// Sizes that cannot be indexed.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// For each stage its device, as the user names it, and its layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placement {
    /// Device and range of layers, a pair for each stage, from the input to the output.
    pub stages: Vec<(String, Range<usize>)>,
}

impl Placement {
    /// A stage for each device, cut such that the slowest stage has as few floating-point operations as possible.
    ///
    /// # Errors
    /// Where there are more devices than layers, or none.
    pub fn balanced(model: &Sequential, devices: &[impl AsRef<str>]) -> Result<Self, PlacementError> {
        let ranges = balanced(&layer_costs(model)?, devices.len())?;
        Ok(Self::from_ranges(devices, ranges))
    }

    /// A stage for each device, cut after the layers that `cuts` names.
    ///
    /// # Errors
    /// Where a cut is not the name of a layer or out of order, or their number does not fit that of the devices.
    pub fn by_hand(
        model: &Sequential,
        devices: &[impl AsRef<str>],
        cuts: &[impl AsRef<str>],
    ) -> Result<Self, PlacementError> {
        if cuts.len() + 1 != devices.len() {
            return Err(PartitionError::Count { cuts: cuts.len(), stages: devices.len() }.into());
        }
        let names: Vec<_> = model.layers.iter().map(|layer| layer.name.as_str()).collect();
        let cuts: Vec<_> = cuts.iter().map(|cut| cut.as_ref().to_owned()).collect();
        Ok(Self::from_ranges(devices, by_cuts(&names, &cuts)?))
    }

    fn from_ranges(devices: &[impl AsRef<str>], ranges: Vec<Range<usize>>) -> Self {
        let names = devices.iter().map(|device| device.as_ref().to_owned());
        Self { stages: names.zip(ranges).collect() }
    }
}

/// Floating-point operations of forward and backward for each layer. The first layer needs no gradient of its input.
///
/// # Errors
/// Where sizes cannot be indexed.
pub(crate) fn layer_costs(model: &Sequential) -> Result<Vec<u64>, ShapeError> {
    let first_trained = model.layers.iter().position(|layer| !layer.parameters.is_empty()).unwrap_or(0);
    model
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let unneeded = if index <= first_trained { layer.work(Pass::BackwardInput, 1)?.flops } else { 0 };
            Ok(layer.training_flops(1)? - unneeded)
        })
        .collect()
}
