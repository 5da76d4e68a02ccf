//! Runs the built command, as a user would.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A small model with every kind of layer that holds state: trained parameters, and dropout's place in the run.
pub(crate) const SMALL: &str = r#"
devices = ["reference"]
train-samples = 22
test-samples = 16
batch = 8
input = [1, 28, 28]

[[layers]]
op = "conv2d"
out_channels = 4
kernel = 5
stride = 2

[[layers]]
op = "relu"

[[layers]]
op = "max_pool2d"
kernel = 2

[[layers]]
op = "linear"
out_features = 12

[[layers]]
op = "dropout"
p = 0.25

[[layers]]
op = "linear"
out_features = 10
"#;

/// How a run of the command ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        // A process that a signal ended has no status: -1 stands for it, which no test wants.
        let status = output.status.code().unwrap_or(-1);
        let outcome = Self { status, out: text(&output.stdout), error: text(&output.stderr) };
        assert!(!outcome.error.contains("panicked"), "{outcome:?}");
        outcome
    }
}

impl Outcome {
    /// It succeeded; what it printed.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.status, 0, "{self:?}");
        self
    }

    /// The JSON document that it printed.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.done().out).unwrap()
    }

    /// It was refused with `status`, and its message has each of `words`.
    #[track_caller]
    pub(crate) fn refused(self, status: i32, words: &[&str]) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        for word in words {
            assert!(self.error.contains(word), "no `{word}` in {:?}", self.error);
        }
        self
    }
}

/// The command with arguments, not yet started.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brigade"));
    command.args(arguments).env_remove("RUST_LOG").env("BRIGADE_CACHE_DIR", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs the command to its end.
pub(crate) fn brigade(arguments: &[&str]) -> Outcome {
    command(arguments).output().unwrap().into()
}

/// A folder of its own for each test, gone afterwards.
pub(crate) struct Place(TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("small.toml", SMALL.as_bytes());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.text(name)
    }

    /// Writes a manifest as if a run had saved it so: with the checksum of its text.
    pub(crate) fn write_manifest(&self, name: &str, mut manifest: Value) {
        manifest.as_object_mut().unwrap().remove("checksum");
        let text = serde_json::to_string_pretty(&manifest).unwrap();
        let fields = text.strip_suffix("\n}").unwrap();
        let checksum = crc32fast::hash(fields.as_bytes());
        self.write(name, format!("{fields},\n  \"checksum\": {checksum}\n}}").as_bytes());
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs `brigade WHAT --config small.toml …`; an argument `@name` is the path of `name` in this folder.
    pub(crate) fn small(&self, what: &str, arguments: &str) -> Outcome {
        self.run(&format!("{what} --config @small.toml {arguments}"))
    }

    /// Runs the command with the arguments of a line; `@name` is the path of `name` in this folder.
    pub(crate) fn run(&self, line: &str) -> Outcome {
        self.command(line).output().unwrap().into()
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        let words = line.split_whitespace();
        let words: Vec<_> =
            words.map(|word| word.strip_prefix('@').map_or(word.to_owned(), |name| self.text(name))).collect();
        command(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The lines of an events file.
    pub(crate) fn events(&self, name: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Flips one bit of a file.
pub(crate) fn flip_bit(path: &Path, byte: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[byte] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
