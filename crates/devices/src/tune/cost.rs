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
//! make the average block smaller, so padded work counts too. Main dispatches are those of the first entry point that
//! is named after the pass; what pads, packs and sums beside it counts by its bytes. Units are invocations on a GPU,
//! and workgroups on the host's cores, which run one at a time.
//!
//! `fit` tells the host's cores from GPUs: workgroup memory is memory like any other there, and its barriers make the
//! driver store every register; what is made for them is not. The constants are round numbers between devices of one
//! kind, not measurements of this one: only the order of the results is used.

use brigade_kernels::{Dispatch, Limits, Pass, Plan, Variant, Work};

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

/// On the host's cores: what a kernel costs that shares workgroup memory, and one that is made for them.
const SHARING_ON_HOST: f64 = 4.0;
const MADE_FOR_HOST: f64 = 0.5;

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
            let sharing = if limits.software && dispatch.shares { SHARING_ON_HOST } else { 1.0 };
            share / (machine.rate * busy) * (1.0 + loads / dispatch.block.sqrt()) * sharing
        })
        .sum();
    let fit = if variant.requires.software { MADE_FOR_HOST } else { 1.0 };
    moving + computing * fit
}

/// A dispatch that multiplies and adds.
struct Main {
    workgroups: f64,
    invocations: f64,
    block: f64,
    shares: bool,
}

impl Main {
    fn new(dispatch: &Dispatch, Anatomy { invocations, shares }: Anatomy) -> Self {
        let workgroups: f64 = dispatch.workgroups.iter().map(|&side| f64::from(side)).product();
        let invocations = workgroups * f64::from(invocations);
        let written = dispatch.bindings.iter().filter(|binding| binding.access.writes());
        let results: usize = written.map(|binding| binding.range.len()).sum();
        Self { workgroups, invocations, block: results as f64 / invocations, shares }
    }
}

/// The dispatches of the first entry point that is named after the pass; all where there is none.
fn main(plan: &Plan, pass: Pass) -> Vec<&Dispatch> {
    let named = plan.dispatches.iter().map(|dispatch| dispatch.kernel.entry).find(|e| e.starts_with(pass.name()));
    plan.dispatches.iter().filter(|d| named.is_none_or(|named| d.kernel.entry == named)).collect()
}

/// Bytes of everything that a dispatch binds, twice where it is read and written.
fn bytes(dispatch: &Dispatch) -> f64 {
    let touched = |access: brigade_kernels::Access| usize::from(access.reads()) + usize::from(access.writes());
    dispatch.bindings.iter().map(|binding| (4 * binding.range.len() * touched(binding.access)) as f64).sum()
}
