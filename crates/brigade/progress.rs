//! Progress on a terminal as a bar, elsewhere as plain lines.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use brigade::Progress;
use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Shows what the training loop tells.
pub(crate) struct Display {
    bar: Option<ProgressBar>,
    steps: usize,
    last_line: Instant,
}

impl Display {
    /// For a run that ends at step `steps`, and stands at `position`.
    pub(crate) fn new(steps: usize, position: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| bar(steps, position));
        Self { bar, steps, last_line: Instant::now() }
    }

    /// Shows one piece of news.
    pub(crate) fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Step { step, loss, images_per_second } => self.step(*step, *loss, *images_per_second),
            Progress::Epoch { epoch, train, test, seconds } => {
                let rate = train.samples as f64 / seconds.max(1e-9);
                let trained = if train.samples > 0 {
                    format!("train loss {:.4}", train.loss())
                } else {
                    "its steps were left behind".to_owned()
                };
                let tested = test.map_or(String::new(), |test| {
                    format!(", test loss {:.4}, test accuracy {:.2} %", test.loss(), 100.0 * test.accuracy())
                });
                self.line(&format!("epoch {epoch}: {trained}{tested}, {seconds:.1} s, {rate:.0} images/s"));
            }
            Progress::Stopping { step } => self.line(&format!(
                "stopping at step {step}, the next at which the pipes are emptied in any case: so --resume comes to the same \
                 bits; again to stop at once and lose the steps since the last checkpoint"
            )),
            Progress::Snapshot { .. } => {}
            Progress::Checkpoint { path } => self.line(&format!("checkpoint {}", path.display())),
        }
    }

    fn step(&mut self, step: usize, loss: f64, images_per_second: f64) {
        let message = format!("loss {loss:.4}, {images_per_second:.0} images/s");
        match &self.bar {
            Some(bar) => {
                bar.set_position(step as u64);
                bar.set_message(message);
            }
            None if step == 1 || self.last_line.elapsed() >= LINE_EVERY => {
                self.last_line = Instant::now();
                output::tell(format_args!("step {step}/{}: {message}", self.steps));
            }
            None => {}
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => output::tell(text),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(steps: usize, position: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} steps · {msg} · {eta} left");
    let bar = ProgressBar::new(steps as u64).with_position(position as u64);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
