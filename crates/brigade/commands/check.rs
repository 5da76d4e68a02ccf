//! `brigade check`: every kernel against the reference, and against recorded cases, on the named devices.

use std::path::PathBuf;
use std::sync::Arc;

use brigade::{Failure, Status, choose, open, watched};
use brigade_devices::{DeviceError, Executor, self_test};
use brigade_kernels::Entry;
use brigade_kernels::ops::OPERATIONS;
use serde::Serialize;

use crate::output;

mod recorded;

/// The flags of `check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Devices, as `devices` prints them or parts of their names [default: every GPU]
    #[arg(long, value_delimiter = ',')]
    devices: Vec<String>,
    /// Allows software adapters where no device is named
    #[arg(long)]
    software: bool,
    /// A folder of recorded cases (*.safetensors)
    #[arg(long)]
    cases: Option<PathBuf>,
    /// Driver threads of each software adapter [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
}

/// What was compared and what failed.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// Recorded cases, counted once for each device.
    cases: usize,
    /// Those of which every tensor of every variant was within its tolerance.
    passed: usize,
    /// Comparisons of the self-test.
    self_test: usize,
    failed: Vec<Failed>,
}

/// A comparison beyond its tolerance.
#[derive(Debug, Serialize)]
struct Failed {
    case: String,
    device: String,
    variant: String,
    tensor: String,
    /// ‖got − wanted‖ / ‖wanted‖; null where there is no number.
    error: f64,
    tolerance: f64,
    /// Why there is no number.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Failed {
    /// A case that could not be run.
    fn without_numbers(case: &str, device: &str, reason: String) -> Self {
        Self {
            case: case.to_owned(),
            device: device.to_owned(),
            variant: "none".into(),
            tensor: "none".into(),
            error: f64::NAN,
            tolerance: 0.0,
            reason: Some(reason),
        }
    }
}

/// Whether nothing more can be run on the device.
fn is_final(error: &DeviceError) -> bool {
    matches!(error, DeviceError::Lost { .. } | DeviceError::Timeout { .. })
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let cases = Arc::new(args.cases.as_deref().map(recorded::read_folder).transpose()?.unwrap_or_default());
    let mut report = Report::default();
    for device in choose(&args.devices, None, args.software)? {
        let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let mut executor = open(&device, threads)?;
        let (cases, quiet) = (Arc::clone(&cases), args.json);
        report = watched(&device, "the check", move || {
            report.test_itself(executor.as_mut(), quiet)?;
            cases.iter().try_for_each(|case| report.hold(executor.as_mut(), case, quiet))?;
            Ok(report)
        })?;
    }
    if args.json {
        output::json(&report)?;
    } else {
        let failed = report.cases - report.passed;
        output::line(format!(
            "{} comparisons of the self-test; {} recorded cases passed, {failed} failed",
            report.self_test, report.passed
        ))?;
    }
    if report.failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Status::Numerics, format!("{} results are beyond their tolerance", report.failed.len())))
}

impl Report {
    fn test_itself(&mut self, executor: &mut dyn Executor, quiet: bool) -> Result<(), Failure> {
        OPERATIONS.iter().try_for_each(|entry| self.test_operation(executor, entry, quiet))
    }

    fn test_operation(
        &mut self,
        executor: &mut dyn Executor,
        entry: &'static Entry,
        quiet: bool,
    ) -> Result<(), Failure> {
        let device = executor.info().name.clone();
        let test = match self_test(executor, &[entry]) {
            Ok(test) => test,
            Err(error) if is_final(&error) => return Err(error.into()),
            Err(error) => {
                let case = format!("self-test {}", entry.name);
                self.failed.push(Failed::without_numbers(&case, &device, error.to_string()));
                return Ok(());
            }
        };
        for comparison in &test.reports {
            self.self_test += 1;
            let deviation = comparison.deviation;
            if !quiet {
                output::line(format!("{device}: self-test {comparison}"))?;
            }
            if !deviation.holds() {
                self.failed.push(Failed {
                    case: format!("self-test {}/{}", comparison.operation, comparison.pass),
                    device: device.clone(),
                    variant: comparison.variant.to_owned(),
                    tensor: comparison.tensor.to_string(),
                    error: deviation.error,
                    tolerance: deviation.tolerance,
                    reason: None,
                });
            }
        }
        Ok(())
    }

    fn hold(&mut self, executor: &mut dyn Executor, case: &recorded::Recorded, quiet: bool) -> Result<(), Failure> {
        let device = executor.info().name.clone();
        self.cases += 1;
        let comparisons = match case.run(executor) {
            Ok(comparisons) => comparisons,
            Err(recorded::Unrun::Device(error)) if is_final(&error) => return Err(error.into()),
            Err(unrun) => {
                self.failed.push(Failed::without_numbers(&case.name, &device, unrun.to_string()));
                return Ok(());
            }
        };
        let mut passes = true;
        for comparison in comparisons {
            let recorded::Comparison { variant, tensor, deviation } = comparison;
            if !quiet {
                output::line(format!(
                    "{device}: {} {variant}: {tensor} {:.1e} (allowed {:.1e})",
                    case.name, deviation.error, deviation.tolerance
                ))?;
            }
            if !deviation.holds() {
                passes = false;
                self.failed.push(Failed {
                    case: case.name.clone(),
                    device: device.clone(),
                    variant,
                    tensor: tensor.to_owned(),
                    error: deviation.error,
                    tolerance: deviation.tolerance,
                    reason: None,
                });
            }
        }
        self.passed += usize::from(passes);
        Ok(())
    }
}
