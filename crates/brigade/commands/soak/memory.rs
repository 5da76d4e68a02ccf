//! Resident memory over the life of each process, and whether it grows.

use std::time::Duration;

/// Samples before a process has trained so long are its warm-up: rings grow to their size, caches fill.
const WARM_UP: Duration = Duration::from_secs(30);

/// Samples that one line is drawn through, one a second: a process that lives longer gives several parts, so that one
/// process alone says as well how far its parts disagree.
const PART: usize = 240;

/// Fewer give no line.
const FEWEST: usize = 8;

/// A leak of this many bytes a second, 64 MiB an hour, must show; noise that could hide it is no proof of its absence.
const MUST_SHOW: f64 = (64 << 20) as f64 / 3600.0;

/// Resident memory by age, process by process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    processes: Vec<Life>,
}

/// What was seen of one process.
#[derive(Debug, Default)]
struct Life {
    /// When its first step was seen.
    training_since: Option<Duration>,
    /// The newest step of the run then.
    step: usize,
    samples: Vec<(f64, f64)>,
}

/// A slope in bytes a second, with the ends of the interval that holds the true one 95 times of 100.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slope {
    pub(super) bytes_per_second: f64,
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
    /// Processes lived too short, or the noise was too large, to tell.
    Unknown,
}

impl Slope {
    pub(super) fn growth(&self) -> Growth {
        let [least, most] = self.interval;
        match (least > 0.0, most < MUST_SHOW) {
            (_, true) => Growth::None,
            (true, false) => Growth::Some,
            (false, false) => Growth::Unknown,
        }
    }
}

impl Memory {
    /// A process has been started, of a run that has come to `step`.
    pub(super) fn begin(&mut self, step: usize) {
        self.processes.push(Life { step, ..Life::default() });
    }

    /// Notes at `now` what the process has in use, where the system says so. Only a process whose run has come to new
    /// steps counts: while it starts or recovers, stages are there once more or not at all.
    pub(super) fn note(&mut self, process: u32, step: usize, now: Duration) {
        let Some(life) = self.processes.last_mut().filter(|life| step > life.step) else { return };
        life.step = step;
        let age = now - *life.training_since.get_or_insert(now);
        if age >= WARM_UP
            && let Some(bytes) = resident(process)
        {
            life.samples.push((age.as_secs_f64(), bytes));
        }
    }

    /// One slope for all parts, each with a level of its own; `None` where there are fewer than two.
    ///
    /// Samples of one part hang together, so that the residuals of neighbours say little by themselves: the error is that
    /// of the parts' slopes around the common one, each weighted by its spread in time.
    pub(super) fn slope(&self) -> Option<Slope> {
        let parts = self.processes.iter().flat_map(|life| life.samples.chunks(PART));
        let fits: Vec<Fit> = parts.filter_map(Fit::of).collect();
        let degrees = fits.len().checked_sub(1).filter(|&degrees| degrees > 0)?;
        let weight: f64 = fits.iter().map(|fit| fit.spread).sum();
        let slope = fits.iter().map(|fit| fit.slope * fit.spread).sum::<f64>() / weight;
        let squares: f64 = fits.iter().map(|fit| (fit.spread * (fit.slope - slope)).powi(2)).sum();
        let error = (squares * fits.len() as f64 / degrees as f64).sqrt() / weight;
        let reach = error * student(degrees);
        Some(Slope { bytes_per_second: slope, interval: [slope - reach, slope + reach] })
    }
}

/// How many standard errors hold 95 of 100, where the error itself is known from so many degrees of freedom (Student's t).
fn student(degrees: usize) -> f64 {
    const TABLE: [f64; 10] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];
    // Beyond the table it falls to 1.96; the last entry errs towards a wider interval.
    TABLE[degrees.clamp(1, TABLE.len()) - 1]
}

/// A line through samples, by least squares: what is left behind at once, as by a recovery, moves it as well as what leaks
/// step by step.
struct Fit {
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
        Some(Self { slope: together / spread, spread })
    }
}

/// Bytes of a process that are in memory; only Linux tells.
fn resident(process: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(1024.0 * line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes of a minute that grow by so many bytes a second each.
    fn grow(by: &[f64]) -> Memory {
        let life = |(place, by): (usize, &f64)| {
            let level = 1e8 * (1 + place % 3) as f64;
            let sample = |s: i32| (f64::from(s), level + by * f64::from(s) + f64::from(s % 3));
            Life { samples: (0..60).map(sample).collect(), ..Life::default() }
        };
        Memory { processes: by.iter().enumerate().map(life).collect() }
    }

    #[test]
    fn a_slope_is_found_across_processes_of_different_levels() {
        let slope = grow(&[40e3, 40e3, 41e3]).slope().unwrap();
        assert!((slope.bytes_per_second - 40.3e3).abs() < 100.0, "{slope:?}");
        assert_eq!(slope.growth(), Growth::Some);
        assert_eq!(Memory::default().slope(), None);
        assert_eq!(grow(&[40e3]).slope(), None);
    }

    #[test]
    fn flat_is_told_only_where_growth_would_show() {
        let flat = grow(&[0.0, 1e3, -1e3, 0.0]).slope().unwrap();
        assert_eq!(flat.growth(), Growth::None);
        // Zero lies in the interval, and so does a leak of gigabytes a day.
        let noisy = grow(&[90e3, -60e3, 150e3]).slope().unwrap();
        assert!(noisy.interval[0] < 0.0 && noisy.interval[1] > MUST_SHOW, "{noisy:?}");
        assert_eq!(noisy.growth(), Growth::Unknown);
    }

    #[test]
    fn what_a_recovery_leaves_behind_is_growth() {
        let mut memory = grow(&[0.0, 0.0, 0.0]);
        let left_behind = |life: &mut Life| life.samples[25..].iter_mut().for_each(|sample| sample.1 += 10e6);
        memory.processes.iter_mut().for_each(left_behind);
        assert_eq!(memory.slope().unwrap().growth(), Growth::Some);
    }

    #[test]
    fn one_long_life_is_judged_by_its_parts() {
        let sample = |s: usize| (s as f64, 1e8 + 50e3 * s as f64 + (s % 7) as f64);
        let memory =
            Memory { processes: vec![Life { samples: (0..3 * PART).map(sample).collect(), ..Life::default() }] };
        assert_eq!(memory.slope().unwrap().growth(), Growth::Some);
    }

    #[test]
    fn a_process_counts_while_it_comes_to_new_steps() {
        let mut memory = Memory::default();
        let me = std::process::id();
        memory.begin(7);
        let seconds = Duration::from_secs;
        // It starts, trains, goes back and comes to new steps.
        for (at, step) in [(5, 7), (20, 8), (45, 9), (52, 10), (53, 10), (60, 10), (61, 11)] {
            memory.note(me, step, seconds(at));
        }
        if cfg!(target_os = "linux") {
            let ages: Vec<_> = memory.processes[0].samples.iter().map(|sample| sample.0).collect();
            assert_eq!(ages, [32.0, 41.0]);
            assert!(resident(me).unwrap() > 1e5);
        }
    }
}
