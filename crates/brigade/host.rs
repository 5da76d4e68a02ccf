//! How much memory this machine has, where it says so.

/// Limits that the system may set for the process besides, in either version of control groups. One that does not limit
/// says `max`, or more than any machine has.
const GROUPS: [&str; 2] = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];

/// The most bytes that this process could ever hold, swapped out or not. What others hold now is not asked: it changes from
/// one moment to the next.
pub(crate) fn memory_bytes() -> Option<u64> {
    let machine = read("/proc/meminfo").unwrap_or_default();
    let groups = GROUPS.into_iter().filter_map(|path| read(path)?.trim().parse().ok());
    let memory = total(&machine, "MemTotal:").into_iter().chain(groups).min()?;
    // What is swapped out counts against no group's limit of memory.
    Some(memory.saturating_add(total(&machine, "SwapTotal:").unwrap_or(0)))
}

fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

fn total(meminfo: &str, what: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(what))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_told_by_its_line() {
        let text = "MemTotal:       24684096 kB\nMemFree:        11206556 kB\nSwapTotal:             3 kB\n";
        assert_eq!([total(text, "MemTotal:"), total(text, "SwapTotal:")], [Some(24_684_096 << 10), Some(3072)]);
        assert_eq!(total("MemTotal:       99999999999999999999 kB\n", "MemTotal:"), None);
        assert_eq!(total("MemFree: 1 kB\n", "MemTotal:"), None);
    }
}
