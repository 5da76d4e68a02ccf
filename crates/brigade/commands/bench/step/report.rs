//! What `bench step` found, as a document and as text.

use std::time::Duration;

use brigade::{Failure, Placement, Sequential};
use brigade_pipeline::StageReport;
use brigade_pipeline::schedule::Verb;
use serde::Serialize;

use super::Args;
use super::run::Bench;
use crate::commands::bench::statistics::Spread;
use crate::output;

/// The whole step.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    model: String,
    batch: usize,
    schedule: String,
    microbatches: usize,
    threads: Option<usize>,
    precision: String,
    steps: usize,
    /// From the end of a step to the end of the next.
    milliseconds: Option<Spread>,
    images_per_second: Option<f64>,
    /// The same on profiled devices.
    profiled_milliseconds: Option<Spread>,
    /// The largest of the stages'.
    other_share: f64,
    stages: Vec<Stage>,
}

/// A stage, per step of the profiled rounds.
#[derive(Debug, Serialize)]
struct Stage {
    stage: usize,
    device: String,
    layers: Vec<String>,
    /// From the stage's first action to its last, over the steps; filling the pipeline counts as waiting.
    step_milliseconds: f64,
    /// Between the device's timestamps around each pass of an operation.
    kernel_milliseconds: f64,
    /// For a message of a neighbour, or for samples, with nothing in flight.
    waiting_milliseconds: f64,
    /// Neither of the two.
    other_milliseconds: f64,
    /// Of the step.
    other_share: f64,
    submissions: f64,
    compute_passes: f64,
    dispatches: f64,
    copies: f64,
    kernels: Vec<Kernel>,
}

/// All that one variant of a pass did, per step.
#[derive(Debug, Serialize)]
struct Kernel {
    operation: &'static str,
    pass: &'static str,
    variant: &'static str,
    count: f64,
    milliseconds: f64,
    /// Of the kernels' time.
    share: f64,
}

impl Report {
    pub(super) fn new(args: &Args, model: &Sequential, placement: &Placement, plain: &Bench, profiled: &Bench) -> Self {
        let milliseconds = Spread::of(&plain.step_milliseconds);
        let stages: Vec<_> = profiled
            .stages
            .iter()
            .zip(&placement.stages)
            .map(|(report, (device, range))| {
                let layers = model.layers[range.clone()].iter().map(|layer| layer.name.clone()).collect();
                Stage::new(report, device, layers, profiled)
            })
            .collect();
        Self {
            model: args.model.clone(),
            batch: args.batch,
            schedule: args.schedule.clone(),
            microbatches: args.microbatches,
            threads: args.threads,
            precision: args.precision.to_string(),
            steps: plain.step_milliseconds.len(),
            images_per_second: milliseconds.map(|time| 1e3 * args.batch as f64 / time.median),
            milliseconds,
            profiled_milliseconds: Spread::of(&profiled.step_milliseconds),
            other_share: stages.iter().map(|stage| stage.other_share).fold(0.0, f64::max),
            stages,
        }
    }

    pub(super) fn print(&self) -> Result<(), Failure> {
        if let (Some(time), Some(rate)) = (self.milliseconds, self.images_per_second) {
            output::line(format!(
                "{}, batch {}: {:.2} ms a step ({:.2} to {:.2}, {} steps), {rate:.1} images/s",
                self.model, self.batch, time.median, time.least, time.most, self.steps
            ))?;
        }
        if let Some(time) = self.profiled_milliseconds {
            output::line(format!("profiled: {:.2} ms a step ({:.2} to {:.2})", time.median, time.least, time.most))?;
        }
        self.stages.iter().try_for_each(Stage::print)
    }
}

impl Stage {
    fn new(report: &StageReport, device: &str, layers: Vec<String>, bench: &Bench) -> Self {
        let steps = bench.steps.max(1) as f64;
        let each = |time: Duration| 1e3 * time.as_secs_f64() / steps;
        let (step, kernel, waiting) = (each(report.elapsed), each(report.kernel()), each(report.waited));
        let other = step - kernel - waiting;
        let mut kernels: Vec<_> = report
            .laps
            .iter()
            .map(|(lap, tally)| Kernel {
                operation: lap.operation,
                pass: lap.pass.name(),
                variant: lap.variant,
                count: tally.count as f64 / steps,
                milliseconds: each(tally.time),
                share: each(tally.time) / kernel,
            })
            .collect();
        kernels.sort_by(|one, other| other.milliseconds.total_cmp(&one.milliseconds));
        Self {
            stage: report.stage,
            device: device.to_owned(),
            layers,
            step_milliseconds: step,
            kernel_milliseconds: kernel,
            waiting_milliseconds: waiting,
            other_milliseconds: other,
            other_share: other / step,
            submissions: Verb::ALL.into_iter().map(|verb| report.tally(verb).count).sum::<usize>() as f64 / steps,
            compute_passes: report.work.passes as f64 / steps,
            dispatches: report.work.dispatches as f64 / steps,
            copies: report.work.transfers as f64 / steps,
            kernels,
        }
    }

    fn print(&self) -> Result<(), Failure> {
        output::line(format!(
            "stage {} on {}: {:.2} ms = {:.2} in kernels + {:.2} waiting for a neighbour or samples + {:.2} other \
             ({:.1} %); {:.0} submissions, {:.0} compute passes, {:.0} dispatches, {:.0} copies",
            self.stage,
            self.device,
            self.step_milliseconds,
            self.kernel_milliseconds,
            self.waiting_milliseconds,
            self.other_milliseconds,
            100.0 * self.other_share,
            self.submissions,
            self.compute_passes,
            self.dispatches,
            self.copies
        ))?;
        self.kernels.iter().try_for_each(|kernel| {
            output::line(format!(
                "  {:48} {:3.0} × {:9.3} ms {:5.1} %",
                format!("{}/{} {}", kernel.operation, kernel.pass, kernel.variant),
                kernel.count,
                kernel.milliseconds,
                100.0 * kernel.share
            ))
        })
    }
}
