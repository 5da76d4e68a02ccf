//! From settings to a placement and a trainer.

use brigade::{
    Balance, DeviceInfo, Failure, Placement, Settings, Trainer, check_budget, check_shared, check_stages,
    choose_interleaved, start_through_losses,
};
use brigade_devices::CountingExecutor;
use brigade_pipeline::plan::RunLength;
use brigade_pipeline::schedule::Schedule;

use crate::output;

/// The placement of a run, and the device of each stage. `run` is how long it is, where that is known.
pub(crate) fn placement(settings: &Settings, run: Option<RunLength>) -> Result<(Placement, Vec<DeviceInfo>), Failure> {
    let blocks = settings.schedule.blocks();
    // However many blocks are asked for: so many stages are then listed.
    check_stages(&settings.model, blocks)?;
    let devices = choose_interleaved(&settings.devices, settings.stages_asked()?, blocks, settings.software)?;
    check_stages(&settings.model, devices.len())?;
    let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
    let (mut placement, schedule) = place(settings, &names)?;
    check_shared(&schedule, &devices)?;
    if settings.balance == Balance::Measured && settings.cuts.is_empty() {
        placement = measured(settings, placement)?;
    }
    let counting: Vec<_> = devices.iter().cloned().map(CountingExecutor::new).collect();
    check_budget(settings, &placement, &counting, run)?;
    Ok((placement, devices))
}

/// The placement of a plan whose devices are not named: each counts as one with buffers of `buffer_bytes` at most.
pub(crate) fn placement_anywhere(
    settings: &Settings,
    buffer_bytes: u64,
) -> Result<(Placement, Vec<CountingExecutor>), Failure> {
    let stages = settings.stages_asked()?.unwrap_or(settings.schedule.blocks());
    check_stages(&settings.model, stages)?;
    let (placement, _) = place(settings, &vec!["-"; stages])?;
    let counting = vec![CountingExecutor::unnamed(buffer_bytes); stages];
    check_budget(settings, &placement, &counting, None)?;
    Ok((placement, counting))
}

/// A stage on each of the named devices, and the schedule over them, which must be one for so many.
fn place(settings: &Settings, names: &[&str]) -> Result<(Placement, Schedule), Failure> {
    let placement = if settings.cuts.is_empty() {
        Placement::balanced(&settings.model, names)?
    } else {
        Placement::by_hand(&settings.model, names, &settings.cuts)?
    };
    let schedule = Schedule::new(settings.schedule, placement.stages.len());
    schedule.check().map_err(|misfit| Failure::usage(misfit.to_string()))?;
    Ok((placement, schedule))
}

/// The same stages, cut anew by what the layers take on their devices.
fn measured(settings: &Settings, placement: Placement) -> Result<Placement, Failure> {
    let trainer = trainer(settings, placement);
    let placement = start_through_losses(|| trainer.measured())?.placement().clone();
    let cuts: Vec<_> = placement.cuts(&settings.model).collect();
    if !cuts.is_empty() {
        output::tell(format_args!("cut by measured times; --cuts {} does so again", cuts.join(",")));
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
