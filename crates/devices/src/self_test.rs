//! The self-test: every variant that a device is going to use, held against the reference before it counts.

mod trials;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use brigade_kernels::{Entry, Pass, Random};

use self::trials::{SEED, Trial, Used, in_use, random_trials, trials_for};
use crate::trial::variants;
use crate::verify::{Report, examine};
use crate::{DeviceError, Executor, Kind, Task};

/// What a self-test found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SelfTest {
    /// Every comparison.
    pub reports: Vec<Report>,
    /// Variants that are excluded from now on: operation, pass, variant.
    pub excluded: Vec<(&'static str, Pass, &'static str)>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Holds every variant of `operations` against the reference on a few small cases. A variant that fails is excluded
/// from the executor's [`Selection`](crate::Selection), with a warning.
///
/// # Errors
/// Where no variant of a kernel is left, or the device is lost.
pub fn self_test(executor: &mut dyn Executor, operations: &[&'static Entry]) -> Result<SelfTest, DeviceError> {
    let started = Instant::now();
    let mut test = SelfTest::default();
    let trials = random_trials(executor, operations, &|_| true);
    compile_ahead(executor, &trials, &[])?;
    run(executor, &trials, &mut test)?;
    Ok(test.finished(executor, started))
}

/// As [`self_test`], for the variants alone, with what is fused to them, that `tasks` use by the executor's [`Selection`](crate::Selection): what
/// never runs need not be compiled. Where one fails, what takes its place is tested as well. `operations` has those of
/// the tasks. What the tasks themselves need is compiled on the way, at the same time as what the tests need, and as
/// far as possible it is the same: see `self_test/trials.rs`.
///
/// # Errors
/// As [`self_test`].
pub fn self_test_for(
    executor: &mut dyn Executor,
    operations: &[&'static Entry],
    tasks: &[Task],
) -> Result<SelfTest, DeviceError> {
    if executor.info().kind == Kind::Reference {
        return self_test(executor, operations);
    }
    let started = Instant::now();
    let mut test = SelfTest::default();
    let mut tested = BTreeSet::new();
    loop {
        let used: BTreeSet<_> = tasks.iter().flat_map(|task| in_use(executor, task)).collect();
        let wanted: BTreeSet<_> = used.difference(&tested).copied().collect();
        if wanted.is_empty() {
            return Ok(test.finished(executor, started));
        }
        let trials = trials_for(executor, operations, tasks, &wanted);
        compile_ahead(executor, &trials, tasks)?;
        run(executor, &trials, &mut test)?;
        tested.extend(wanted);
    }
}

/// Compiles at once what the trials and the tasks need: one kernel after another, most of a start would be spent on it.
fn compile_ahead(executor: &mut dyn Executor, trials: &[Trial], tasks: &[Task]) -> Result<(), DeviceError> {
    let dispatches = [trials::dispatches(executor, trials), trials::dispatches_of_tasks(executor, tasks)].concat();
    match executor.compile(&dispatches) {
        // Whatever needs it meets the same error again, where it is known which variant that was.
        Err(DeviceError::Validation { .. }) => Ok(()),
        compiled => compiled,
    }
}

fn run(executor: &mut dyn Executor, trials: &[Trial], test: &mut SelfTest) -> Result<(), DeviceError> {
    trials.iter().try_for_each(|trial| check_case(executor, trial, test))
}

impl SelfTest {
    fn finished(mut self, executor: &dyn Executor, started: Instant) -> Self {
        self.elapsed = started.elapsed();
        let (device, kernels) = (&executor.info().name, self.reports.len());
        tracing::debug!(device, kernels, elapsed = ?self.elapsed, "self-test");
        self
    }
}

fn check_case(
    executor: &mut dyn Executor,
    Trial { case, uses }: &Trial,
    test: &mut SelfTest,
) -> Result<(), DeviceError> {
    let operation = case.operation.name();
    let wanted = |pass, variant| uses.contains(&Used::of(case.operation.as_ref(), pass, variant));
    let device = executor.info().name.clone();
    let mut failed: Vec<(Pass, &'static str, String)> = Vec::new();
    examine(executor, case, &mut Random::new(SEED), &wanted, &mut |pass, variant, outcome| {
        match outcome {
            Ok(reports) => {
                let wrong = reports.iter().find(|report| !report.deviation.holds());
                failed.extend(wrong.map(|report| (pass, variant, report.to_string())));
                test.reports.extend(reports);
                Ok(())
            }
            // A driver that cannot compile a variant is as good as one that computes it wrongly.
            Err(error @ DeviceError::Validation { .. }) => {
                failed.push((pass, variant, error.to_string()));
                Ok(())
            }
            Err(error) => Err(error),
        }
    })?;
    for &(pass, variant, ref detail) in &failed {
        tracing::warn!(device, "kernel {operation}/{pass} {variant} is wrong here and is left out: {detail}");
        executor.selection_mut().exclude(operation, pass, variant);
        test.excluded.push((operation, pass, variant));
    }
    for &(pass, _, ref detail) in &failed {
        if variants(executor, case, pass).is_empty() || executor.info().kind == crate::Kind::Reference {
            let detail = detail.clone();
            return Err(DeviceError::WrongResults { device, operation, pass: pass.name(), detail });
        }
    }
    Ok(())
}
