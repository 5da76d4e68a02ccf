//! From settings to a placement and a trainer.

use brigade::{DeviceInfo, Failure, Placement, Schedule, Settings, Trainer, check_budget, choose};

/// The placement of a run, and the device of each stage.
pub(crate) fn placement(settings: &Settings) -> Result<(Placement, Vec<DeviceInfo>), Failure> {
    let devices = choose(&settings.devices, settings.stages_asked()?, settings.software)?;
    let placement = place(settings, &devices)?;
    check_slack(settings, placement.stages.len())?;
    check_budget(settings, &placement, &devices)?;
    Ok((placement, devices))
}

/// A mixed schedule says for each link whether it has slack.
fn check_slack(settings: &Settings, stages: usize) -> Result<(), Failure> {
    let links = stages.saturating_sub(1);
    match settings.schedule {
        Schedule::Mixed(slack) if slack.links() != links => Err(Failure::usage(format!(
            "schedule: `{}` has the slack of {} links, and {stages} stages have {links}",
            settings.schedule,
            slack.links()
        ))),
        _ => Ok(()),
    }
}

/// The placement of a run over given devices.
pub(crate) fn place(settings: &Settings, devices: &[DeviceInfo]) -> Result<Placement, Failure> {
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    Ok(if settings.cuts.is_empty() {
        Placement::balanced(&settings.model, &names)?
    } else {
        Placement::by_hand(&settings.model, &names, &settings.cuts)?
    })
}

/// A trainer with everything that the settings say.
pub(crate) fn trainer(settings: &Settings, placement: Placement) -> Trainer {
    Trainer::new(settings.model.clone(), placement)
        .schedule(settings.schedule, settings.microbatches)
        .batch(settings.batch)
        .seed(settings.seed)
        .staleness(settings.staleness)
        .optimiser(settings.optimiser)
        .threads(settings.threads)
        .memory_budget(settings.memory_budget)
        .link_checksums(settings.link_checksums)
        .tune(settings.tune)
        .precision(settings.precision, settings.loss_scale)
}
