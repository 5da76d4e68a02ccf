//! What a self-test runs.
//!
//! On software adapters and on many GPUs a start is spent on compiling, not on computing. A kernel whose text is
//! expanded with a layer's geometry is therefore tested with the layer's own text, on the layer itself cut down: what is
//! tested is what runs, and nothing is compiled for the test alone. Random cases test texts that any size shares. Where
//! neither can be, because the layer is too large for the reference, random cases with texts of their own stand in.

use std::collections::BTreeSet;

use brigade_kernels::{
    Case, Dispatch, Entry, Fusion, Kernel, Operation, Pass, Plan, Problem, Random, Scalars, Shape, Variant,
};

use crate::trial::variants;
use crate::{Executor, Task};

/// Random cases of each operation.
const CASES: usize = 2;

/// Where shapes and data begin, the same at each start.
pub(super) const SEED: u64 = 0x5E1F;

/// Rows and columns that a layer is cut down to at most.
const SMALL: usize = 4;

/// Samples of a layer that is cut down: enough that one lies behind another.
const SAMPLES: usize = 2;

/// Floating-point operations that the reference may take for a layer that is cut down: some hundredths of a second.
const REFERENCE_WORK: u64 = 10_000_000;

/// A case, and what it is to be run with.
pub(super) struct Trial {
    pub(super) case: Case,
    pub(super) uses: BTreeSet<Used>,
}

/// A variant of a pass of an operation, and the rectifier that it computes besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Used {
    operation: &'static str,
    pub(super) pass: Pass,
    pub(super) variant: &'static str,
    fusion: Fusion,
}

impl Used {
    pub(super) fn of(operation: &dyn Operation, pass: Pass, variant: &'static str) -> Self {
        Self { operation: operation.name(), pass, variant, fusion: operation.fusion().of(pass) }
    }
}

/// What the task will run with, as a whole microbatch and as a rest.
pub(super) fn in_use(executor: &dyn Executor, Task { operation, pass, problem }: &Task) -> BTreeSet<Used> {
    let limits = &executor.info().limits;
    let sizes = [problem.n, 1].map(|n| Problem { n, ..*problem });
    let planned = sizes.map(|problem| executor.selection().plan(operation.as_ref(), *pass, problem, limits));
    planned.into_iter().flatten().map(|(variant, _)| Used::of(operation.as_ref(), *pass, variant.name)).collect()
}

/// What tests everything that is `wanted` of the tasks.
pub(super) fn trials_for(
    executor: &dyn Executor,
    operations: &[&'static Entry],
    tasks: &[Task],
    wanted: &BTreeSet<Used>,
) -> Vec<Trial> {
    let own = kernels(dispatches_of_tasks(executor, tasks));
    let random = random_trials(executor, operations, &|used| wanted.contains(&used));
    let (mut trials, spare) = divided(executor, random, &own);
    let mut tested = kernels(dispatches(executor, &trials));
    for task in tasks {
        for used in in_use(executor, task).intersection(wanted) {
            let Some((trial, needed)) = cut_down(executor, task, *used, &own) else { continue };
            if needed.iter().any(|kernel| !tested.contains(kernel)) {
                tested.extend(needed);
                trials.push(trial);
            }
        }
    }
    let reached = |trials: &[Trial]| trials.iter().flat_map(|trial| trial.uses.clone()).collect::<BTreeSet<_>>();
    let left: BTreeSet<_> = wanted.difference(&reached(&trials)).copied().collect();
    let stand_in = |Trial { case, uses }: Trial| Trial { case, uses: uses.intersection(&left).copied().collect() };
    trials.extend(spare.into_iter().map(stand_in).filter(|trial| !trial.uses.is_empty()));
    let mut left: BTreeSet<_> = wanted.difference(&reached(&trials)).copied().collect();
    for task in tasks {
        let theirs = in_use(executor, task).into_iter().filter(|used| left.remove(used));
        trials.extend(theirs.filter_map(|used| smallest(executor, task, used)));
    }
    trials
}

/// The trials with what needs nothing but `own` kernels, and with all else.
fn divided(executor: &dyn Executor, trials: Vec<Trial>, own: &[Kernel]) -> (Vec<Trial>, Vec<Trial>) {
    let shares = |case: &Case, used: &Used| {
        plan(executor, case.operation.as_ref(), *used, case.problem)
            .is_some_and(|plan| plan.dispatches.iter().all(|dispatch| own.contains(&dispatch.kernel)))
    };
    let divide = |Trial { case, uses }: Trial| {
        let (with, without) = uses.into_iter().partition(|used| shares(&case, used));
        (Trial { case: case.clone(), uses: with }, Trial { case, uses: without })
    };
    trials.into_iter().map(divide).unzip()
}

/// Random cases of the operations that reach something `wanted`.
pub(super) fn random_trials(
    executor: &dyn Executor,
    operations: &[&'static Entry],
    wanted: &dyn Fn(Used) -> bool,
) -> Vec<Trial> {
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

/// The task with few samples, rows and columns, as large as the reference has time for and such that it needs nothing but
/// `own` kernels; with those that it needs.
fn cut_down(executor: &dyn Executor, task: &Task, used: Used, own: &[Kernel]) -> Option<(Trial, Vec<Kernel>)> {
    let cheap = |problem: &Problem| {
        task.operation.work(task.pass, *problem).is_ok_and(|work| work.flops.max(work.bytes) <= REFERENCE_WORK)
    };
    problems(task, SAMPLES).into_iter().filter(cheap).find_map(|problem| {
        let needed = kernels(plan(executor, task.operation.as_ref(), used, problem)?.dispatches);
        needed.iter().all(|kernel| own.contains(kernel)).then(|| (trial(task, used, problem), needed))
    })
}

/// The task with one sample and few rows and columns, as few as the variant can be planned for.
fn smallest(executor: &dyn Executor, task: &Task, used: Used) -> Option<Trial> {
    variant(task.operation.as_ref(), used)?;
    let plans = |problem: &Problem| plan(executor, task.operation.as_ref(), used, *problem).is_some();
    let problem = problems(task, 1).into_iter().rev().find(plans).unwrap_or(task.problem);
    Some(trial(task, used, problem))
}

fn trial(task: &Task, used: Used, problem: Problem) -> Trial {
    let case = Case { operation: task.operation.clone(), problem, scalars: Scalars::new() };
    Trial { case, uses: BTreeSet::from([used]) }
}

/// The task with at most so many samples, and its rows and columns halved again and again.
fn problems(task: &Task, samples: usize) -> Vec<Problem> {
    let Shape { c, h, w } = task.problem.input;
    let halved = |side: usize, times: u32| (side >> times).max(side.min(SMALL));
    let input = |times| match task.pass {
        Pass::Update => Shape::vector(SMALL),
        _ => Shape::new(c, halved(h, times), halved(w, times)),
    };
    let halvings = 0..usize::BITS - h.max(w).leading_zeros();
    halvings.map(|times| Problem { n: task.problem.n.min(samples), input: input(times) }).collect()
}

/// What the trials need.
pub(super) fn dispatches(executor: &dyn Executor, trials: &[Trial]) -> Vec<Dispatch> {
    let plans = trials.iter().flat_map(|Trial { case, uses }| {
        uses.iter().filter_map(|used| plan(executor, case.operation.as_ref(), *used, case.problem))
    });
    plans.flat_map(|plan| plan.dispatches).collect()
}

/// What the tasks need in their own size.
pub(super) fn dispatches_of_tasks(executor: &dyn Executor, tasks: &[Task]) -> Vec<Dispatch> {
    let limits = &executor.info().limits;
    let planned = tasks.iter().filter_map(|Task { operation, pass, problem }| {
        executor.selection().plan(operation.as_ref(), *pass, *problem, limits).ok()
    });
    planned.flat_map(|(_, plan)| plan.dispatches).collect()
}

fn kernels(dispatches: Vec<Dispatch>) -> Vec<Kernel> {
    let mut kernels = Vec::new();
    for Dispatch { kernel, .. } in dispatches {
        if !kernels.contains(&kernel) {
            kernels.push(kernel);
        }
    }
    kernels
}

fn plan(executor: &dyn Executor, operation: &dyn Operation, used: Used, problem: Problem) -> Option<Plan> {
    operation.plan(used.pass, &variant(operation, used)?, problem, &executor.info().limits).ok()
}

fn variant(operation: &dyn Operation, used: Used) -> Option<Variant> {
    operation.variants(used.pass).into_iter().find(|variant| variant.name == used.variant)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_kernels::{Limits, ops};
    use serde_json::{Value, json};

    use super::*;
    use crate::{CountingExecutor, DeviceInfo, Kind, ReferenceExecutor};

    fn software() -> CountingExecutor {
        let limits = Limits { software: true, ..Limits::PORTABLE };
        CountingExecutor::new(DeviceInfo { kind: Kind::Software, limits, ..ReferenceExecutor::describe() })
    }

    /// The three passes of a layer over six samples.
    fn layer(name: &str, attributes: &Value, input: Shape) -> Vec<Task> {
        let of_pass = |pass| {
            let operation = (ops::find(name).unwrap().from_attributes)(attributes).unwrap().into();
            Task { operation, pass, problem: Problem { n: 6, input } }
        };
        [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight].map(of_pass).to_vec()
    }

    fn tested(tasks: &[Task]) -> (Vec<Trial>, BTreeSet<Used>) {
        let executor = software();
        let wanted: BTreeSet<_> = tasks.iter().flat_map(|task| in_use(&executor, task)).collect();
        (trials_for(&executor, ops::OPERATIONS, tasks, &wanted), wanted)
    }

    #[test]
    fn what_is_tested_is_what_runs() {
        let input = Shape::new(4, 12, 12);
        let conv = |side: usize| layer("conv2d", &json!({"out_channels": 8, "kernel": side, "padding": 1}), input);
        let tasks = [conv(3), conv(5), layer("linear", &json!({"out_features": 40}), input)].concat();
        let (trials, _) = tested(&tasks);
        let executor = software();
        let (own, compiled) =
            (kernels(dispatches_of_tasks(&executor, &tasks)), kernels(dispatches(&executor, &trials)));
        // Both sizes of filters have texts of their own.
        assert!(own.len() > layer("conv2d", &json!({"out_channels": 8, "kernel": 3}), input).len() * 2);
        assert!(own.iter().all(|kernel| compiled.contains(kernel)), "a kernel runs untested");
        assert!(compiled.iter().all(|kernel| own.contains(kernel)), "a kernel is compiled for its test alone");
    }

    #[test]
    fn random_cases_stand_in_for_layers_that_are_too_large_for_the_reference() {
        let tasks = layer("conv2d", &json!({"out_channels": 512, "kernel": 3, "padding": 1}), Shape::new(512, 64, 64));
        let (trials, wanted) = tested(&tasks);
        let reached: BTreeSet<_> = trials.iter().flat_map(|trial| trial.uses.iter().copied()).collect();
        assert_eq!(reached, wanted);
        assert!(trials.iter().all(|trial| trial.case.problem.input.c < 512));
    }
}
