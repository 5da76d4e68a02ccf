//! Which device has which layers.

use std::collections::BTreeMap;
use std::ops::Range;

use brigade_kernels::{Pass, ShapeError};
use thiserror::Error;

use crate::model::Sequential;
use crate::partition::{PartitionError, balanced, balanced_over, by_cuts};

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
    /// By device, what each layer was measured to take there; empty where the cuts are by anything else.
    times: LayerTimes,
}

/// By device, the time of each layer's forward and backward on it, in any unit that is the same for all.
pub type LayerTimes = BTreeMap<String, Vec<u64>>;

impl Placement {
    /// A stage for each device, cut such that the slowest stage has as few floating-point operations as possible.
    ///
    /// # Errors
    /// Where there are more devices than layers, or none.
    pub fn balanced(model: &Sequential, devices: &[impl AsRef<str>]) -> Result<Self, PlacementError> {
        let ranges = balanced(&layer_costs(model)?, devices.len())?;
        Ok(Self::from_ranges(devices, ranges))
    }

    /// A stage for each device, cut such that the slowest stage takes as little time as possible: devices that are not
    /// alike get unequal shares. Where the times of a device are not known, as [`Placement::balanced`].
    ///
    /// # Errors
    /// As [`Placement::balanced`].
    pub fn by_times(
        model: &Sequential,
        devices: &[impl AsRef<str>],
        times: LayerTimes,
    ) -> Result<Self, PlacementError> {
        let of_device = |device: &_| times.get(AsRef::<str>::as_ref(device)).filter(|t| t.len() == model.layers.len());
        let Some(costs) = devices.iter().map(of_device).collect::<Option<Vec<_>>>() else {
            return Self::balanced(model, devices);
        };
        let ranges = balanced_over(&costs)?;
        Ok(Self { times, ..Self::from_ranges(devices, ranges) })
    }

    /// The same model over other devices, a stage on each, cut anew by what these cuts were made by; cuts by hand are not
    /// for other devices.
    ///
    /// # Errors
    /// As [`Placement::balanced`].
    pub fn over(&self, model: &Sequential, devices: &[impl AsRef<str>]) -> Result<Self, PlacementError> {
        Self::by_times(model, devices, self.times.clone())
    }

    /// The layers after which the model is cut.
    pub fn cuts<'a>(&'a self, model: &'a Sequential) -> impl Iterator<Item = &'a str> {
        self.stages.iter().skip(1).map(|(_, range)| model.layers[range.start - 1].name.as_str())
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
        Self { stages: names.zip(ranges).collect(), times: LayerTimes::new() }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::model::built_in;

    #[test]
    fn measured_times_decide_the_cuts_and_hold_for_the_devices_that_are_left() {
        let model = built_in("plain-8").unwrap();
        let layers = model.layers.len();
        let times: LayerTimes =
            [("fast", 1), ("slow", 4)].map(|(device, time)| (device.to_owned(), vec![time; layers])).into();
        let placement = Placement::by_times(&model, &["fast", "slow"], times).unwrap();
        let share = |placement: &Placement| placement.stages[0].1.len() as f64 / layers as f64;
        assert!((share(&placement) - 0.8).abs() < 1.0 / layers as f64, "{placement:?}");
        let cuts: Vec<_> = placement.cuts(&model).collect();
        let by_hand = Placement::by_hand(&model, &["fast", "slow"], &cuts).unwrap();
        assert_eq!(by_hand.stages, placement.stages);
        let again = placement.over(&model, &["slow", "fast"]).unwrap();
        assert!((share(&again) - 0.2).abs() < 1.0 / layers as f64, "{again:?}");
        let unknown = placement.over(&model, &["fast", "other"]).unwrap();
        assert_eq!(unknown, Placement::balanced(&model, &["fast", "other"]).unwrap());
    }
}
