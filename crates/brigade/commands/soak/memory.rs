//! Memory over the life of each process, and whether it grows while a run trains.
//!
//! A process is observed stretch by stretch: from some time after it began to train, or came back from a recovery, to the
//! next fault. Within a stretch the same buffers are there from beginning to end, so that whatever is added leaks; from one
//! stretch to the next, levels differ by megabytes either way, as stages are built again.

use std::time::Duration;

/// Samples before a stretch has lasted so long are its warm-up: rings grow to their size, the first epoch is evaluated, the
/// first checkpoints are written. On two busy cores that took up to 19 s.
const WARM_UP: Duration = Duration::from_secs(20);

/// Samples that one line is drawn through, one a second: longer stretches give several parts, so that no single one decides.
const PART: usize = 60;

/// Fewer give no line.
const FEWEST: usize = 8;

/// A leak of this many bytes a second, 64 MiB an hour, must show; noise that could hide it is no proof of its absence.
const MUST_SHOW: f64 = (64 << 20) as f64 / 3600.0;

/// So many samples must have been seen before anything counts as flat: by then such a leak comes to 2 MiB, several times
/// what an allocator takes at once.
const ENOUGH: usize = 120;

/// What was seen of the processes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    stretches: Vec<Stretch>,
}

/// What was seen between two faults.
#[derive(Debug, Default)]
struct Stretch {
    /// Its process, counted from 1, and the recoveries of the run so far.
    of: (usize, usize),
    /// When its first new step was seen.
    since: Option<Duration>,
    /// The newest step of the run then.
    step: usize,
    /// Seconds since then, and bytes.
    samples: Vec<(f64, f64)>,
}

/// A mean or a slope, with the ends of the interval that holds the true one 95 times of 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) interval: [f64; 2],
}

/// What a slope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Growth {
    /// None that matters: 64 MiB an hour would have been seen.
    None,
    /// Some, by more than the noise.
    Some,
    /// Too little was seen, or the noise was too large, to tell.
    Unknown,
}

impl Memory {
    /// A process has been started, of a run that has come to `step`.
    pub(super) fn begin(&mut self, step: usize) {
        let (process, recoveries) = self.stretches.last().map_or((0, 0), |last| last.of);
        self.stretches.push(Stretch { of: (process + 1, recoveries), step, ..Stretch::default() });
    }

    /// Notes at `now` what the process has in use, where the system says so. Only a process whose run has come to new
    /// steps counts: while it starts or recovers, stages are there once more or not at all. `recoveries` are all that the
    /// run has told of: with another one, another stretch begins.
    pub(super) fn note(&mut self, process: u32, step: usize, recoveries: usize, now: Duration) {
        let Some(last) = self.stretches.last_mut() else { return };
        if recoveries > last.of.1 {
            if last.since.is_none() {
                last.of.1 = recoveries;
            } else {
                let of = (last.of.0, recoveries);
                let step = last.step;
                self.stretches.push(Stretch { of, step, ..Stretch::default() });
            }
        }
        let Some(stretch) = self.stretches.last_mut().filter(|stretch| step > stretch.step) else { return };
        stretch.step = step;
        let age = now - *stretch.since.get_or_insert(now);
        if age >= WARM_UP
            && let Some(bytes) = in_use(process)
        {
            stretch.samples.push((age.as_secs_f64(), bytes));
        }
    }

    fn fits(&self) -> Vec<Fit> {
        self.stretches.iter().flat_map(|stretch| stretch.samples.chunks(PART)).filter_map(Fit::of).collect()
    }

    /// Seconds that were observed.
    pub(super) fn observed(&self) -> usize {
        self.fits().iter().map(|fit| fit.samples).sum()
    }

    /// One slope in bytes a second for all parts, each with a level of its own; `None` where there are fewer than two.
    ///
    /// Samples of one part hang together, so that the residuals of neighbours say little by themselves: the error is that
    /// of the parts' slopes around the common one, each weighted by its spread in time. Few long parts among short ones
    /// count as few.
    pub(super) fn slope(&self) -> Option<Estimate> {
        let fits = self.fits();
        let weight: f64 = fits.iter().map(|fit| fit.spread).sum();
        let equals = weight.powi(2) / fits.iter().map(|fit| fit.spread.powi(2)).sum::<f64>();
        if fits.len() < 2 || equals <= 1.0 {
            return None;
        }
        let slope = fits.iter().map(|fit| fit.slope * fit.spread).sum::<f64>() / weight;
        let squares: f64 = fits.iter().map(|fit| (fit.spread * (fit.slope - slope)).powi(2)).sum();
        let error = (squares * equals / (equals - 1.0)).sqrt() / weight;
        Some(Estimate::around(slope, error, equals.floor() as usize - 1))
    }

    /// What the slope says.
    pub(super) fn growth(&self) -> Growth {
        let Some(Estimate { interval: [least, most], .. }) = self.slope() else { return Growth::Unknown };
        match (least > 0.0, most < MUST_SHOW && self.observed() >= ENOUGH) {
            (_, true) => Growth::None,
            (true, false) => Growth::Some,
            (false, false) => Growth::Unknown,
        }
    }

    /// Bytes by which the level of a process changes where it recovers, on average; `None` where that was seen fewer than
    /// two times.
    pub(super) fn left_by_recoveries(&self) -> Option<Estimate> {
        let seen: Vec<_> = self.stretches.iter().filter(|stretch| stretch.samples.len() >= FEWEST).collect();
        let same = seen.windows(2).filter(|pair| pair[0].of.0 == pair[1].of.0);
        let each: Vec<f64> = same
            .map(|pair| (pair[1].level() - pair[0].level()) / (pair[1].of.1 - pair[0].of.1).max(1) as f64)
            .collect();
        let degrees = each.len().checked_sub(1).filter(|&degrees| degrees > 0)?;
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        let squares: f64 = each.iter().map(|change| (change - mean).powi(2)).sum();
        Some(Estimate::around(mean, (squares / degrees as f64 / each.len() as f64).sqrt(), degrees))
    }
}

impl Stretch {
    fn level(&self) -> f64 {
        self.samples.iter().map(|sample| sample.1).sum::<f64>() / self.samples.len() as f64
    }
}

impl Estimate {
    fn around(value: f64, error: f64, degrees: usize) -> Self {
        let reach = error * student(degrees);
        Self { value, interval: [value - reach, value + reach] }
    }
}

/// How many standard errors hold 95 of 100, where the error itself is known from so many degrees of freedom (Student's t).
fn student(degrees: usize) -> f64 {
    const TABLE: [f64; 10] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];
    // Beyond the table it falls to 1.96; the last entry errs towards a wider interval.
    TABLE[degrees.clamp(1, TABLE.len()) - 1]
}

/// A line through samples, by least squares.
struct Fit {
    samples: usize,
    slope: f64,
    /// Sum of squared distances from the mean time.
    spread: f64,
}

impl Fit {
    fn of(samples: &[(f64, f64)]) -> Option<Self> {
        if samples.len() < FEWEST {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / samples.len() as f64;
        let (time, bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
        let together: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - bytes)).sum();
        Some(Self { samples: samples.len(), slope: together / spread, spread })
    }
}

/// Bytes of memory that a process has to itself. Pages of mapped files, which the system brings in and drops as it likes,
/// are not among them. Only Linux tells.
fn in_use(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()
    };
    Some(1024.0 * (kilobytes("RssAnon:")? + kilobytes("RssShmem:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stretch of `seconds` samples.
    fn stretch(of: (usize, usize), seconds: usize, bytes: impl Fn(f64) -> f64) -> Stretch {
        let samples = (0..seconds).map(|second| (second as f64, bytes(second as f64))).collect();
        Stretch { of, samples, ..Stretch::default() }
    }

    /// Processes of a minute that grow by so many bytes a second each.
    fn grow(by: &[f64]) -> Memory {
        let life = |(place, &by): (usize, &f64)| {
            let level = 1e8 * (1 + place % 3) as f64;
            stretch((place, 0), 60, move |second| level + by * second + second % 3.0)
        };
        Memory { stretches: by.iter().enumerate().map(life).collect() }
    }

    #[test]
    fn a_slope_is_found_across_processes_of_different_levels() {
        let memory = grow(&[40e3, 40e3, 41e3]);
        let slope = memory.slope().unwrap();
        assert!((slope.value - 40.3e3).abs() < 100.0, "{slope:?}");
        assert_eq!(memory.growth(), Growth::Some);
        assert_eq!(Memory::default().slope(), None);
        assert_eq!(grow(&[40e3]).slope(), None);
    }

    #[test]
    fn flat_is_told_only_where_growth_would_show() {
        assert_eq!(grow(&[0.0, 1e3, -1e3, 0.0]).growth(), Growth::None);
        // Zero lies in the interval, and so does a leak of gigabytes a day.
        let noisy = grow(&[90e3, -60e3, 150e3]);
        let [least, most] = noisy.slope().unwrap().interval;
        assert!(least < 0.0 && most > MUST_SHOW);
        assert_eq!(noisy.growth(), Growth::Unknown);
        // Flat, but hardly seen.
        let brief = Memory { stretches: (0..4).map(|process| stretch((process, 0), 20, |_| 1e8)).collect() };
        assert_eq!((brief.observed(), brief.growth()), (80, Growth::Unknown));
    }

    #[test]
    fn a_long_part_among_short_ones_does_not_decide_alone() {
        let mut memory = grow(&[0.0]);
        memory.stretches.extend((1..9).map(|process| stretch((process, 0), FEWEST, |second| 1e8 + 1e3 * second)));
        // Of nine parts, the long one has nearly all of the weight.
        let slope = memory.slope();
        assert!(slope.is_none_or(|slope| slope.interval[1] - slope.value > 5.0 * slope.value.abs()), "{slope:?}");
    }

    #[test]
    fn one_long_life_is_judged_by_its_parts() {
        let memory = Memory { stretches: vec![stretch((1, 0), 3 * PART, |s| 1e8 + 50e3 * s + s % 7.0)] };
        assert_eq!(memory.growth(), Growth::Some);
    }

    #[test]
    fn what_recoveries_leave_behind_is_told_by_itself() {
        let level = |place: usize, recoveries: usize| 1e8 * place as f64 + 10e6 * recoveries as f64;
        let both = |place| [0, 1, 3].map(|recoveries| stretch((place, recoveries), 60, |_| level(place, recoveries)));
        let memory = Memory { stretches: [1, 2].into_iter().flat_map(both).collect() };
        let left = memory.left_by_recoveries().unwrap();
        assert!((left.value - 10e6).abs() < 1.0 && left.interval[0] > 9.9e6, "{left:?}");
        assert_eq!(memory.growth(), Growth::None);
        assert_eq!(grow(&[0.0; 3]).left_by_recoveries(), None);
    }

    #[test]
    fn a_process_counts_while_it_comes_to_new_steps() {
        let mut memory = Memory::default();
        let me = std::process::id();
        memory.begin(7);
        let seconds = Duration::from_secs;
        // It starts, trains, and repeats steps; at 61 s it has recovered, and trains on.
        let seen = [(5, 7, 0), (20, 8, 0), (39, 9, 0), (40, 10, 0), (53, 10, 0), (61, 10, 1), (62, 11, 1), (82, 12, 1)];
        for (at, step, recoveries) in seen {
            memory.note(me, step, recoveries, seconds(at));
        }
        memory.begin(12);
        let of: Vec<_> = memory.stretches.iter().map(|stretch| stretch.of).collect();
        assert_eq!(of, [(1, 0), (1, 1), (2, 1)]);
        if cfg!(target_os = "linux") {
            let ages = |stretch: &Stretch| stretch.samples.iter().map(|sample| sample.0).collect::<Vec<_>>();
            assert_eq!(memory.stretches.iter().map(ages).collect::<Vec<_>>(), [vec![20.0], vec![20.0], vec![]]);
            assert!(in_use(me).unwrap() > 1e5);
        }
    }
}
