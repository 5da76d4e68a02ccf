//! Choosing devices: by name, or those that are there.

use brigade_devices::{DeviceError, DeviceInfo, Kind};
use brigade_pipeline::schedule::Schedule;

use crate::failure::Failure;

/// Names that were cut apart at the commas within them: an adapter's own name may have some, in parentheses, as in
/// `llvmpipe (LLVM 15.0.6, 256 bits)`.
pub fn whole_names(pieces: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match names.last_mut() {
            Some(name) if name.matches('(').count() > name.matches(')').count() => {
                name.push(',');
                name.push_str(piece);
            }
            _ => names.push(piece.clone()),
        }
    }
    names
}

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
        return spread_named(named(&whole_names(names))?, stages);
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

/// The devices of a run with `blocks` layer-blocks on each, one for each stage: they come round again. They are named
/// once each; all of the stages may be named as well, where the same device comes round.
///
/// # Errors
/// As [`choose`], and where stages that share a device are named different ones.
pub fn choose_interleaved(
    names: &[String],
    stages: Option<usize>,
    blocks: usize,
    software: bool,
) -> Result<Vec<DeviceInfo>, Failure> {
    let names = &whole_names(names)[..];
    let every_stage = blocks > 1 && names.len() > 1 && stages == Some(names.len());
    if blocks < 2 || every_stage {
        return choose(names, stages, software);
    }
    if let Some(stages) = stages.filter(|stages| !stages.is_multiple_of(blocks)) {
        return Err(Failure::usage(format!(
            "{stages} stages are no multiple of the {blocks} layer-blocks that the schedule has on each device"
        )));
    }
    let devices = choose(names, stages.map(|stages| stages / blocks), software)?;
    Ok(devices.iter().cycle().take(devices.len().saturating_mul(blocks)).cloned().collect())
}

/// Whether the stages that share a device under `schedule` are on one.
///
/// # Errors
/// Names two that are not.
pub fn check_shared(schedule: &Schedule, devices: &[DeviceInfo]) -> Result<(), Failure> {
    let shares = |stage: usize| (schedule.device(stage), &devices[schedule.device(stage)]);
    let apart = devices.iter().enumerate().find(|&(stage, device)| device.name != shares(stage).1.name);
    let Some((stage, device)) = apart else { return Ok(()) };
    let (first, other) = shares(stage);
    Err(Failure::usage(format!(
        "schedule: `{}` has stages {first} and {stage} on one device, and they are on {} and {}; name each device once, in \
         the order of the first {} stages",
        schedule.kind,
        other.name,
        device.name,
        schedule.devices()
    )))
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_devices::{Executor, ReferenceExecutor};

    use super::*;

    fn devices(names: &[&str]) -> Vec<DeviceInfo> {
        let named = |name: &&str| DeviceInfo { name: (*name).to_owned(), ..ReferenceExecutor::new().info().clone() };
        names.iter().map(named).collect()
    }

    #[test]
    fn commas_within_parentheses_are_part_of_a_name() {
        let whole = |list: &str| whole_names(&list.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(whole("llvmpipe (LLVM 15.0.6, 256 bits)"), ["llvmpipe (LLVM 15.0.6, 256 bits)"]);
        assert_eq!(whole("a (1, 2),b,c (3 (4, 5), 6)"), ["a (1, 2)", "b", "c (3 (4, 5), 6)"]);
        assert_eq!(whole("a,b"), ["a", "b"]);
        assert_eq!(whole_names(&whole("a (1, 2),b")), ["a (1, 2)", "b"]);
    }

    #[test]
    fn layer_blocks_that_take_turns_are_on_one_device() {
        let schedule = Schedule::new("interleaved=2".parse().unwrap(), 4);
        assert!(check_shared(&schedule, &devices(&["a", "b", "a", "b"])).is_ok());
        assert!(check_shared(&schedule, &devices(&["a", "a", "a", "a"])).is_ok());
        let message = check_shared(&schedule, &devices(&["a", "a", "b", "b"])).unwrap_err().message;
        assert!(message.contains("stages 0 and 2 on one device, and they are on a and b"), "{message}");
        let plain = Schedule::new("1f1b".parse().unwrap(), 4);
        assert!(check_shared(&plain, &devices(&["a", "a", "b", "b"])).is_ok());
    }

    #[test]
    fn named_devices_come_round_for_every_block() {
        let reference = "reference".to_owned();
        let count = |names: usize, stages: Option<usize>, blocks: usize| {
            choose_interleaved(&vec![reference.clone(); names], stages, blocks, false).map(|devices| devices.len())
        };
        for (names, stages, blocks) in [(1, None, 3), (2, None, 2), (1, Some(6), 3), (2, Some(4), 2), (4, Some(4), 2)] {
            assert_eq!(count(names, stages, blocks).unwrap(), stages.unwrap_or(names * blocks));
        }
        assert!(count(2, Some(5), 2).unwrap_err().message.contains("5 stages are no multiple of the 2 layer-blocks"));
        assert!(count(3, Some(4), 2).is_err());
    }
}
