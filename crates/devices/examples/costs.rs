//! What the seam itself costs, on both test adapters. `cargo run --release -p brigade-devices --example costs`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a measurement that fails ends")]

use std::time::{Duration, Instant};

use brigade_devices::{Executor, OpenOptions, Program, Purpose, Run, Slice, find, list, open};
use brigade_kernels::{Operation, Pass, Problem, Shape, Tensor};

fn opened(name: &str, options: &OpenOptions) -> Box<dyn Executor> {
    let list = list();
    open(find(&list, name).unwrap(), options).unwrap()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(count: usize, mut work: impl FnMut()) -> Duration {
    median(
        (0..count)
            .map(|_| {
                let started = Instant::now();
                work();
                started.elapsed()
            })
            .collect(),
    )
}

fn round(executor: &mut dyn Executor, program: &Program) -> Duration {
    let id = executor.prepare(program, 2).unwrap();
    let uploads = !program.uploads.is_empty();
    let bytes = vec![1; program.upload_bytes()];
    timed(200, || {
        let upload = uploads.then(|| {
            let mut upload = executor.upload(id).unwrap();
            upload.write(0, &bytes);
            upload
        });
        let ticket = executor.submit(id, upload).unwrap();
        executor.wait(ticket, Duration::from_secs(60)).unwrap();
    })
}

fn main() {
    for name in ["llvmpipe", "swiftshader"] {
        for timestamps in [false, true] {
            let options = OpenOptions { threads: Some(1), timestamps, ..OpenOptions::default() };
            let opening = timed(5, || drop(opened(name, &options)));
            let mut executor = opened(name, &options);
            let executor = executor.as_mut();
            let buffers = [0; 2].map(|_| executor.allocate(1 << 18, Purpose::Activations).unwrap());
            let [x, y] = buffers.map(|buffer| Slice { buffer, start: 0, elements: 1 << 18 });
            let relu = brigade_kernels::ops::find("relu").unwrap();
            let operation: Box<dyn Operation> = (relu.from_attributes)(&serde_json::json!({})).unwrap();
            let run = Run {
                operation: operation.into(),
                pass: Pass::Forward,
                problem: Problem { n: 1, input: Shape::vector(64) },
                tensors: vec![(Tensor::X, x), (Tensor::Y, y)],
            };
            let runs = |count| vec![brigade_devices::Command::Run(run.clone()); count];
            let started = Instant::now();
            let first = executor.prepare(&Program { commands: runs(1), ..Program::default() }, 2).unwrap();
            let compiled = started.elapsed();
            executor.forget(first);
            let many = Program { commands: runs(100), ..Program::default() };
            let prepared = timed(20, || {
                let id = executor.prepare(&many, 2).unwrap();
                executor.forget(id);
            });
            let empty = round(executor, &Program::default());
            let one = round(executor, &Program { commands: runs(1), ..Program::default() });
            let hundred = round(executor, &many);
            let up = round(executor, &Program { uploads: vec![x], ..Program::default() });
            let down = round(executor, &Program { downloads: vec![x], ..Program::default() });
            println!(
                "{name}, timestamps {timestamps}: open {opening:?}; prepare: first kernel {compiled:?}, 100 known \
                 {prepared:?}; submit + wait: empty {empty:?}, 1 dispatch {one:?}, 100 dispatches {hundred:?}, 1 MiB \
                 up {up:?}, 1 MiB down {down:?}"
            );
        }
    }
}
