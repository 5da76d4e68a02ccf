//! The variants of a problem's passes: verified one after another, then timed in turn.

use std::time::Instant;

use brigade::Failure;
use brigade_devices::{DeviceError, Executor, Measured, ProgramId, Subject, Timing};
use brigade_kernels::{Pass, Random, Work};

use super::Spread;
use super::problems::Problem;
use super::report::{Error, Row};

/// What a variant may take in all its rounds, in seconds: a table of a hundred ends within minutes.
const ROW_SECONDS: f64 = 0.4;
/// Rounds that every variant has where `--rounds` allows it, so that no ratio rests on a single time.
const LEAST_ROUNDS: usize = 3;
/// What takes longer is not run a second time, in seconds.
const LONG_SECONDS: f64 = 2.0;
/// What a submission should take, so that its own cost does not count, in seconds.
const SUBMISSION_SECONDS: f64 = 0.02;
/// How long a GPU computes before it is timed, in seconds: one that has been idle, as while the reference was computed,
/// takes some tenths of a second to bring its clock up.
const WARM_UP_SECONDS: f64 = 0.4;
/// Most passes in a submission.
const MOST_TIMES: f64 = 32.0;

/// A row for each variant of each pass that `wanted` chooses.
pub(super) fn rows(
    executor: &mut dyn Executor,
    problem: &Problem,
    wanted: &dyn Fn(Pass) -> bool,
    rounds: usize,
) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let subjects = Subject::passes(executor, &problem.case, &mut Random::new(0xBE7C), wanted)?;
    for subject in &subjects {
        let work = problem.case.operation.work(subject.pass(), problem.case.problem);
        let work = work.map_err(|error| Failure::usage(error.to_string()))?;
        let mut verified = Vec::new();
        for variant in subject.variants(executor) {
            verified.push(verify(executor, problem, subject, variant, work)?);
        }
        let measured = subject.measure(executor)?;
        let timed = time(executor, &measured, &mut verified, rounds);
        measured.release(executor);
        timed?;
        rows.extend(verified);
    }
    Ok(rows)
}

fn verify(
    executor: &mut dyn Executor,
    problem: &Problem,
    subject: &Subject,
    variant: &'static str,
    work: Work,
) -> Result<Row, Failure> {
    let operation = problem.case.operation.name();
    let mut row = Row::new(operation, problem.name, &problem.size, subject.pass(), variant, work);
    match subject.verify(executor, variant) {
        Ok(reports) => {
            row.verified = reports.iter().all(|report| report.deviation.holds());
            let error = |report: &brigade_devices::Report| Error {
                tensor: report.tensor.name(),
                error: report.deviation.error,
                tolerance: report.deviation.tolerance,
            };
            row.errors = reports.iter().map(error).collect();
        }
        // A driver that cannot compile a variant is as good as one that computes it wrongly.
        Err(error @ DeviceError::Validation { .. }) => row.reason = Some(error.to_string()),
        Err(error) => return Err(error.into()),
    }
    Ok(row)
}

/// A variant that is being timed.
struct Candidate {
    row: usize,
    program: ProgramId,
    times: usize,
    rounds: usize,
    timings: Vec<Timing>,
}

fn time(executor: &mut dyn Executor, measured: &Measured, rows: &mut [Row], rounds: usize) -> Result<(), DeviceError> {
    let right = (0..rows.len()).filter(|&row| rows[row].verified);
    let candidates: Result<Vec<_>, _> =
        right.map(|row| Candidate::new(executor, measured, row, rows[row].variant, rounds)).collect();
    let mut candidates = candidates?;
    warm_up(executor, measured, &candidates)?;
    for round in 0..rounds {
        for candidate in candidates.iter_mut().filter(|candidate| round < candidate.rounds) {
            candidate.timings.push(measured.time(executor, candidate.program, candidate.times)?);
        }
    }
    for Candidate { row, program, timings, .. } in candidates {
        executor.forget(program);
        let wall: Vec<_> = timings.iter().map(|timing| 1e3 * timing.wall.as_secs_f64()).collect();
        let device: Option<Vec<_>> =
            timings.iter().map(|timing| timing.device.map(|time| 1e3 * time.as_secs_f64())).collect();
        rows[row].wall_milliseconds = Spread::of(&wall);
        rows[row].milliseconds = Spread::of(&device.unwrap_or(wall));
    }
    Ok(())
}

/// Keeps a GPU busy until its clock is up.
fn warm_up(executor: &mut dyn Executor, measured: &Measured, candidates: &[Candidate]) -> Result<(), DeviceError> {
    if executor.info().is_software() {
        return Ok(());
    }
    let started = Instant::now();
    for candidate in candidates.iter().cycle() {
        if started.elapsed().as_secs_f64() > WARM_UP_SECONDS {
            break;
        }
        measured.time(executor, candidate.program, candidate.times)?;
    }
    Ok(())
}

impl Candidate {
    /// Runs the variant once, to see how often it can be run.
    fn new(
        executor: &mut dyn Executor,
        measured: &Measured,
        row: usize,
        variant: &'static str,
        rounds: usize,
    ) -> Result<Self, DeviceError> {
        let once = measured.prepare(executor, variant, 1)?;
        let first = measured.time(executor, once, 1)?;
        let seconds = first.device.unwrap_or(first.wall).as_secs_f64().max(1e-9);
        let times = (SUBMISSION_SECONDS / seconds).clamp(1.0, MOST_TIMES) as usize;
        if seconds > LONG_SECONDS {
            return Ok(Self { row, program: once, times: 1, rounds: 0, timings: vec![first] });
        }
        let affordable = ((ROW_SECONDS / (seconds * times as f64)) as usize).max(LEAST_ROUNDS);
        let candidate = Self { row, program: once, times: 1, rounds: affordable.min(rounds), timings: Vec::new() };
        if times == 1 {
            return Ok(candidate);
        }
        executor.forget(once);
        Ok(Self { program: measured.prepare(executor, variant, times)?, times, ..candidate })
    }
}
