//! Choosing devices: by name, or those that are there.

use brigade_devices::{DeviceError, DeviceInfo, Kind};

use crate::failure::Failure;

/// The device of each name, among all adapters and the reference.
///
/// # Errors
/// Where a name fits none or several.
pub(crate) fn named(names: &[impl AsRef<str>]) -> Result<Vec<DeviceInfo>, Failure> {
    let list = brigade_devices::list();
    names.iter().map(|name| Ok(brigade_devices::find(&list, name.as_ref())?.clone())).collect()
}

/// The devices of a run, one for each stage. Named ones are taken as they are, a single one opened for every stage.
/// Where none is named, every GPU is used, and software adapters only where `software` allows them; where there are
/// fewer than stages they are opened again in turn.
///
/// # Errors
/// Where there is no such device, or names and stages do not agree.
pub fn choose(names: &[String], stages: Option<usize>, software: bool) -> Result<Vec<DeviceInfo>, Failure> {
    if !names.is_empty() {
        return spread_named(named(names)?, stages);
    }
    let list = brigade_devices::list();
    let found: Vec<DeviceInfo> = match brigade_devices::unnamed(&list) {
        Err(DeviceError::SoftwareOnly { .. }) if software => {
            list.iter().filter(|device| device.kind == Kind::Software).cloned().collect()
        }
        other => other?.into_iter().cloned().collect(),
    };
    let stages = stages.unwrap_or(found.len());
    Ok(found.iter().cycle().take(stages).cloned().collect())
}

fn spread_named(found: Vec<DeviceInfo>, stages: Option<usize>) -> Result<Vec<DeviceInfo>, Failure> {
    match (found.as_slice(), stages) {
        ([only], Some(stages)) => Ok(vec![only.clone(); stages]),
        (several, Some(stages)) if several.len() != stages => Err(Failure::usage(format!(
            "{stages} stages and {} devices do not agree; name one device for each stage, or a single one for all",
            several.len()
        ))),
        _ => Ok(found),
    }
}
