//! Which variant of a kernel a device uses.

use std::collections::{BTreeMap, BTreeSet};

use brigade_kernels::{Limits, Operation, Pass, Plan, PlanError, Problem, Variant};

type Key = (&'static str, Pass);

/// Preferred and excluded variants by operation and pass. Where nothing is said, the first variant of the
/// operation's own order that can be planned is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    preferred: BTreeMap<Key, &'static str>,
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

impl Selection {
    /// Tries `variant` first from now on; gives what was preferred before. `None` goes back to the operation's order.
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

    /// The variants of a pass that may be used under `limits`: the preferred one first, then the operation's own order,
    /// those for another kind of adapter last.
    pub fn eligible(&self, operation: &dyn Operation, pass: Pass, limits: &Limits) -> Vec<Variant> {
        let name = operation.name();
        let preferred = self.preferred.get(&(name, pass)).copied();
        let mut variants = operation.variants(pass);
        variants.retain(|variant| variant.requires.hold(limits) && !self.excludes(name, pass, variant.name));
        variants.sort_by_key(|variant| (Some(variant.name) != preferred, variant.requires.is_foreign(limits)));
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
        for variant in self.eligible(operation, pass, limits) {
            match operation.plan(pass, &variant, problem, limits) {
                Ok(plan) => return Ok((variant, plan)),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.map_or_else(|| NoChoice::NoneLeft(self.reasons(operation, pass)), NoChoice::Plan))
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
