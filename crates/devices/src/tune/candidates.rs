//! The variants that a pass could be computed with, the most promising first.

use std::collections::BTreeSet;

use brigade_kernels::{Limits, Plan, Variant};

use super::anatomy::Atlas;
use super::{Task, cost};
use crate::selection::Selection;
use crate::sources;

/// A variant whose requirements hold and whose plan fits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    pub(super) variant: &'static str,
    /// What the cost model says of it.
    pub(super) seconds: f64,
}

/// The candidates of a task.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    task: &'a Task,
    /// Those that are not excluded, in the operation's own order.
    plans: Vec<(Variant, Plan)>,
    /// Of everything that would be compiled, excluded or not: another text, variant or constant gives another.
    pub(super) fingerprint: u64,
}

impl<'a> Candidates<'a> {
    pub(super) fn of(task: &'a Task, limits: &Limits, selection: &Selection) -> Self {
        let Task { operation, pass, problem } = task;
        let mut fingerprint = Fingerprint::default();
        let mut plans = Vec::new();
        for variant in operation.variants(*pass).into_iter().filter(|variant| variant.requires.hold(limits)) {
            let Ok(plan) = operation.plan(*pass, &variant, *problem, limits) else { continue };
            fingerprint.add_plan(&variant, &plan);
            if !selection.excludes(operation.name(), *pass, variant.name) {
                plans.push((variant, plan));
            }
        }
        Self { task, plans, fingerprint: fingerprint.0 }
    }

    /// The most promising first; ties stay in the operation's own order.
    pub(super) fn ranked(&self, limits: &Limits, atlas: &mut Atlas) -> Vec<Candidate> {
        let Task { operation, pass, problem } = self.task;
        let mut candidate = |(variant, plan): &(Variant, Plan)| {
            let work = operation.work_of(*pass, variant, *problem).unwrap_or_default();
            Candidate { variant: variant.name, seconds: cost::seconds(variant, plan, *pass, work, limits, atlas) }
        };
        let mut ranked: Vec<_> = self.plans.iter().map(&mut candidate).collect();
        ranked.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        ranked
    }

    /// Whether there is anything to choose.
    pub(super) fn leave_a_choice(&self) -> bool {
        self.plans.len() > 1
    }

    pub(super) fn find(&self, name: &str) -> Option<&'static str> {
        self.plans.iter().map(|(variant, _)| variant.name).find(|variant| *variant == name)
    }
}

/// FNV-1a of 64 bits: the same in every build, which std's hashers do not promise.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fingerprint(pub(super) u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }
}

impl Fingerprint {
    /// Takes in bytes, and that they end here.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes.iter().chain(&(bytes.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
        }
    }

    fn add_plan(&mut self, variant: &Variant, plan: &Plan) {
        self.add(variant.name.as_bytes());
        let mut seen = BTreeSet::new();
        for kernel in plan.dispatches.iter().map(|dispatch| &dispatch.kernel) {
            let constants = format!("{} {:?}", kernel.entry, kernel.constants);
            let text = sources::source(kernel.shader, &kernel.definitions).unwrap_or_default();
            if seen.insert((constants.clone(), text.clone())) {
                self.add(constants.as_bytes());
                self.add(text.as_bytes());
            }
        }
    }
}
