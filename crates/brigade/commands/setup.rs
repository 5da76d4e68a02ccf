//! From settings to a placement and a trainer.

use brigade::{Balance, DeviceInfo, Failure, Placement, Settings, Trainer, check_budget, choose};
use brigade_pipeline::plan::RunLength;
use brigade_pipeline::schedule::Schedule;

/// The placement of a run, and the device of each stage. `run` is how long it is, where that is known.
pub(crate) fn placement(settings: &Settings, run: Option<RunLength>) -> Result<(Placement, Vec<DeviceInfo>), Failure> {
    let devices = choose(&settings.devices, settings.stages_asked()?, settings.software)?;
    let mut placement = place(settings, &devices)?;
    Schedule::new(settings.schedule, placement.stages.len())
        .check()
        .map_err(|misfit| Failure::usage(misfit.to_string()))?;
    if settings.balance == Balance::Measured && settings.cuts.is_empty() {
        placement = measured(settings, placement)?;
    }
    check_budget(settings, &placement, &devices, run)?;
    Ok((placement, devices))
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

/// The same stages, cut anew by what the layers take on their devices.
fn measured(settings: &Settings, placement: Placement) -> Result<Placement, Failure> {
    let placement = trainer(settings, placement).measured()?.placement().clone();
    let cuts: Vec<_> = placement.cuts(&settings.model).collect();
    if !cuts.is_empty() {
        eprintln!("cut by measured times; --cuts {} does so again", cuts.join(","));
    }
    Ok(placement)
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
