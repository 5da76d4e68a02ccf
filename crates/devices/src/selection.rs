//! Which variant of a kernel a device uses.

use std::collections::{BTreeMap, BTreeSet};

use brigade_kernels::{Fusion, Limits, Operation, Pass, Plan, PlanError, Problem, Variant};

use crate::DeviceError;
use crate::program::Run;

type Key = (&'static str, Pass);

/// What a choice among variants is made for: all that a kernel's speed depends on besides the device.
///
/// Samples count by powers of two. An update has one class whatever its size: how many parameters a stage holds
/// depends on where the model is cut, and the bits of a run must not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShapeClass {
    /// The operation with its attributes, by itself.
    pub operation: String,
    /// The pass.
    pub pass: Pass,
    /// C, H and W of one input sample.
    pub input: [usize; 3],
    /// Samples, rounded up to a power of two.
    pub samples: usize,
}

impl ShapeClass {
    /// The class of a pass of this size. Rectifiers that are fused to an operation are no part of it: an operation is
    /// tuned by itself, and one choice serves all its forms.
    pub fn of(operation: &dyn Operation, pass: Pass, Problem { n, input }: Problem) -> Self {
        let (input, samples) = match pass {
            Pass::Update => ([0; 3], 0),
            _ => ([input.c, input.h, input.w], n.next_power_of_two()),
        };
        let plain = if operation.fusion() == Fusion::NONE { None } else { operation.fused(Fusion::NONE) };
        let operation = plain.map_or_else(|| format!("{operation:?}"), |plain| format!("{plain:?}"));
        Self { operation, pass, input, samples }
    }

    fn differs_in_samples_only(&self, other: &Self) -> bool {
        (&self.operation, self.pass, self.input) == (&other.operation, other.pass, other.input)
    }
}

/// Chosen and excluded variants. Where nothing is said, the first variant of the operation's own order that can be
/// planned is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    preferred: BTreeMap<Key, &'static str>,
    chosen: BTreeMap<ShapeClass, &'static str>,
    excluded: BTreeMap<Key, BTreeSet<&'static str>>,
}

/// Why no variant can be used.
#[derive(Debug, Clone)]
pub(crate) enum NoChoice {
    /// The plan of every variant that the device could run failed; the first reason.
    Plan(PlanError),
    /// No variant was left to plan; what became of each.
    NoneLeft(String),
}

impl NoChoice {
    /// As the error of preparing `run` in `program` on `device`.
    pub(crate) fn error(self, device: &str, program: &str, run: &Run) -> DeviceError {
        let (device, program) = (device.to_owned(), program.to_owned());
        let (operation, pass) = (run.operation.name(), run.pass.name());
        match self {
            Self::Plan(source) => DeviceError::Plan { device, program, operation, pass, source: source.into() },
            Self::NoneLeft(reasons) => DeviceError::NoVariant { device, program, operation, pass, reasons },
        }
    }
}

impl Selection {
    /// Tries `variant` first from now on, whatever the size; gives what was preferred before. `None` goes back to what
    /// was chosen, or the operation's order.
    pub fn prefer(
        &mut self,
        operation: &'static str,
        pass: Pass,
        variant: Option<&'static str>,
    ) -> Option<&'static str> {
        match variant {
            Some(variant) => self.preferred.insert((operation, pass), variant),
            None => self.preferred.remove(&(operation, pass)),
        }
    }

    /// Tries `variant` first for this class from now on, and for other numbers of samples that have no choice nearer.
    pub fn choose(&mut self, class: ShapeClass, variant: &'static str) {
        self.chosen.insert(class, variant);
    }

    /// Every choice by class.
    pub fn chosen(&self) -> impl Iterator<Item = (&ShapeClass, &'static str)> + '_ {
        self.chosen.iter().map(|(class, &variant)| (class, variant))
    }

    /// Takes over the choices and exclusions of another selection.
    pub fn adopt(&mut self, other: &Self) {
        self.chosen.extend(other.chosen.iter().map(|(class, &variant)| (class.clone(), variant)));
        for (operation, pass, variant) in other.excluded() {
            self.exclude(operation, pass, variant);
        }
    }

    /// Never uses `variant` again.
    pub fn exclude(&mut self, operation: &'static str, pass: Pass, variant: &'static str) {
        self.excluded.entry((operation, pass)).or_default().insert(variant);
    }

    /// Whether `variant` is excluded.
    pub fn excludes(&self, operation: &'static str, pass: Pass, variant: &str) -> bool {
        self.excluded.get(&(operation, pass)).is_some_and(|names| names.contains(variant))
    }

    /// Everything that is excluded: operation, pass, variant.
    pub fn excluded(&self) -> impl Iterator<Item = (&'static str, Pass, &'static str)> + '_ {
        self.excluded
            .iter()
            .flat_map(|(&(operation, pass), names)| names.iter().map(move |&name| (operation, pass, name)))
    }

    /// The choice for the same number of samples or the next more, else for the next fewer.
    fn nearest(&self, class: &ShapeClass) -> Option<&'static str> {
        let alike = |(found, _): &(&ShapeClass, &&'static str)| found.differs_in_samples_only(class);
        let above = self.chosen.range(class..).next().filter(alike);
        let nearest = above.or_else(|| self.chosen.range(..class).next_back().filter(alike));
        nearest.map(|(_, &variant)| variant)
    }

    /// The variants of a pass that may be used under `limits`: the preferred or chosen one first, then the operation's
    /// own order, those for another kind of adapter last.
    pub fn eligible(&self, operation: &dyn Operation, pass: Pass, problem: Problem, limits: &Limits) -> Vec<Variant> {
        let name = operation.name();
        let preferred = self.preferred.get(&(name, pass)).copied();
        let first = preferred.or_else(|| {
            (!self.chosen.is_empty()).then(|| self.nearest(&ShapeClass::of(operation, pass, problem))).flatten()
        });
        let mut variants = operation.variants(pass);
        variants.retain(|variant| variant.requires.hold(limits) && !self.excludes(name, pass, variant.name));
        variants.sort_by_key(|variant| (Some(variant.name) != first, variant.requires.is_foreign(limits)));
        variants
    }

    /// The first eligible variant whose plan fits `limits`, with its plan.
    pub(crate) fn plan(
        &self,
        operation: &dyn Operation,
        pass: Pass,
        problem: Problem,
        limits: &Limits,
    ) -> Result<(Variant, Plan), NoChoice> {
        let mut first = None;
        for variant in self.eligible(operation, pass, problem, limits) {
            match operation.plan(pass, &variant, problem, limits) {
                Ok(plan) => return Ok((variant, plan)),
                // That some variant does not suit the shapes says less than why another cannot run.
                Err(error @ PlanError::Unsuited { .. }) => first = first.or(Some(error)),
                Err(error) => {
                    first = first.filter(|first| !matches!(first, PlanError::Unsuited { .. })).or(Some(error));
                }
            }
        }
        Err(first.map_or_else(
            || NoChoice::NoneLeft(format!("it allows {}; {}", allowed(limits), self.reasons(operation, pass))),
            NoChoice::Plan,
        ))
    }

    fn reasons(&self, operation: &dyn Operation, pass: Pass) -> String {
        let reason = |variant: &Variant| {
            let needs = variant.requires;
            if self.excludes(operation.name(), pass, variant.name) {
                format!("{}: excluded", variant.name)
            } else {
                format!(
                    "{}: needs {} invocations, {} bytes of workgroup memory, subgroups of {}{}{}",
                    variant.name,
                    needs.invocations,
                    needs.workgroup_bytes,
                    needs.subgroup_min,
                    if needs.f16 { ", precision f16" } else { "" },
                    if needs.cooperative_matrix > 0 { ", cooperative matrices" } else { "" },
                )
            }
        };
        let reasons: Vec<_> = operation.variants(pass).iter().map(reason).collect();
        if reasons.is_empty() { "the operation has no such pass".into() } else { reasons.join("; ") }
    }
}

/// What a device allows, as far as variants ask for it.
fn allowed(limits: &Limits) -> String {
    let Limits { invocations, workgroup_bytes, subgroup_max, .. } = limits;
    format!("{invocations} invocations, {workgroup_bytes} bytes of workgroup memory, subgroups of {subgroup_max}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_kernels::{Shape, ops};

    use super::*;

    #[test]
    fn fused_operations_use_what_was_chosen_for_them_alone() {
        let conv = ops::find("conv2d").unwrap();
        let plain = (conv.from_attributes)(&serde_json::json!({"out_channels": 4, "kernel": 3})).unwrap();
        let problem = Problem { n: 2, input: Shape::new(3, 8, 8) };
        let mut selection = Selection::default();
        selection.choose(ShapeClass::of(plain.as_ref(), Pass::Forward, problem), "naive");
        for fusion in [Fusion::RECTIFIES, Fusion::MASKS] {
            let fused = plain.fused(fusion).unwrap();
            assert_ne!(format!("{fused:?}"), format!("{plain:?}"));
            let eligible = selection.eligible(fused.as_ref(), Pass::Forward, problem, &Limits::PORTABLE);
            assert_eq!(eligible[0].name, "naive");
        }
    }

    #[test]
    fn a_choice_serves_its_class_and_the_samples_around_it() {
        let conv = |channels: usize| {
            let attributes = serde_json::json!({"out_channels": channels, "kernel": 3});
            (ops::find("conv2d").unwrap().from_attributes)(&attributes).unwrap()
        };
        let problem = |n, h| Problem { n, input: Shape::new(3, h, 8) };
        let mut selection = Selection::default();
        let mut first = |n, h, channels, choices: &[(usize, &'static str)]| {
            for &(n, variant) in choices {
                selection.choose(ShapeClass::of(conv(4).as_ref(), Pass::Forward, problem(n, 8)), variant);
            }
            let limits = Limits::PORTABLE;
            selection.eligible(conv(channels).as_ref(), Pass::Forward, problem(n, h), &limits)[0].name
        };
        let by_itself = first(32, 8, 4, &[]);
        let other = if by_itself == "naive" { "registers" } else { "naive" };
        for n in [1, 17, 32, 33, 4096] {
            assert_eq!(first(n, 8, 4, &[(32, other)]), other, "{n} samples");
        }
        // Another shape or other attributes are not spoken for.
        assert_eq!((first(32, 9, 4, &[]), first(32, 8, 5, &[])), (by_itself, by_itself));
        // The nearest class wins, the larger one before the smaller.
        let nearer = [(64, by_itself), (32, other)];
        let found = [32, 33, 64, 65, 1].map(|n| first(n, 8, 4, &nearer));
        assert_eq!(found, [other, by_itself, by_itself, by_itself, other]);
    }
}
