//! What the rows share: a run with a fault, within the time that every row has.
#![allow(dead_code, reason = "each row uses a part of it")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{Outcome, Place};

/// No fault may keep a run longer.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Runs a command to its end; it is ended, and the test fails, where it takes longer than [`LIMIT`].
#[track_caller]
pub(crate) fn within_limit(mut command: Command) -> Outcome {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let read = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes).unwrap();
            bytes
        })
    };
    let out = read(Box::new(child.stdout.take().unwrap()));
    let error = read(Box::new(child.stderr.take().unwrap()));
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > LIMIT {
            child.kill().unwrap();
            let error = String::from_utf8_lossy(&error.join().unwrap()).into_owned();
            panic!("not done after {LIMIT:?}: {error}");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    std::process::Output { status, stdout: out.join().unwrap(), stderr: error.join().unwrap() }.into()
}

impl Place {
    /// `brigade train --config small.toml …` with a fault; `@name` is the path of `name` in this folder.
    #[track_caller]
    pub(crate) fn train_with(&self, fault: &str, arguments: &str) -> Outcome {
        let mut command = self.command(&format!("train --config @small.toml {arguments}"));
        command.env("BRIGADE_FAULT", fault);
        within_limit(command)
    }

    /// How often a run without a fault calls each site.
    pub(crate) fn calls(&self, arguments: &str) -> BTreeMap<String, u64> {
        let mut command = self.command(&format!("train --config @small.toml {arguments}"));
        command.env("BRIGADE_FAULT_COUNTS", self.path("counts"));
        within_limit(command).done();
        let text = String::from_utf8(self.read("counts")).unwrap();
        let line = |line: &str| line.split_once(' ').map(|(site, calls)| (site.to_owned(), calls.parse().unwrap()));
        text.lines().filter_map(line).collect()
    }

    /// The weights that a run leaves that nothing disturbs, as `--save` writes them.
    #[track_caller]
    pub(crate) fn undisturbed(&self, arguments: &str) -> Vec<u8> {
        within_limit(self.command(&format!("train --config @small.toml {arguments} --save @undisturbed.safetensors")))
            .done();
        self.read("undisturbed.safetensors")
    }

    /// A resume from the checkpoints in `@directory` comes to `wanted`, bit for bit.
    #[track_caller]
    pub(crate) fn resumes_to(&self, wanted: &[u8], directory: &str, arguments: &str) {
        let line = format!("train --config @small.toml {arguments} --checkpoint-dir @{directory} --resume");
        within_limit(self.command(&format!("{line} --save @resumed.safetensors"))).done();
        assert!(self.read("resumed.safetensors") == wanted, "the resumed run came to other weights");
    }
}

/// The newest checkpoint of a directory verifies.
#[track_caller]
pub(crate) fn newest_verifies(directory: &Path) {
    brigade_pipeline::Checkpoint::open(directory).unwrap();
}

/// What is in a directory of checkpoints, but for the lock.
#[track_caller]
pub(crate) fn steps_in(place: &Place, directory: &str) -> Vec<String> {
    let names = std::fs::read_dir(place.path(directory)).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != ".lock").collect();
    names.sort();
    names
}

/// A run whose first epoch is done and has left its checkpoint in `saved`.
pub(crate) struct Halfway {
    pub(crate) place: Place,
    run: String,
    /// The weights of a run that nothing disturbs.
    wanted: Vec<u8>,
}

impl Halfway {
    /// `run` is of several epochs of three steps.
    #[track_caller]
    pub(crate) fn new(run: &str) -> Self {
        let place = Place::new();
        let wanted = place.undisturbed(run);
        let first = format!("train --config @small.toml {run} --steps 3 --checkpoint-dir @saved");
        within_limit(place.command(&first)).done();
        Self { place, run: run.to_owned(), wanted }
    }

    /// The rest of it, not yet started.
    pub(crate) fn rest(&self) -> Command {
        self.place.command(&format!("train --config @small.toml {} --checkpoint-dir @saved --resume", self.run))
    }

    /// The rest of it with a fault.
    #[track_caller]
    pub(crate) fn rest_with(&self, fault: &str) -> Outcome {
        let mut command = self.rest();
        command.env("BRIGADE_FAULT", fault);
        within_limit(command)
    }

    /// After whatever happened the checkpoint verifies, and the rest comes to the weights of the undisturbed run.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        newest_verifies(&self.place.path("saved"));
        self.place.resumes_to(&self.wanted, "saved", &self.run);
    }
}
