//! Kernels held against the reference, on the very adapter.

use std::collections::btree_map;
use std::fmt;
use std::time::{Duration, Instant};

use brigade_kernels::{
    Access, Case, Deviation, ElementType, Entry, HostTensors, Operation, Pass, Precision, Random, Tensor, Use,
};

use crate::convert::{from_words, to_words};
use crate::trial::{Words, elements, run_pass, variants};
use crate::{DeviceError, Executor};

/// How far one output of one variant is from the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The operation.
    pub operation: &'static str,
    /// The variant.
    pub variant: &'static str,
    /// The pass.
    pub pass: Pass,
    /// The output.
    pub tensor: Tensor,
    /// The error, and what is allowed.
    pub deviation: Deviation,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operation, variant, pass, tensor, deviation: Deviation { error, tolerance } } = self;
        write!(f, "{operation}/{pass} {variant}: {tensor} {error:.1e} (allowed {tolerance:.1e})")
    }
}

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

/// Runs every pass of a case with every variant that the executor can run, on random data, against the f64
/// reference.
///
/// # Errors
/// Where the executor fails; wrong numbers are in the reports.
pub fn verify(executor: &mut dyn Executor, case: &Case, random: &mut Random) -> Result<Vec<Report>, DeviceError> {
    verify_some(executor, case, random, &|_| true)
}

/// As [`verify`], with the variants that are `wanted` alone.
///
/// # Errors
/// As [`verify`].
pub fn verify_some(
    executor: &mut dyn Executor,
    case: &Case,
    random: &mut Random,
    wanted: &dyn Fn(&'static str) -> bool,
) -> Result<Vec<Report>, DeviceError> {
    let mut reports = Vec::new();
    examine(executor, case, random, wanted, &mut |_, _, outcome| {
        reports.extend(outcome?);
        Ok(())
    })?;
    Ok(reports)
}

/// Holds every variant of `operations` against the reference on a few small cases. A variant that fails is excluded
/// from the executor's [`Selection`](crate::Selection), with a warning.
///
/// # Errors
/// Where no variant of a kernel is left, or the device is lost.
pub fn self_test(executor: &mut dyn Executor, operations: &[&'static Entry]) -> Result<SelfTest, DeviceError> {
    const CASES: usize = 2;
    let started = Instant::now();
    let mut test = SelfTest::default();
    for entry in operations {
        let mut random = Random::new(0x5E1F);
        for _ in 0..CASES {
            let case = (entry.generate)(&mut random);
            check_case(executor, &case, &mut random, &mut test)?;
        }
    }
    test.elapsed = started.elapsed();
    tracing::debug!(device = executor.info().name, kernels = test.reports.len(), elapsed = ?test.elapsed, "self-test");
    Ok(test)
}

fn check_case(
    executor: &mut dyn Executor,
    case: &Case,
    random: &mut Random,
    test: &mut SelfTest,
) -> Result<(), DeviceError> {
    let operation = case.operation.name();
    let device = executor.info().name.clone();
    let mut failed: Vec<(Pass, &'static str, String)> = Vec::new();
    examine(executor, case, random, &|_| true, &mut |pass, variant, outcome| {
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

type Outcome = Result<Vec<Report>, DeviceError>;

/// Runs every variant of a case that is `chosen`; `note` says whether to go on.
fn examine(
    executor: &mut dyn Executor,
    case: &Case,
    random: &mut Random,
    chosen: &dyn Fn(&'static str) -> bool,
    note: &mut dyn FnMut(Pass, &'static str, Outcome) -> Result<(), DeviceError>,
) -> Result<(), DeviceError> {
    let operation = case.operation.as_ref();
    let mut known = Words::new();
    for pass in Pass::ALL {
        let uses = operation.tensors(pass);
        for used in uses.iter().filter(|used| used.access.reads()) {
            if let btree_map::Entry::Vacant(place) = known.entry(used.tensor) {
                place.insert(random_words(case, used.tensor, elements(executor, case, used.tensor)?, random));
            }
        }
        let wanted = reference(executor, case, pass, &uses, &known)?;
        for variant in variants(executor, case, pass).into_iter().filter(|variant| chosen(variant)) {
            let got = run_pass(executor, case, pass, variant, &known);
            note(pass, variant, got.map(|got| compare(case, pass, variant, &got, &wanted)))?;
        }
        for (tensor, values) in wanted {
            if uses.contains(&Use { tensor, access: Access::Write }) {
                let mut words = vec![0; values.len()];
                to_words(&values, operation.element_type(tensor), &mut words);
                known.insert(tensor, words);
            }
        }
    }
    Ok(())
}

fn compare(case: &Case, pass: Pass, variant: &'static str, got: &Words, wanted: &[(Tensor, Vec<f64>)]) -> Vec<Report> {
    let operation = case.operation.as_ref();
    let rounds = operation.variants(pass).iter().any(|known| known.name == variant && known.requires.f16);
    let precision = if rounds { Precision::F16 } else { Precision::F32 };
    let report = |(tensor, wanted): &(Tensor, Vec<f64>)| {
        let got = got.get(tensor).map(|words| from_words(words, operation.element_type(*tensor)));
        let additions = operation.additions(*tensor, case.problem);
        let deviation = Deviation::between(&got.unwrap_or_default(), wanted, additions).with(precision);
        Report { operation: operation.name(), variant, pass, tensor: *tensor, deviation }
    };
    wanted.iter().map(report).collect()
}

/// What a pass should write, in f64. Elements that the reference itself leaves out are NaN.
fn reference(
    executor: &dyn Executor,
    case: &Case,
    pass: Pass,
    uses: &[Use],
    known: &Words,
) -> Result<Vec<(Tensor, Vec<f64>)>, DeviceError> {
    let operation: &dyn Operation = case.operation.as_ref();
    let mut host = HostTensors::new(case.scalars);
    for used in uses.iter().filter(|used| used.tensor != Tensor::Scalars) {
        let values = match known.get(&used.tensor).filter(|_| used.access.reads()) {
            Some(words) => from_words(words, operation.element_type(used.tensor)),
            None => vec![f64::NAN; elements(executor, case, used.tensor)?],
        };
        host.put(used.tensor, values);
    }
    if !uses.is_empty() {
        operation.reference(pass, case.problem, &mut host);
    }
    let written = uses.iter().filter(|used| used.access.writes());
    Ok(written.map(|used| (used.tensor, host.take(used.tensor))).collect())
}

/// Random elements: classes for labels and other integers, normally distributed numbers for all else.
fn random_words(case: &Case, tensor: Tensor, count: usize, random: &mut Random) -> Vec<u32> {
    let classes = case.problem.input.c.max(1);
    let mut word = || match case.operation.element_type(tensor) {
        ElementType::U32 => random.integer(0, classes - 1) as u32,
        ElementType::F32 => {
            let radius = (-2.0 * (1.0 - random.unit()).ln()).sqrt();
            ((radius * (std::f64::consts::TAU * random.unit()).cos()) as f32).to_bits()
        }
    };
    (0..count).map(|_| word()).collect()
}
