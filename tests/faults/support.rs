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
