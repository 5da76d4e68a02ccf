//! The self-test: every variant that a device is going to use, held against the reference before it counts.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use brigade_kernels::{Case, Entry, Fusion, Operation, Pass, Problem, Random, Scalars, Shape};

use crate::trial::variants;
use crate::verify::{Report, examine};
use crate::{DeviceError, Executor, Kind, Task};

/// Random cases of each operation.
const CASES: usize = 2;

/// Where shapes and data begin, the same at each start.
const SEED: u64 = 0x5E1F;

/// Rows and columns that a layer is cut down to where the random cases leave its variant out.
const SMALL: usize = 4;

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
/// the tasks; a variant that their random cases do not reach is tested on the task itself, cut down. What the tasks
/// themselves need is compiled on the way, at the same time as what the tests need.
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
        let mut trials = random_trials(executor, operations, &|used| wanted.contains(&used));
        let reached: BTreeSet<_> = trials.iter().flat_map(|trial| trial.uses.iter().copied()).collect();
        let mut missed: BTreeSet<_> = wanted.difference(&reached).copied().collect();
        for task in tasks {
            let theirs = in_use(executor, task);
            let small = theirs.into_iter().filter(|used| missed.remove(used));
            trials.extend(small.filter_map(|used| small_trial(executor, task, used)));
        }
        compile_ahead(executor, &trials, tasks)?;
        run(executor, &trials, &mut test)?;
        tested.extend(wanted);
    }
}

/// A case, and what it is to be run with.
struct Trial {
    case: Case,
    uses: BTreeSet<Used>,
}

/// A variant of a pass of an operation, and the rectifier that it computes besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Used {
    operation: &'static str,
    pass: Pass,
    variant: &'static str,
    fusion: Fusion,
}

impl Used {
    fn of(operation: &dyn Operation, pass: Pass, variant: &'static str) -> Self {
        Self { operation: operation.name(), pass, variant, fusion: operation.fusion().of(pass) }
    }
}

/// What the task will run with, as a whole microbatch and as a rest.
fn in_use(executor: &dyn Executor, Task { operation, pass, problem }: &Task) -> BTreeSet<Used> {
    let limits = &executor.info().limits;
    let sizes = [problem.n, 1].map(|n| Problem { n, ..*problem });
    let planned = sizes.map(|problem| executor.selection().plan(operation.as_ref(), *pass, problem, limits));
    planned.into_iter().flatten().map(|(variant, _)| Used::of(operation.as_ref(), *pass, variant.name)).collect()
}

/// Random cases of the operations that reach something `wanted`.
fn random_trials(executor: &dyn Executor, operations: &[&'static Entry], wanted: &dyn Fn(Used) -> bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for entry in operations {
        let mut random = Random::new(SEED);
        for _ in 0..CASES {
            let case = (entry.generate)(&mut random);
            let of_pass = |pass| variants(executor, &case, pass).into_iter().map(move |variant| (pass, variant));
            let all = Pass::ALL.into_iter().flat_map(of_pass);
            let all = all.map(|(pass, variant)| Used::of(case.operation.as_ref(), pass, variant));
            let uses: BTreeSet<_> = all.filter(|&used| wanted(used)).collect();
            if !uses.is_empty() {
                trials.push(Trial { case, uses });
            }
        }
    }
    trials
}

/// The task with one sample and few rows and columns, as few as the variant can be planned for.
fn small_trial(executor: &dyn Executor, task: &Task, used: Used) -> Option<Trial> {
    let limits = &executor.info().limits;
    let Task { operation, pass, .. } = task;
    let variant = operation.variants(*pass).into_iter().find(|found| found.name == used.variant)?;
    let Shape { c, h, w } = task.problem.input;
    let halved = |side: usize, times: u32| (side >> times).max(side.min(SMALL));
    let problems = (0..usize::BITS - h.max(w).leading_zeros()).rev().map(|times| {
        let input = if *pass == Pass::Update {
            Shape::vector(SMALL)
        } else {
            Shape::new(c, halved(h, times), halved(w, times))
        };
        Problem { n: 1, input }
    });
    let plans = |problem: &Problem| operation.plan(*pass, &variant, *problem, limits).is_ok();
    let problem = problems.into_iter().find(plans).unwrap_or(task.problem);
    let case = Case { operation: operation.clone(), problem, scalars: Scalars::new() };
    Some(Trial { case, uses: BTreeSet::from([used]) })
}

/// Compiles at once what the trials and the tasks need: one kernel after another, most of a start would be spent on it.
fn compile_ahead(executor: &mut dyn Executor, trials: &[Trial], tasks: &[Task]) -> Result<(), DeviceError> {
    let limits = &executor.info().limits;
    let of_trial = |trial: &Trial| {
        let Trial { case: Case { operation, problem, .. }, uses } = trial;
        let plan = |used: &Used| {
            let variant = operation.variants(used.pass).into_iter().find(|variant| variant.name == used.variant)?;
            operation.plan(used.pass, &variant, *problem, limits).ok()
        };
        uses.iter().filter_map(plan).collect::<Vec<_>>()
    };
    let of_task = |Task { operation, pass, problem }: &Task| {
        let planned = executor.selection().plan(operation.as_ref(), *pass, *problem, limits);
        planned.ok().map(|(_, plan)| plan)
    };
    let plans = trials.iter().flat_map(of_trial).chain(tasks.iter().filter_map(of_task));
    let dispatches: Vec<_> = plans.flat_map(|plan| plan.dispatches).collect();
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
