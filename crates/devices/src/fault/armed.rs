//! The fault points of a build with the feature `faults`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::Fault;

/// A fault that is going to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    site: String,
    /// The call that fails, from 1.
    call: u64,
    /// Whether every later call fails as well.
    onwards: bool,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
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
        Mutex::new(State { plans: plans.collect(), ..State::default() })
    };
    STATE.get_or_init(new).lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(text: &str) -> Option<Plan> {
    let (site, rest) = text.split_once('@')?;
    let (call, kind) = rest.split_once(':')?;
    let (_, fault) = (Fault::ALL.into_iter().find(|(_, name)| *name == kind)).map(|(fault, name)| (name, fault))?;
    let call_number = call.strip_suffix('+').unwrap_or(call).parse().ok()?;
    Some(Plan { site: site.to_owned(), call: call_number, onwards: call.ends_with('+'), fault })
}

/// Lets the next call of `site` fail.
pub fn arm(site: &str, fault: Fault) {
    let mut state = state();
    let call = state.calls.get(site).copied().unwrap_or(0) + 1;
    state.plans.push(Plan { site: site.to_owned(), call, onwards: false, fault });
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
    let due = |plan: &&Plan| plan.site == site && (plan.call == call || (plan.onwards && plan.call < call));
    let fault = state.plans.iter().find(due).map(|plan| plan.fault)?;
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
        let plan = |call, onwards, fault| Plan { site: "storage.sync".into(), call, onwards, fault };
        assert_eq!(parse("storage.sync@3:io"), Some(plan(3, false, Fault::Io)));
        assert_eq!(parse("storage.sync@7+:disk-full"), Some(plan(7, true, Fault::DiskFull)));
        for wrong in ["storage.sync", "storage.sync@3", "storage.sync@x:io", "storage.sync@3:sunshine"] {
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
