//! What `bench kernels` found, as a document and as a table.

use brigade::{DeviceInfo, Failure};
use brigade_kernels::{Pass, Work};
use serde::Serialize;

use super::Spread;
use super::ceiling::Ceiling;
use crate::output;

/// The variant that the others are compared with.
const YARDSTICK: &str = "naive";

/// All devices.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) devices: Vec<Device>,
}

/// One device.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    device: String,
    driver: String,
    /// Driver threads, where the driver lets them be chosen.
    threads: Option<usize>,
    ceiling: Ceiling,
    kernels: Vec<Row>,
}

/// One variant of one pass of one problem.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    operation: &'static str,
    problem: &'static str,
    size: String,
    pass: &'static str,
    pub(super) variant: &'static str,
    /// By the device's own timestamps, where it has them.
    pub(super) milliseconds: Option<Spread>,
    /// As the host sees it, submitting and waiting included.
    pub(super) wall_milliseconds: Option<Spread>,
    gflops: Option<f64>,
    gbytes_per_second: Option<f64>,
    /// The time that the ceiling allows over the time that was taken.
    ceiling_share: Option<f64>,
    /// Which part of the ceiling allows no less: `arithmetic` or `memory`.
    bound: &'static str,
    /// How many times as fast as the naive variant.
    times_naive: Option<f64>,
    pub(super) errors: Vec<Error>,
    pub(super) verified: bool,
    /// Why there are no errors to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(skip)]
    work: Work,
}

/// How far one output is from the reference.
#[derive(Debug, Serialize)]
pub(super) struct Error {
    pub(super) tensor: &'static str,
    /// ‖got − wanted‖ / ‖wanted‖; null where it is no number.
    pub(super) error: f64,
    pub(super) tolerance: f64,
}

impl Row {
    /// A variant that has not been looked at yet.
    pub(super) fn new(
        operation: &'static str,
        problem: &'static str,
        size: &str,
        pass: Pass,
        variant: &'static str,
        work: Work,
    ) -> Self {
        Self {
            operation,
            problem,
            size: size.to_owned(),
            pass: pass.name(),
            variant,
            milliseconds: None,
            wall_milliseconds: None,
            gflops: None,
            gbytes_per_second: None,
            ceiling_share: None,
            bound: "",
            times_naive: None,
            errors: Vec::new(),
            verified: false,
            reason: None,
            work,
        }
    }

    fn same_pass(&self, other: &Self) -> bool {
        (self.operation, self.problem, self.pass) == (other.operation, other.problem, other.pass)
    }

    fn compare(&mut self, ceiling: &Ceiling, naive: Option<f64>) {
        let (flops, bytes) = (self.work.flops as f64, self.work.bytes as f64);
        let by_arithmetic = ceiling.seconds(flops, 0.0) > ceiling.seconds(0.0, bytes);
        self.bound = if by_arithmetic { "arithmetic" } else { "memory" };
        let Some(Spread { median, .. }) = self.milliseconds else { return };
        self.gflops = Some(flops / median / 1e6);
        self.gbytes_per_second = Some(bytes / median / 1e6);
        self.ceiling_share = Some(1e3 * ceiling.seconds(flops, bytes) / median);
        self.times_naive = naive.map(|naive| naive / median);
    }

    fn print(&self) -> Result<(), Failure> {
        let Self { operation, problem, pass, variant, .. } = self;
        let name = format!("{operation}/{problem}/{pass} {variant}");
        let errors: Vec<_> = self
            .errors
            .iter()
            .map(|error| format!("{} {:.1e} (allowed {:.1e})", error.tensor, error.error, error.tolerance))
            .collect();
        let errors = self.reason.clone().unwrap_or_else(|| errors.join(", "));
        let (Some(time), Some(gflops), Some(gbytes), Some(share)) =
            (self.milliseconds, self.gflops, self.gbytes_per_second, self.ceiling_share)
        else {
            return output::line(format!("{name:62} WRONG, not timed: {errors}"));
        };
        let rate = if self.bound == "memory" { format!("{gbytes:.2} GB/s") } else { format!("{gflops:.2} GFLOP/s") };
        let naive = self.times_naive.map_or_else(|| "-".to_owned(), |times| format!("{times:.1} ×"));
        output::line(format!(
            "{name:62} {:9.3} ms ({:.3} to {:.3}) {rate:>15} {:5.1} % {naive:>8}  {errors}",
            time.median,
            time.least,
            time.most,
            100.0 * share
        ))
    }
}

impl Device {
    /// Holds the times against the ceiling and against the naive variant of the same pass.
    pub(super) fn new(info: &DeviceInfo, threads: usize, ceiling: Ceiling, mut kernels: Vec<Row>) -> Self {
        let naive = |row: &Row| {
            let yardstick = kernels.iter().find(|other| other.same_pass(row) && other.variant == YARDSTICK)?;
            Some(yardstick.milliseconds?.median)
        };
        let yardsticks: Vec<_> = kernels.iter().map(naive).collect();
        for (row, naive) in kernels.iter_mut().zip(yardsticks) {
            row.compare(&ceiling, naive);
        }
        Self {
            device: info.name.clone(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            threads: info.takes_threads().then_some(threads),
            ceiling,
            kernels,
        }
    }

    fn print(&self) -> Result<(), Failure> {
        let threads = self.threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
        output::line(format!(
            "{}{threads}: at most {:.1} GFLOP/s, {:.1} GB/s",
            self.device, self.ceiling.gflops, self.ceiling.gbytes_per_second
        ))?;
        output::line(format!(
            "{:62} median (least to most), rate, share of the ceiling, times naive, errors",
            "OPERATION/PROBLEM/PASS VARIANT"
        ))?;
        self.kernels.iter().try_for_each(Row::print)
    }
}

impl Report {
    pub(super) fn print(&self) -> Result<(), Failure> {
        self.devices.iter().try_for_each(Device::print)
    }

    /// Variants that gave wrong results.
    pub(super) fn wrong(&self) -> usize {
        self.devices.iter().flat_map(|device| &device.kernels).filter(|row| !row.verified).count()
    }
}
