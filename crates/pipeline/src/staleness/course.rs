//! What a stage walks in a stretch of training, and what it does about staleness there.

use super::StagePlan;
use crate::schedule::Schedule;

/// The rows of a stretch and the stage's plan for it: the worker and the plan of memory read the same one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Course {
    pub(crate) schedule: Schedule,
    pub(crate) plan: StagePlan,
    /// Whether the stretch is a synchronous finish of a schedule that never flushes.
    pub(crate) finishes: bool,
    /// Whether gradients may be left over from before that no update has used. They are of stale weights, and the number
    /// of them is not that of an update: they are dropped, as those at the end of a run are.
    pub(crate) drops_gradients: bool,
}

impl Course {
    /// For a stage of `schedule` with `plan`, in a stretch that is to be synchronous or not.
    pub(crate) fn new(schedule: Schedule, plan: StagePlan, synchronous: bool) -> Self {
        if schedule.kind.flushes() || !synchronous {
            return Self { schedule, plan, finishes: false, drops_gradients: false };
        }
        Self {
            schedule: schedule.finish(),
            plan: StagePlan::synchronous(),
            finishes: true,
            drops_gradients: plan.accumulation > 1,
        }
    }
}
