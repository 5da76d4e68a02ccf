//! Kernels held against the reference, on the very adapter.

use std::collections::btree_map;
use std::fmt;

use brigade_kernels::{
    Access, Case, Deviation, ElementType, Fusion, HostTensors, Operation, Pass, Precision, Random, Tensor, Use,
};

use crate::convert::{from_words, to_words};
use crate::trial::{Words, elements, run_pass, variants};
use crate::{DeviceError, Executor};

/// How far one output of one variant is from the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The operation.
    pub operation: &'static str,
    /// The rectifier that the pass computes besides.
    pub fusion: Fusion,
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
        let Self { operation, fusion, variant, pass, tensor, deviation: Deviation { error, tolerance } } = self;
        write!(f, "{operation}/{pass}{fusion} {variant}: {tensor} {error:.1e} (allowed {tolerance:.1e})")
    }
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
    wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Report>, DeviceError> {
    let mut reports = Vec::new();
    examine(executor, case, random, &|_, variant| wanted(variant), &mut |_, _, outcome| {
        reports.extend(outcome?);
        Ok(())
    })?;
    Ok(reports)
}

/// What a variant gave beside the reference, or why it gave nothing.
pub(crate) type Outcome = Result<Vec<Report>, DeviceError>;

/// Runs everything that there is of a case with the variants that `wanted` lets through; `note` says whether to go on.
pub(crate) fn examine(
    executor: &mut dyn Executor,
    case: &Case,
    random: &mut Random,
    wanted: &dyn Fn(Pass, &'static str) -> bool,
    note: &mut dyn FnMut(Pass, &'static str, Outcome) -> Result<(), DeviceError>,
) -> Result<(), DeviceError> {
    let operation = case.operation.as_ref();
    let mut known = Words::new();
    for pass in Pass::ALL {
        let mut variants = variants(executor, case, pass);
        variants.retain(|variant| wanted(pass, variant));
        let uses = operation.tensors(pass);
        for used in uses.iter().filter(|used| used.access.reads()) {
            if let btree_map::Entry::Vacant(place) = known.entry(used.tensor) {
                place.insert(random_words(case, used.tensor, elements(executor, case, used.tensor)?, random));
            }
        }
        let right = reference(executor, case, pass, &uses, &known)?;
        for variant in variants {
            let got = run_pass(executor, case, pass, variant, &known);
            note(pass, variant, got.map(|got| compare(case, pass, variant, &got, &right)))?;
        }
        for (tensor, values) in right {
            if uses.contains(&Use { tensor, access: Access::Write }) {
                let mut words = vec![0; values.len()];
                to_words(&values, operation.element_type(tensor), &mut words);
                known.insert(tensor, words);
            }
        }
    }
    Ok(())
}

/// What a variant rounds its operands to.
pub(crate) fn precision_of(operation: &dyn Operation, pass: Pass, variant: &str) -> Precision {
    let rounds = operation.variants(pass).iter().any(|known| known.name == variant && known.requires.f16);
    if rounds { Precision::F16 } else { Precision::F32 }
}

pub(crate) fn compare(
    case: &Case,
    pass: Pass,
    variant: &'static str,
    got: &Words,
    wanted: &[(Tensor, Vec<f64>)],
) -> Vec<Report> {
    let operation = case.operation.as_ref();
    let precision = precision_of(operation, pass, variant);
    let report = |(tensor, wanted): &(Tensor, Vec<f64>)| {
        let got = got.get(tensor).map(|words| from_words(words, operation.element_type(*tensor)));
        let additions = operation.additions(*tensor, case.problem);
        let deviation = Deviation::between(&got.unwrap_or_default(), wanted, additions).with(precision);
        let fusion = operation.fusion().of(pass);
        Report { operation: operation.name(), fusion, variant, pass, tensor: *tensor, deviation }
    };
    wanted.iter().map(report).collect()
}

/// What a pass should write, in f64. Elements that the reference itself leaves out are NaN.
pub(crate) fn reference(
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
pub(crate) fn random_words(case: &Case, tensor: Tensor, count: usize, random: &mut Random) -> Vec<u32> {
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
