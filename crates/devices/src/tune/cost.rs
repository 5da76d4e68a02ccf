//! How long a plan will probably take, from plain data: good enough to say which candidates are worth their time.
//!
//! ```text
//! seconds = Σ over dispatches (start + bytes bound / bandwidth)
//!         + Σ over main dispatches (share of the FLOPs / (rate · busy)) · (1 + loads / √block) · fit
//!
//! block   = elements written / invocations        what one invocation holds in registers
//! busy    = min(1, units of work / units that fill the device)
//! ```
//!
//! Of an m × n block in registers m + n values are loaded for m · n multiply-adds: with m = n = √block that is
//! 2/√block loads each, which is where √block comes from. Invocations beyond the edge of the result write nothing and
//! make the average block smaller, so padded work counts too. Main dispatches are the products between transforms, where
//! there are any, else those of the first entry point that is named after the pass; what pads, packs, transforms and sums
//! beside them counts by its bytes. The FLOPs are those of the variant: minimal filtering has fewer than the definition.
//! Units are invocations on a GPU, and workgroups on the host's cores, which run one at a time.
//!
//! `fit` tells the host's cores from GPUs: workgroup memory is memory like any other there, and a barrier makes the
//! driver store every register, unless the workgroup is one vector of a core; what is made for the host is faster. On GPUs
//! cooperative matrices multiply faster, and values that subgroups hand round cost more than shared ones. The constants are
//! round numbers between devices of one kind, not measurements of this one: only the order of the results is used.

use brigade_kernels::{Binding, Dispatch, Limits, Pass, Plan, Variant, Work};

use super::anatomy::{Anatomy, Atlas};

/// What the model takes a kind of device to be.
struct Machine {
    /// Floating-point operations a second that registers could feed.
    rate: f64,
    /// Bytes a second.
    bandwidth: f64,
    /// Seconds that a dispatch costs by itself.
    start: f64,
    /// Units of work that fill the device.
    full: f64,
    /// What a multiply-add whose operands are both loaded costs more, through workgroup memory and without.
    loads: [f64; 2],
}

const GPU: Machine = Machine { rate: 8e12, bandwidth: 4e11, start: 4e-6, full: 65_536.0, loads: [4.0, 8.0] };
const HOST: Machine = Machine { rate: 3e10, bandwidth: 8e9, start: 2e-5, full: 8.0, loads: [8.0, 8.0] };

/// On the host's cores: what a kernel costs whose workgroups share memory and are wider than a vector, and one that is
/// made for them.
const SHARING_ON_HOST: f64 = 4.0;
const VECTOR: u32 = 16;
const MADE_FOR_HOST: f64 = 0.5;

/// On GPUs, as an H200 has them: the time of products of cooperative matrices, and of those whose operands subgroups hand
/// round, in times of the products of invocations by themselves.
const MATRICES: f64 = 0.4;
const HANDED_ROUND: f64 = 1.3;

/// Seconds that the plan of a variant will probably take.
pub(super) fn seconds(
    variant: &Variant,
    plan: &Plan,
    pass: Pass,
    work: Work,
    limits: &Limits,
    atlas: &mut Atlas,
) -> f64 {
    let machine = if limits.software { HOST } else { GPU };
    let moved = |dispatch: &Dispatch| machine.start + bytes(dispatch) / machine.bandwidth;
    let moving: f64 = plan.dispatches.iter().map(moved).sum();
    let main: Vec<_> = main(plan, pass).into_iter().map(|d| Main::new(d, atlas.anatomy(&d.kernel))).collect();
    let all: f64 = main.iter().map(|dispatch| dispatch.invocations).sum();
    let computing: f64 = main
        .iter()
        .map(|dispatch| {
            let units = if limits.software { dispatch.workgroups } else { dispatch.invocations };
            let busy = (units / machine.full).min(1.0);
            let share = work.flops as f64 * dispatch.invocations / all;
            let loads = machine.loads[usize::from(!dispatch.shares)];
            let sharing = if limits.software && dispatch.waits { SHARING_ON_HOST } else { 1.0 };
            share / (machine.rate * busy) * (1.0 + loads / dispatch.block.sqrt()) * sharing
        })
        .sum();
    moving + computing * fit(variant)
}

const fn fit(variant: &Variant) -> f64 {
    let requires = &variant.requires;
    if requires.software {
        MADE_FOR_HOST
    } else if requires.cooperative_matrix > 0 {
        MATRICES
    } else if requires.subgroup_min > 0 {
        HANDED_ROUND
    } else {
        1.0
    }
}

/// A dispatch that multiplies and adds.
struct Main {
    workgroups: f64,
    invocations: f64,
    block: f64,
    /// Whether invocations exchange values through workgroup memory, and whether that takes barriers on the host.
    shares: bool,
    waits: bool,
}

impl Main {
    fn new(dispatch: &Dispatch, Anatomy { invocations, shares }: Anatomy) -> Self {
        let waits = shares && invocations > VECTOR;
        let workgroups: f64 = dispatch.workgroups.iter().map(|&side| f64::from(side)).product();
        let invocations = workgroups * f64::from(invocations);
        // Products between transforms read their operands through bindings that could write.
        let operand = |binding: &Binding| PRODUCTS.contains(&dispatch.kernel.entry) && binding.access.reads();
        let written = dispatch.bindings.iter().filter(|binding| binding.access.writes() && !operand(binding));
        let results: usize = written.map(|binding| binding.range.len()).sum();
        Self { workgroups, invocations, block: results as f64 / invocations, shares, waits }
    }
}

/// The entry points of matrix products between two transforms, on GPUs and on the host's cores.
const PRODUCTS: [&str; 2] = ["products", "multiply"];

/// The products between transforms, else the dispatches of the first entry point that is named after the pass; all where
/// there is none.
fn main(plan: &Plan, pass: Pass) -> Vec<&Dispatch> {
    let entries = || plan.dispatches.iter().map(|dispatch| dispatch.kernel.entry);
    let named =
        entries().find(|entry| PRODUCTS.contains(entry)).or_else(|| entries().find(|e| e.starts_with(pass.name())));
    plan.dispatches.iter().filter(|d| named.is_none_or(|named| d.kernel.entry == named)).collect()
}

/// Bytes of everything that a dispatch binds, twice where it is read and written.
fn bytes(dispatch: &Dispatch) -> f64 {
    let touched = |access: brigade_kernels::Access| usize::from(access.reads()) + usize::from(access.writes());
    dispatch.bindings.iter().map(|binding| (4 * binding.range.len() * touched(binding.access)) as f64).sum()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use brigade_kernels::{Problem, Shape, ops};

    use super::*;
    use crate::tune::Task;
    use crate::tune::candidates::Candidates;
    use crate::{ReferenceExecutor, Selection};

    /// The variants of a layer's pass, the most promising first.
    fn ranked(
        name: &str,
        attributes: &serde_json::Value,
        pass: Pass,
        problem: Problem,
        limits: &Limits,
    ) -> Vec<&'static str> {
        let operation = (ops::find(name).unwrap().from_attributes)(attributes).unwrap().into();
        let task = Task { operation, pass, problem };
        let candidates = Candidates::of(&task, limits, &Selection::default());
        candidates.ranked(limits, &mut Atlas::default()).iter().map(|candidate| candidate.variant).collect()
    }

    fn host() -> Limits {
        Limits { subgroup_min: 8, subgroup_max: 8, ..ReferenceExecutor::describe().limits }
    }

    #[test]
    fn large_products_are_worth_a_block_in_registers() {
        let conv = serde_json::json!({"out_channels": 64, "kernel": 3, "padding": 1});
        let linear = serde_json::json!({"out_features": 512});
        for limits in [host(), Limits::PORTABLE] {
            for pass in [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight] {
                let problem = Problem { n: 32, input: Shape::new(32, 32, 32) };
                let found = ranked("conv2d", &conv, pass, problem, &limits);
                assert_eq!(found.last(), Some(&"naive"), "conv2d/{pass}: {found:?}");
                let problem = Problem { n: 64, input: Shape::vector(2048) };
                let found = ranked("linear", &linear, pass, problem, &limits);
                assert_ne!(found.first(), Some(&"naive"), "linear/{pass}: {found:?}");
            }
        }
    }

    #[test]
    fn what_is_made_for_the_host_comes_first_there() {
        let conv = serde_json::json!({"out_channels": 64, "kernel": 3, "padding": 1});
        let operation = (ops::find("conv2d").unwrap().from_attributes)(&conv).unwrap();
        let problem = Problem { n: 32, input: Shape::new(32, 32, 32) };
        let first = ranked("conv2d", &conv, Pass::Forward, problem, &host())[0];
        let variants = operation.variants(Pass::Forward);
        assert!(variants.iter().any(|variant| variant.name == first && variant.requires.software), "{first}");
    }

    #[test]
    fn minimal_filtering_pays_where_there_are_channels_enough_for_its_transforms() {
        let conv = serde_json::json!({"out_channels": 128, "kernel": 3, "padding": 1});
        for pass in [Pass::Forward, Pass::BackwardInput] {
            for (channels, pays) in [(3, false), (128, true)] {
                let problem = Problem { n: 32, input: Shape::new(channels, 56, 56) };
                let found = ranked("conv2d", &conv, pass, problem, &Limits::PORTABLE);
                let first = found[0].starts_with("winograd-4x4-tiles");
                assert_eq!(first, pays, "{pass} of {channels} channels: {found:?}");
            }
        }
    }

    #[test]
    fn a_quarter_of_the_multiply_adds_comes_first() {
        let conv = serde_json::json!({"out_channels": 64, "kernel": 3, "padding": 1});
        let problem = Problem { n: 32, input: Shape::new(32, 32, 32) };
        for pass in [Pass::Forward, Pass::BackwardInput] {
            assert_eq!(ranked("conv2d", &conv, pass, problem, &host())[0], "winograd-4x4", "{pass}");
        }
    }
}
