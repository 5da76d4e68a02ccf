//! Keeps a `train` running: starts it, disturbs it, and starts it again where it has ended.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use brigade::{Failure, Status};
use brigade_pipeline::Checkpoint;

use super::Args;
use super::faults::{How, KILLED, Plan, Planned};
use super::memory::Memory;
use super::report::{End, Report};
use super::steps::Steps;
use crate::signals::Signals;

/// How often the run is looked at.
const GLANCE: Duration = Duration::from_millis(5);
/// How often memory is read.
const SAMPLE: Duration = Duration::from_secs(1);
/// How long the run may take to end when it is asked to.
const FAREWELL: Duration = Duration::from_secs(60);

/// Knows how to start the run.
pub(super) struct Supervisor {
    program: PathBuf,
    flags: Vec<String>,
    out: PathBuf,
    interval: usize,
}

/// A run that goes on until it is told to end.
struct Soak<'a> {
    supervisor: &'a Supervisor,
    plan: &'a Plan,
    began: Instant,
    steps: Steps,
    memory: Memory,
    ends: Vec<End>,
}

impl Supervisor {
    pub(super) fn new(args: &Args) -> Result<Self, Failure> {
        let program = std::env::current_exe();
        let program = program.map_err(|error| Failure::new(Status::Internal, format!("this program: {error}")))?;
        if std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::usage(format!("soak: {} is not empty; name another --out", args.out.display())));
        }
        std::fs::create_dir_all(&args.out).map_err(|error| storage(&args.out, &error))?;
        let text = |path: PathBuf| path.display().to_string();
        let mut flags: Vec<String> =
            ["train", "--epochs", "1000000", "--link-checksums", "--on-nan", "skip", "--keep", "3"]
                .map(str::to_owned)
                .to_vec();
        flags.extend(["--devices".to_owned(), args.devices.join(",")]);
        flags.extend(["--checkpoint-every".to_owned(), args.checkpoint_every.to_string()]);
        flags.extend(["--checkpoint-dir".to_owned(), text(args.out.join("checkpoints"))]);
        flags.extend(["--events".to_owned(), text(args.out.join("events.jsonl"))]);
        if let Some(config) = &args.config {
            flags.extend(["--config".to_owned(), config.display().to_string()]);
        }
        Ok(Self { program, flags, out: args.out.clone(), interval: args.checkpoint_every })
    }

    /// Trains for `length`, disturbed as `plan` says.
    pub(super) fn run(&self, plan: &Plan, length: Duration) -> Result<Report, Failure> {
        let signals = Signals::listen()?;
        let steps = Steps::follow(&self.out.join("events.jsonl"))?;
        let mut soak =
            Soak { supervisor: self, plan, began: Instant::now(), steps, memory: Memory::default(), ends: Vec::new() };
        while soak.began.elapsed() < length && signals.received().is_none() {
            soak.life(length, &signals)?;
        }
        let elapsed = soak.began.elapsed();
        Ok(Report::new(plan, elapsed, self.interval, &soak.steps, &soak.memory, soak.ends))
    }

    /// Another process of the run; what it says goes behind what the others said.
    fn start(&self, planted: &str, resume: bool) -> Result<Child, Failure> {
        let log = self.out.join("log.txt");
        let said = File::options().create(true).append(true).open(&log).map_err(|error| storage(&log, &error))?;
        let mut command = Command::new(&self.program);
        command.args(&self.flags);
        if cfg!(feature = "faults") {
            command.env("BRIGADE_FAULT", planted);
        }
        // Each start of stages makes threads, for which glibc opens heaps of their own, up to eight a core, and never gives
        // their pages back: memory would grow with the first dozens of recoveries, though nothing more is held.
        command.env("MALLOC_ARENA_MAX", "1");
        // A device that is lost while kernels are tuned is blamed on the kernel: what was planted must not be remembered.
        command.env("BRIGADE_CACHE_DIR", self.out.join("cache"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        if resume {
            command.arg("--resume");
        }
        command.spawn().map_err(|error| storage(&self.program, &error))
    }

    /// Whether there is a checkpoint to go on from. The newest must verify: nothing that was published may be lost.
    fn has_checkpoint(&self) -> Result<bool, Failure> {
        let directory = self.out.join("checkpoints");
        let names = std::fs::read_dir(&directory).into_iter().flatten().flatten();
        let published = names.filter(|entry| entry.file_name().to_string_lossy().starts_with("step-")).count() > 0;
        if published {
            Checkpoint::open(&directory)?;
        }
        Ok(published)
    }
}

/// A process that does not outlive whoever watches it.
struct Watched(Child);

impl Drop for Watched {
    fn drop(&mut self) {
        // Nothing happens where it has ended and been waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Soak<'_> {
    /// One process, from its start to its end.
    fn life(&mut self, length: Duration, signals: &Signals) -> Result<(), Failure> {
        let resume = self.supervisor.has_checkpoint()?;
        let born = self.began.elapsed();
        let mut child = Watched(self.supervisor.start(&self.plan.planted_from(born), resume)?);
        self.memory.begin(self.steps.done);
        let mut sampled = Instant::now();
        let mut due = self.plan.0.iter().filter(|planned| planned.at >= born).peekable();
        loop {
            sleep(GLANCE);
            let now = self.began.elapsed();
            self.steps.read(now)?;
            if let Some(status) = child.0.try_wait().map_err(|error| storage(&self.supervisor.program, &error))? {
                self.note_end(status, born, now);
                self.steps.restart();
                return Ok(());
            }
            while let Some(planned) = due.next_if(|planned| planned.at <= now) {
                if let How::Signal(signal) = planned.kind.how {
                    send(signal, &child.0);
                }
            }
            if sampled.elapsed() >= SAMPLE {
                sampled = Instant::now();
                self.memory.note(child.0.id(), self.steps.done, self.steps.recoveries, now);
            }
            if now >= length || signals.received().is_some() {
                return self.farewell(child);
            }
        }
    }

    /// Asks the process to end, and waits for it.
    fn farewell(&mut self, mut child: Watched) -> Result<(), Failure> {
        send("TERM", &child.0);
        let asked = Instant::now();
        loop {
            let ended = child.0.try_wait().map_err(|error| storage(&self.supervisor.program, &error))?;
            if ended.is_some() {
                return Ok(());
            }
            if asked.elapsed() > FAREWELL {
                return Err(Failure::new(Status::Hang, "soak: the run did not end when it was asked to"));
            }
            sleep(GLANCE);
        }
    }

    /// Notes how the process ended, and whether a fault of its life explains it.
    fn note_end(&mut self, status: ExitStatus, born: Duration, now: Duration) {
        let code = code(status);
        let explains = |planned: &&Planned| (born..=now).contains(&planned.at) && planned.kind.ends.contains(&code);
        let cause = self.plan.0.iter().rfind(explains).map(|planned| planned.kind.name);
        self.ends.push(End { at: now.as_secs_f64(), status: code, cause });
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or(KILLED)
}

/// Sends a signal, by its name. The process may have ended in between, which shows by itself.
fn send(signal: &str, child: &Child) {
    let _ = Command::new("kill").args(["-s", signal, &child.id().to_string()]).stderr(Stdio::null()).status();
}

fn storage(path: &Path, error: &std::io::Error) -> Failure {
    Failure::storage(format!("{}: {error}", path.display()))
}
