//! Which faults happen when: drawn before the start, so that the same seed gives the same plan.

use std::time::Duration;

use brigade::Failure;
use brigade_kernels::Random;

/// A kind of fault.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) how: How,
    /// Exit statuses that the process may end with because of it; none where it goes on.
    pub(super) ends: &'static [i32],
}

/// How a fault is brought about.
#[derive(Debug, PartialEq)]
pub(super) enum How {
    /// A signal from outside.
    Signal(&'static str),
    /// A planted fault of a site, in builds that have fault points.
    Planted { site: &'static str, fault: &'static str },
}

/// What stands for the end by SIGKILL, which has no exit status.
pub(super) const KILLED: i32 = 137;

/// Every kind. A stage that hangs is not among them: how long that goes unnoticed is the deadline's affair, and would
/// drown what all the others cost.
pub(super) static KINDS: [Kind; 9] = [
    Kind { name: "kill", how: How::Signal("KILL"), ends: &[KILLED] },
    Kind { name: "interrupt", how: How::Signal("INT"), ends: &[130] },
    Kind { name: "terminate", how: How::Signal("TERM"), ends: &[143] },
    Kind { name: "device-lost", how: How::Planted { site: "device", fault: "lost" }, ends: &[] },
    Kind { name: "out-of-memory", how: How::Planted { site: "device", fault: "out-of-memory" }, ends: &[6] },
    Kind { name: "panic", how: How::Planted { site: "device", fault: "panic" }, ends: &[70] },
    // What is read at a snapshot may be spoiled as well; it is not saved.
    Kind { name: "nan", how: How::Planted { site: "device.wait", fault: "nan" }, ends: &[8] },
    Kind { name: "flipped-bit", how: How::Planted { site: "link.copy", fault: "flip" }, ends: &[] },
    Kind { name: "disk-error", how: How::Planted { site: "storage.sync", fault: "io" }, ends: &[7] },
];

/// A fault and its moment since the start.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) kind: &'static Kind,
}

/// The faults of a soak, in their order.
#[derive(Debug)]
pub(super) struct Plan(pub(super) Vec<Planned>);

impl Plan {
    /// `rate` faults a minute on average, over `length`, of the kinds that `names` lists; of all where it is empty.
    ///
    /// # Errors
    /// Names a kind that is unknown, or that this build cannot inject.
    pub(super) fn new(names: &[String], length: Duration, rate: f64, seed: u64) -> Result<Self, Failure> {
        let kinds = chosen(names)?;
        let mut random = Random::new(seed);
        let mut at = 0.0;
        let mut planned = Vec::new();
        loop {
            // Gaps between events that know nothing of each other; without a rate the first one never comes.
            at += -(1.0 - random.unit()).ln() * 60.0 / rate;
            if at.is_nan() || at >= length.as_secs_f64() {
                break;
            }
            let kind = kinds[random.integer(0, kinds.len() - 1)];
            planned.push(Planned { at: Duration::from_secs_f64(at), kind });
        }
        Ok(Self(planned))
    }

    /// What `BRIGADE_FAULT` must say for a process that starts now.
    pub(super) fn planted_from(&self, now: Duration) -> String {
        let later = self.0.iter().filter(|planned| planned.at >= now);
        let words = later.filter_map(|Planned { at, kind }| match kind.how {
            How::Planted { site, fault } => Some(format!("{site}@{:.3}s:{fault}", (*at - now).as_secs_f64())),
            How::Signal(_) => None,
        });
        words.collect::<Vec<_>>().join(",")
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Kind>, Failure> {
    let possible: Vec<&Kind> = KINDS.iter().filter(|kind| can_inject(kind)).collect();
    if names.is_empty() {
        return Ok(possible);
    }
    let find = |name: &String| {
        let known = KINDS.iter().find(|kind| kind.name == name);
        match known {
            Some(kind) if can_inject(kind) => Ok(kind),
            Some(_) => Err(Failure::usage(format!("soak: `{name}` needs a build with --features faults"))),
            None => {
                let known: Vec<_> = KINDS.iter().map(|kind| kind.name).collect();
                Err(Failure::usage(format!("soak: `{name}` is unknown; known: {}", known.join(", "))))
            }
        }
    };
    names.iter().map(find).collect()
}

/// Signals are Unix's, and sites are there in builds with fault points alone.
const fn can_inject(kind: &Kind) -> bool {
    match kind.how {
        How::Signal(_) => cfg!(unix),
        How::Planted { .. } => cfg!(feature = "faults"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_at_about_the_rate() {
        let hour = Duration::from_secs(3600);
        let plan = |seed| Plan::new(&[], hour, 2.0, seed).unwrap().0;
        let (one, again, other) = (plan(1), plan(1), plan(2));
        let moments = |plan: &[Planned]| plan.iter().map(|planned| planned.at).collect::<Vec<_>>();
        assert_eq!(moments(&one), moments(&again));
        assert_ne!(moments(&one), moments(&other));
        // 120 are expected, with a deviation of 11.
        assert!((76..=164).contains(&one.len()), "{}", one.len());
        assert!(one.windows(2).all(|pair| pair[0].at <= pair[1].at) && one.iter().all(|planned| planned.at < hour));
    }

    #[test]
    fn unknown_kinds_are_refused_and_no_rate_means_none() {
        let second = Duration::from_secs(1);
        assert!(Plan::new(&["meteor".to_owned()], second, 1.0, 1).unwrap_err().message.contains("device-lost"));
        assert!(Plan::new(&[], second, 0.0, 1).unwrap().0.is_empty());
    }
}
