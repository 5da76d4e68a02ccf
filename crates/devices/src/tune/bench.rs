//! One task on one device: its candidates held against the reference, then timed in turn.

use std::time::{Duration, Instant};

use brigade_kernels::Tensor;

use super::Task;
use super::proof::Proof;
use crate::program::{Command, Program, Run, Slice};
use crate::trial::{Words, inner};
use crate::watch::{begins, longest_computing};
use crate::{Completion, DeviceError, Executor, ProgramId, Purpose};

/// How long a single run may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Rounds of timing, and the time after which no further round is begun.
const ROUNDS: usize = 5;
const ENOUGH: Duration = Duration::from_millis(400);
/// How many times slower than the best a candidate may be and still be timed again: after its first run, in which the
/// driver may still be compiling, unless that was short anyway, and after later ones.
const HOPELESS: u32 = 4;
/// How long a GPU computes before it is timed: one that has been idle is slow at first.
const WARM_UP: Duration = Duration::from_millis(20);
const SHORT: Duration = Duration::from_millis(50);
const SLOWER: f64 = 1.5;

/// What became of a candidate.
pub(super) enum Verdict {
    /// Its results are right.
    Right,
    /// Its results are wrong, or the driver cannot compile it.
    Wrong(String),
    /// It does not fit the device's memory, which says nothing of its results.
    NoRoom,
    /// The device has gone with it.
    Fatal(String),
}

/// A candidate whose results are right.
struct Runner {
    variant: &'static str,
    program: ProgramId,
    best: Duration,
    in_race: bool,
}

/// The buffers of a task, and the candidates that have been found right so far.
pub(super) struct Bench {
    executor: Box<dyn Executor>,
    proof: Proof,
    tensors: Vec<(Tensor, Slice)>,
    runners: Vec<Runner>,
}

impl Bench {
    /// Allocates what the task reads and writes.
    pub(super) fn new(executor: Box<dyn Executor>, task: &Task) -> Result<Self, (Box<dyn Executor>, DeviceError)> {
        tells(executor.as_ref(), task, "data");
        let proof = match Proof::new(executor.as_ref(), task) {
            Ok(proof) => proof,
            Err(error) => return Err((executor, error)),
        };
        let mut bench = Self { executor, proof, tensors: Vec::new(), runners: Vec::new() };
        match bench.allocate() {
            Ok(()) => Ok(bench),
            Err(error) => Err((bench.close(), error)),
        }
    }

    fn allocate(&mut self) -> Result<(), DeviceError> {
        for (used, words) in &self.proof.before {
            let buffer = self.executor.allocate(words.len(), Purpose::Small)?;
            self.tensors.push((used.tensor, Slice { buffer, start: 0, elements: words.len() }));
        }
        for ((_, words), (_, slice)) in self.proof.before.iter().zip(&self.tensors) {
            self.executor.write(*slice, bytemuck::cast_slice(words))?;
        }
        Ok(())
    }

    /// Frees everything and gives the device back.
    pub(super) fn close(mut self) -> Box<dyn Executor> {
        for runner in self.runners {
            self.executor.forget(runner.program);
        }
        for (_, slice) in self.tensors {
            self.executor.release(slice.buffer);
        }
        self.executor
    }

    /// Runs a candidate once and compares what it gives.
    pub(super) fn examine(&mut self, variant: &'static str) -> Result<Verdict, DeviceError> {
        tells(self.executor.as_ref(), &self.proof.task, variant);
        match self.try_examine(variant) {
            Ok(verdict) => Ok(verdict),
            Err(DeviceError::OutOfMemory { .. }) => Ok(Verdict::NoRoom),
            Err(error @ DeviceError::Lost { .. }) => Ok(Verdict::Fatal(error.to_string())),
            // A driver that cannot compile a variant is as good as one that computes it wrongly.
            Err(error @ (DeviceError::Validation { .. } | DeviceError::Program { .. })) => {
                Ok(Verdict::Wrong(error.to_string()))
            }
            Err(error) => Err(error),
        }
    }

    fn try_examine(&mut self, variant: &'static str) -> Result<Verdict, DeviceError> {
        let program = self.prepare(variant)?;
        for ((used, words), (_, slice)) in self.proof.before.iter().zip(&self.tensors) {
            if used.access.writes() {
                self.executor.write(*slice, bytemuck::cast_slice(words))?;
            }
        }
        let first = self.run(program)?;
        let got = self.outputs()?;
        let (ran, compared) = self.proof.sizes();
        match self.proof.compare(variant, &got) {
            Some((tensor, deviation)) if !deviation.holds() => {
                self.executor.forget(program);
                let (error, tolerance) = (deviation.error, deviation.tolerance);
                Ok(Verdict::Wrong(format!(
                    "{tensor} is {error:.1e} off, allowed {tolerance:.1e} ({compared} of {ran} samples compared)"
                )))
            }
            _ => {
                tracing::debug!(variant, ?first, compared, ran, "right");
                self.runners.push(Runner { variant, program, best: first, in_race: true });
                Ok(Verdict::Right)
            }
        }
    }

    fn prepare(&mut self, variant: &'static str) -> Result<ProgramId, DeviceError> {
        let Task { operation, pass, problem } = self.proof.task.clone();
        let name = operation.name();
        let inside = |&((used, _), (_, slice)): &(&(brigade_kernels::Use, Vec<u32>), &(Tensor, Slice))| {
            let elements = operation.elements(used.tensor, problem).unwrap_or_default();
            (used.tensor, Slice { start: Slice::ALIGNMENT, elements, ..*slice })
        };
        let tensors = self.proof.before.iter().zip(&self.tensors).map(|pair| inside(&pair)).collect();
        let program = Program {
            label: format!("tuning of {name}/{pass} {variant}"),
            commands: vec![Command::Run(Run { operation: operation.clone(), pass, problem, tensors })],
            ..Program::default()
        };
        let before = self.executor.selection_mut().prefer(name, pass, Some(variant));
        let prepared = self.executor.prepare(&program, 1);
        self.executor.selection_mut().prefer(name, pass, before);
        prepared
    }

    /// The time of one run, by the device's clock where it has one.
    fn run(&mut self, program: ProgramId) -> Result<Duration, DeviceError> {
        let ticket = self.executor.submit(program, None)?;
        let Completion { submitted, finished, device_time, .. } = self.executor.wait(ticket, PATIENCE)?;
        Ok(device_time.filter(|time| !time.is_zero()).unwrap_or(finished - submitted))
    }

    fn outputs(&mut self) -> Result<Words, DeviceError> {
        let Task { operation, problem, .. } = &self.proof.task;
        let mut got = Words::new();
        for ((used, _), (_, slice)) in self.proof.before.iter().zip(&self.tensors) {
            if used.access.writes() {
                let elements = operation.elements(used.tensor, *problem).unwrap_or_default();
                let bytes = self.executor.read(*slice)?;
                got.insert(used.tensor, inner(bytemuck::pod_collect_to_vec(&bytes), elements));
            }
        }
        Ok(got)
    }

    /// How many candidates have been found right.
    pub(super) fn right(&self) -> usize {
        self.runners.len()
    }

    /// Times the right ones in turn, so that what disturbs one disturbs them all; the least time of each. Those that
    /// have no chance any more are left out of later rounds.
    pub(super) fn race(&mut self) -> Result<Vec<(&'static str, Duration)>, DeviceError> {
        if self.runners.len() > 1 {
            let most = SHORT.max(self.best() * HOPELESS);
            for runner in &mut self.runners {
                runner.in_race = runner.best <= most;
            }
            self.warm_up()?;
            let started = Instant::now();
            for round in 0..ROUNDS {
                if round > 1 && started.elapsed() > ENOUGH {
                    break;
                }
                self.round(round == 0)?;
            }
        }
        Ok(self.runners.iter().map(|runner| (runner.variant, runner.best)).collect())
    }

    /// Keeps a GPU busy until its clock is up.
    fn warm_up(&mut self) -> Result<(), DeviceError> {
        let started = Instant::now();
        let quickest = self.runners.iter().min_by_key(|runner| runner.best).map(|runner| runner.program);
        while let Some(program) = quickest.filter(|_| !self.executor.info().is_software())
            && started.elapsed() < WARM_UP
        {
            self.run(program)?;
        }
        Ok(())
    }

    /// Runs everyone who is in the race once. The first round replaces the times of the runs that were compared, in
    /// which the driver may have been compiling.
    fn round(&mut self, first: bool) -> Result<(), DeviceError> {
        for index in 0..self.runners.len() {
            if self.runners[index].in_race {
                tells(self.executor.as_ref(), &self.proof.task, self.runners[index].variant);
                let time = self.run(self.runners[index].program)?;
                let runner = &mut self.runners[index];
                runner.best = if first { time } else { runner.best.min(time) };
            }
        }
        let best = self.best();
        for runner in &mut self.runners {
            runner.in_race &= runner.best <= best.mul_f64(SLOWER);
        }
        Ok(())
    }

    fn best(&self) -> Duration {
        self.runners.iter().map(|runner| runner.best).min().unwrap_or_default()
    }
}

/// Tells whoever watches what of a task is being tuned.
fn tells(executor: &dyn Executor, task: &Task, what: &str) {
    let flops = task.operation.work(task.pass, task.problem).unwrap_or_default().flops;
    let allowed = longest_computing(executor.info().kind, flops);
    begins(allowed, || format!("kernel {} ({what}), while it is tuned,", task.name()));
}
