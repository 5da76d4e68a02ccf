//! The fault points of a build with the feature `faults`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::Fault;

/// A fault that is going to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    site: String,
    when: When,
    fault: Fault,
}

/// Which of the site's calls fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// This one, from 1.
    Call(u64),
    /// This one, and all after it.
    From(u64),
    /// The first one after this time.
    After(Duration),
    /// None any more.
    Never,
}

impl When {
    fn is_due(self, call: u64, age: Duration) -> bool {
        match self {
            Self::Call(due) => call == due,
            Self::From(due) => call >= due,
            Self::After(due) => age >= due,
            Self::Never => false,
        }
    }
}

#[derive(Debug)]
struct State {
    began: Instant,
    calls: BTreeMap<String, u64>,
    plans: Vec<Plan>,
    happened: u64,
}

/// What has been told by the environment, and what has happened so far. A site that panics holds no lock.
fn state() -> MutexGuard<'static, State> {
    static STATE: OnceLock<Mutex<State>> = OnceLock::new();
    let new = || {
        let text = std::env::var("BRIGADE_FAULT").unwrap_or_default();
        let plans = text.split(',').filter(|plan| !plan.is_empty()).filter_map(|plan| {
            let parsed = parse(plan);
            if parsed.is_none() {
                tracing::error!("BRIGADE_FAULT: `{plan}` is not site@k:kind");
            }
            parsed
        });
        Mutex::new(State { began: Instant::now(), calls: BTreeMap::new(), plans: plans.collect(), happened: 0 })
    };
    STATE.get_or_init(new).lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(text: &str) -> Option<Plan> {
    let (site, rest) = text.split_once('@')?;
    let (call, kind) = rest.split_once(':')?;
    let (_, fault) = (Fault::ALL.into_iter().find(|(_, name)| *name == kind)).map(|(fault, name)| (name, fault))?;
    let seconds = |text: &str| Duration::try_from_secs_f64(text.parse().ok()?).ok();
    let when = match (call.strip_suffix('+'), call.strip_suffix('s')) {
        (Some(call), _) => When::From(call.parse().ok()?),
        (_, Some(time)) => When::After(seconds(time)?),
        _ => When::Call(call.parse().ok()?),
    };
    Some(Plan { site: site.to_owned(), when, fault })
}

/// Lets the next call of `site` fail.
pub fn arm(site: &str, fault: Fault) {
    let mut state = state();
    let call = state.calls.get(site).copied().unwrap_or(0) + 1;
    state.plans.push(Plan { site: site.to_owned(), when: When::Call(call), fault });
}

/// How many faults have happened.
pub fn happened() -> u64 {
    state().happened
}

/// The fault that happens at this call of `site`, if one does.
#[allow(clippy::panic, reason = "a panic is one of the faults")]
pub fn at(site: &str) -> Option<Fault> {
    let fault = count(site)?;
    tracing::info!(site, ?fault, "a planted fault");
    match fault {
        Fault::Panic => std::panic::panic_any(format!("a fault planted at {site}")),
        Fault::Hang => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        Fault::Kill => kill(),
        Fault::Slow => std::thread::sleep(Duration::from_millis(50)),
        _ => return Some(fault),
    }
    None
}

fn count(site: &str) -> Option<Fault> {
    let mut state = state();
    let calls = match state.calls.get_mut(site) {
        Some(calls) => calls,
        None => state.calls.entry(site.to_owned()).or_default(),
    };
    *calls += 1;
    let call = *calls;
    let age = state.began.elapsed();
    let plan = state.plans.iter_mut().find(|plan| plan.site == site && plan.when.is_due(call, age))?;
    let fault = plan.fault;
    if let When::After(_) = plan.when {
        plan.when = When::Never;
    }
    state.happened += 1;
    Some(fault)
}

/// Notes a change to the disk, a line each, where `BRIGADE_DISK_JOURNAL` says.
pub fn note(what: &str, path: &Path, to: Option<&Path>) {
    let Some(journal) = std::env::var_os("BRIGADE_DISK_JOURNAL") else { return };
    let to = to.map_or(String::new(), |to| to.display().to_string());
    let line = format!("{what}\t{}\t{to}\n", path.display());
    let opened = std::fs::File::options().create(true).append(true).open(&journal);
    if let Err(error) = opened.and_then(|mut file| std::io::Write::write_all(&mut file, line.as_bytes())) {
        tracing::error!("{}: {error}", journal.display());
    }
}

/// A process cannot send itself SIGKILL without `unsafe`; `kill` can.
fn kill() {
    let id = std::process::id().to_string();
    let _ = std::process::Command::new("kill").args(["-9", &id]).status();
    std::process::abort();
}

/// Writes the calls of each site, a line `site calls` each, where `BRIGADE_FAULT_COUNTS` says.
pub fn write_counts() {
    let Ok(path) = std::env::var("BRIGADE_FAULT_COUNTS") else { return };
    let text = state().calls.iter().fold(String::new(), |mut text, (site, calls)| {
        let _ = writeln!(text, "{site} {calls}");
        text
    });
    if let Err(error) = std::fs::write(&path, text) {
        tracing::error!("{path}: {error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_site_a_call_and_a_kind() {
        let plan = |when, fault| Plan { site: "storage.sync".into(), when, fault };
        assert_eq!(parse("storage.sync@3:io"), Some(plan(When::Call(3), Fault::Io)));
        assert_eq!(parse("storage.sync@7+:disk-full"), Some(plan(When::From(7), Fault::DiskFull)));
        let later = When::After(Duration::from_millis(2500));
        assert_eq!(parse("storage.sync@2.5s:io"), Some(plan(later, Fault::Io)));
        for wrong in
            ["storage.sync@-1s:io", "storage.sync", "storage.sync@3", "storage.sync@x:io", "storage.sync@3:sunshine"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_armed_site_fails_once() {
        assert_eq!(at("test.once"), None);
        arm("test.once", Fault::Flip);
        assert_eq!([at("test.other"), at("test.once"), at("test.once")], [None, Some(Fault::Flip), None]);
        assert_eq!(happened(), 1);
    }

    #[test]
    fn a_panic_leaves_the_other_sites_usable() {
        arm("test.panic", Fault::Panic);
        let message = std::panic::catch_unwind(|| at("test.panic")).unwrap_err();
        assert!(message.downcast_ref::<String>().unwrap().contains("test.panic"));
        assert_eq!(at("test.panic"), None);
    }
}
