//! Resident memory over the life of each process, and whether it grows.

use std::time::Duration;

/// Samples of a process before this age are its warm-up: kernels are compiled, rings grow to their size.
const WARM_UP: Duration = Duration::from_secs(15);

/// Resident memory by age, process by process.
#[derive(Debug, Default)]
pub(super) struct Memory {
    processes: Vec<Vec<(f64, f64)>>,
}

/// A slope with its standard error, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Slope {
    pub(super) bytes_per_second: f64,
    pub(super) standard_error: f64,
}

impl Memory {
    /// A process has been started.
    pub(super) fn begin(&mut self) {
        self.processes.push(Vec::new());
    }

    /// Notes what the process has in use, where the system says so.
    pub(super) fn note(&mut self, process: u32, age: Duration) {
        let Some(bytes) = resident(process).filter(|_| age >= WARM_UP) else { return };
        if let Some(samples) = self.processes.last_mut() {
            samples.push((age.as_secs_f64(), bytes));
        }
    }

    /// One slope for all processes, each with a level of its own; `None` where none lived long enough.
    ///
    /// Samples of one process hang together, so that the residuals of neighbours say little by themselves: the error is
    /// that of the processes' own slopes around the common one, each weighted by its spread in time.
    pub(super) fn slope(&self) -> Option<Slope> {
        let fits: Vec<Fit> = self.processes.iter().filter_map(|samples| Fit::of(samples)).collect();
        let weight: f64 = fits.iter().map(|fit| fit.spread).sum();
        if fits.is_empty() || weight <= 0.0 {
            return None;
        }
        let slope = fits.iter().map(|fit| fit.slope * fit.spread).sum::<f64>() / weight;
        let error = if fits.len() > 1 {
            let squares: f64 = fits.iter().map(|fit| (fit.spread * (fit.slope - slope)).powi(2)).sum();
            let count = fits.len() as f64;
            (squares * count / (count - 1.0)).sqrt() / weight
        } else {
            fits[0].error
        };
        Some(Slope { bytes_per_second: slope, standard_error: error })
    }
}

/// A line through the samples of one process.
struct Fit {
    slope: f64,
    error: f64,
    /// Sum of squared distances from the mean time.
    spread: f64,
}

impl Fit {
    fn of(samples: &[(f64, f64)]) -> Option<Self> {
        let count = samples.len() as f64;
        if samples.len() < 8 {
            return None;
        }
        let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
        let (time, bytes) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = samples.iter().map(|sample| (sample.0 - time).powi(2)).sum();
        let together: f64 = samples.iter().map(|sample| (sample.0 - time) * (sample.1 - bytes)).sum();
        let slope = together / spread;
        let left: f64 = samples.iter().map(|s| (s.1 - bytes - slope * (s.0 - time)).powi(2)).sum();
        Some(Self { slope, error: (left / (count - 2.0) / spread).sqrt(), spread })
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

    fn grows(by: f64) -> Memory {
        let process =
            |level: f64| (0..60).map(|s| (f64::from(s), level + by * f64::from(s) + f64::from(s % 3))).collect();
        Memory { processes: vec![process(1e6), process(3e6), process(2e6)] }
    }

    #[test]
    fn a_slope_is_found_across_processes_of_different_levels() {
        let slope = grows(40.0).slope().unwrap();
        assert!((slope.bytes_per_second - 40.0).abs() < 0.1, "{slope:?}");
        let flat = grows(0.0).slope().unwrap();
        assert!(flat.bytes_per_second.abs() < 0.1, "{flat:?}");
        assert_eq!(Memory::default().slope(), None);
    }

    #[test]
    fn a_process_knows_its_memory_where_the_system_tells() {
        if cfg!(target_os = "linux") {
            assert!(resident(std::process::id()).unwrap() > 1e5);
        }
    }
}
