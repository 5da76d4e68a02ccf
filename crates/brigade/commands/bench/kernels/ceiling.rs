//! What an adapter can do at most, measured while everything else is.

use brigade::{Failure, Status};
use brigade_devices::{Executor, Measured, ProgramId, Subject};
use brigade_kernels::{Case, Pass, Random, ceiling};
use serde::Serialize;

/// The best that was seen.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Ceiling {
    /// Of the multiply-add kernel; a multiply-add counts two.
    pub(super) gflops: f64,
    /// Of the copy kernel: what it reads and what it writes.
    pub(super) gbytes_per_second: f64,
}

impl Ceiling {
    /// The least seconds that work can take.
    pub(super) fn seconds(&self, flops: f64, bytes: f64) -> f64 {
        (flops / self.gflops).max(bytes / self.gbytes_per_second) / 1e9
    }
}

/// Invocations and rounds of the multiply-add kernel, and elements of the copy kernel: a few milliseconds each, on
/// more memory than caches hold.
const SOFTWARE: (usize, u32, usize) = (4096, 256, 8 << 20);
const GPU: (usize, u32, usize) = (1 << 20, 256, 32 << 20);

/// Samples at a time.
const SAMPLES: usize = 3;

/// Both kernels, ready to be run.
pub(super) struct Meter {
    flops: Gauge,
    bytes: Gauge,
}

/// One kernel.
struct Gauge {
    measured: Measured,
    program: ProgramId,
    /// Work of one run.
    amount: f64,
    /// Least seconds of a run.
    least: f64,
}

impl Meter {
    /// Holds both kernels against their references.
    pub(super) fn new(executor: &mut dyn Executor) -> Result<Self, Failure> {
        let (elements, rounds, copied) = if executor.info().is_software() { SOFTWARE } else { GPU };
        check(executor, &ceiling::multiply_add(100, rounds))?;
        check(executor, &ceiling::copy(5000))?;
        let work = |case: &Case| case.operation.work(Pass::Forward, case.problem).unwrap_or_default();
        let (flops, bytes) = (ceiling::multiply_add(elements, rounds), ceiling::copy(copied));
        let (flop, byte) = (work(&flops).flops as f64, work(&bytes).bytes as f64);
        Ok(Self { flops: Gauge::new(executor, &flops, flop)?, bytes: Gauge::new(executor, &bytes, byte)? })
    }

    /// Runs both a few times.
    pub(super) fn sample(&mut self, executor: &mut dyn Executor) -> Result<(), Failure> {
        self.flops.sample(executor)?;
        self.bytes.sample(executor)
    }

    /// The best so far.
    pub(super) fn ceiling(&self) -> Ceiling {
        let rate = |gauge: &Gauge| gauge.amount / gauge.least / 1e9;
        Ceiling { gflops: rate(&self.flops), gbytes_per_second: rate(&self.bytes) }
    }
}

/// The only variant of each kernel.
const VARIANT: &str = "ceiling";

impl Gauge {
    fn new(executor: &mut dyn Executor, case: &Case, amount: f64) -> Result<Self, Failure> {
        let subject = Subject::unverified(executor, case, Pass::Forward, &mut Random::new(1))?;
        let measured = subject.measure(executor)?;
        let program = measured.prepare(executor, VARIANT, 1)?;
        Ok(Self { measured, program, amount, least: f64::INFINITY })
    }

    fn sample(&mut self, executor: &mut dyn Executor) -> Result<(), Failure> {
        for _ in 0..SAMPLES {
            let timing = self.measured.time(executor, self.program, 1)?;
            self.least = self.least.min(timing.device.unwrap_or(timing.wall).as_secs_f64());
        }
        Ok(())
    }
}

/// Holds a kernel against its reference, in a small size.
fn check(executor: &mut dyn Executor, case: &Case) -> Result<(), Failure> {
    let reports = brigade_devices::verify(executor, case, &mut Random::new(1))?;
    match reports.iter().find(|report| !report.deviation.holds()) {
        Some(wrong) => Err(Failure::new(Status::Numerics, format!("{}: {wrong}", executor.info().name))),
        None => Ok(()),
    }
}
