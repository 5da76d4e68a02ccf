//! The seam's promises, on both adapters and the reference alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "common/twice.rs"]
mod twice;

mod common;

use std::time::Duration;

use brigade_devices::{Command, DeviceError, OpenOptions, Program, Purpose, Slice, self_test};
use brigade_kernels::Pass;
use common::{adapters, everyone, gpus, opened, pattern, plain, slice};
use twice::doubling;

const PATIENCE: Duration = Duration::from_secs(60);

fn floats(values: impl Iterator<Item = f32>) -> Vec<u8> {
    values.flat_map(f32::to_le_bytes).collect()
}

#[test]
fn device_writes_and_reads_any_size() {
    for mut executor in everyone() {
        for elements in [1, 63, 64, 100_003, 5 << 20] {
            let buffer = executor.allocate(elements, Purpose::Weights).unwrap();
            let zeros = executor.read(slice(buffer, elements.min(1000))).unwrap();
            assert!(zeros.iter().all(|&byte| byte == 0), "{}", executor.info().name);
            let bytes = pattern(elements, 7);
            executor.write(slice(buffer, elements), &bytes).unwrap();
            assert_eq!(executor.read(slice(buffer, elements)).unwrap(), bytes);
            if elements > 64 {
                let part = Slice { buffer, start: 64, elements: elements - 64 };
                assert_eq!(executor.read(part).unwrap(), bytes[256..]);
            }
            executor.release(buffer);
        }
        assert_eq!(executor.ledger().bytes(Purpose::Weights), 0);
        assert_eq!(executor.ledger().bytes(Purpose::Staging), 0);
    }
}

#[test]
fn device_programs_upload_copy_clear_and_download_in_order() {
    for mut executor in everyone() {
        let [a, b, c] = [300, 300, 128].map(|n| executor.allocate(n, Purpose::Activations).unwrap());
        let program = Program {
            label: "0F0".into(),
            uploads: vec![slice(a, 300), slice(c, 128)],
            commands: vec![
                Command::Copy { from: slice(a, 300), to: slice(b, 300) },
                Command::Clear(Slice { buffer: b, start: 64, elements: 65 }),
            ],
            downloads: vec![slice(c, 128), slice(b, 300)],
            lane: 0,
        };
        let id = executor.prepare(&program, 2).unwrap();
        for round in 0..5 {
            let (x, y) = (pattern(300, round), pattern(128, !round));
            let mut upload = executor.upload(id).unwrap();
            assert_eq!(upload.len(), 4 * 428);
            upload.write(0, &x);
            upload.write(1200, &y);
            let ticket = executor.submit(id, Some(upload)).unwrap();
            let download = executor.wait(ticket, PATIENCE).unwrap().download.unwrap();
            let mut wanted = [y, x].concat();
            wanted[512 + 256..512 + 256 + 260].fill(0);
            assert_eq!(download[..], wanted[..], "{} in round {round}", executor.info().name);
        }
    }
}

#[test]
fn device_keeps_several_submissions_in_flight() {
    for mut executor in everyone() {
        let (program, _) = doubling(executor.as_mut(), 1000, 3);
        let id = executor.prepare(&program, 3).unwrap();
        let staging = executor.ledger().bytes(Purpose::Staging);
        for _ in 0..4 {
            let tickets: Vec<_> = (0..3)
                .map(|i| {
                    let mut upload = executor.upload(id).unwrap();
                    upload.write(0, &floats((0..1000).map(|j| (i * 1000 + j) as f32)));
                    executor.submit(id, Some(upload)).unwrap()
                })
                .collect();
            for (i, ticket) in tickets.into_iter().enumerate() {
                let completion = executor.wait(ticket, PATIENCE).unwrap();
                let wanted = floats((0..1000).map(|j| 2.0 * (i * 1000 + j) as f32));
                assert_eq!(completion.download.unwrap()[..], wanted[..], "{}", executor.info().name);
            }
        }
        assert_eq!(executor.ledger().bytes(Purpose::Staging), staging, "nothing is allocated per step");
    }
}

#[test]
fn device_uploads_wait_for_a_slot_and_unused_ones_come_back() {
    for mut executor in everyone() {
        let (program, _) = doubling(executor.as_mut(), 4096, 1);
        let id = executor.prepare(&program, 1).unwrap();
        let staging = executor.ledger().bytes(Purpose::Staging);
        for i in 0..20 {
            drop(executor.upload(id).unwrap());
            let mut upload = executor.upload(id).unwrap();
            upload.write(0, &floats((0..4096).map(|j| (i + j) as f32)));
            let ticket = executor.submit(id, Some(upload)).unwrap();
            // The next slot is asked for while this one is in flight.
            drop(executor.upload(id).unwrap());
            let completion = executor.wait(ticket, PATIENCE).unwrap();
            assert_eq!(completion.download.unwrap()[..4], (2.0 * i as f32).to_le_bytes());
        }
        assert_eq!(executor.ledger().bytes(Purpose::Staging), staging);
    }
}

#[test]
fn device_forgets_tickets_that_nobody_waits_for() {
    for mut executor in everyone() {
        let (program, _) = doubling(executor.as_mut(), 64, 1);
        let id = executor.prepare(&program, 2).unwrap();
        let mut staging = 0;
        for round in 0..6 {
            for _ in 0..3 {
                let upload = executor.upload(id).unwrap();
                let _unwanted = executor.submit(id, Some(upload)).unwrap();
            }
            let mut upload = executor.upload(id).unwrap();
            upload.write(0, &floats((0..64).map(|j| (round + j) as f32)));
            let ticket = executor.submit(id, Some(upload)).unwrap();
            let completion = executor.wait(ticket, PATIENCE).unwrap();
            assert_eq!(completion.download.unwrap()[..4], (2.0 * round as f32).to_le_bytes());
            if round == 1 {
                staging = executor.ledger().bytes(Purpose::Staging);
            }
        }
        assert_eq!(executor.ledger().bytes(Purpose::Staging), staging);
    }
}

#[test]
fn device_downloads_outlive_the_executor_on_another_thread() {
    for mut executor in everyone() {
        let (program, _) = doubling(executor.as_mut(), 500, 1);
        let id = executor.prepare(&program, 1).unwrap();
        let mut upload = executor.upload(id).unwrap();
        upload.write(0, &floats((0..500).map(|j| j as f32)));
        let stray = executor.upload(id).unwrap();
        let ticket = executor.submit(id, Some(upload)).unwrap();
        let download = executor.wait(ticket, PATIENCE).unwrap().download.unwrap();
        drop(executor);
        let last = std::thread::spawn(move || download[1996..2000].to_vec()).join().unwrap();
        assert_eq!(last, 998f32.to_le_bytes());
        drop(stray);
    }
}

#[test]
fn device_scratch_memory_grows_under_older_programs() {
    for mut executor in everyone() {
        let sizes = [100, 5000, 70_000];
        let programs = sizes.map(|elements| {
            let (program, _) = doubling(executor.as_mut(), elements, 2);
            executor.prepare(&program, 1).unwrap()
        });
        for (id, elements) in programs.into_iter().zip(sizes) {
            let mut upload = executor.upload(id).unwrap();
            upload.write(0, &floats((0..elements).map(|j| j as f32)));
            let ticket = executor.submit(id, Some(upload)).unwrap();
            let download = executor.wait(ticket, PATIENCE).unwrap().download.unwrap();
            assert_eq!(download[..], floats((0..elements).map(|j| 2.0 * j as f32))[..], "{}", executor.info().name);
        }
        assert!(executor.ledger().bytes(Purpose::Workspace) <= 4 * 70_016);
    }
}

#[test]
fn device_ledger_counts_what_is_allocated() {
    for mut executor in everyone() {
        let before = executor.ledger().live_bytes();
        let weights = executor.allocate(1024, Purpose::Weights).unwrap();
        let gradients = executor.allocate(2048, Purpose::Gradients).unwrap();
        assert_eq!(executor.ledger().bytes(Purpose::Weights), 4096);
        assert_eq!(executor.ledger().live_bytes() - before, 3 * 4096);
        executor.release(weights);
        executor.release(gradients);
        executor.release(gradients);
        assert_eq!(executor.ledger().live_bytes(), before);
        assert_eq!(executor.ledger().peak_bytes() - before, 3 * 4096);
    }
}

#[test]
fn device_allocations_out_of_limits_are_errors() {
    for mut executor in gpus() {
        let elements = usize::try_from(executor.info().limits.buffer_bytes / 4).unwrap() + 64;
        let error = executor.allocate(elements, Purpose::Weights).unwrap_err();
        assert!(matches!(error, DeviceError::Limit { .. }), "{error}");
        assert!(error.to_string().contains(&executor.info().name), "{error}");
        executor.allocate(64, Purpose::Weights).unwrap();
    }
    for name in &adapters() {
        let options = OpenOptions { budget_bytes: Some(1 << 20), ..OpenOptions::default() };
        let mut executor = opened(name, &options);
        let kept = executor.allocate(200_000, Purpose::Weights).unwrap();
        let error = executor.allocate(200_000, Purpose::Gradients).unwrap_err();
        assert!(matches!(error, DeviceError::OutOfMemory { wanted: 800_000, .. }), "{error}");
        executor.release(kept);
        executor.allocate(200_000, Purpose::Gradients).unwrap();
    }
}

#[test]
fn device_out_of_memory_is_an_error() {
    for mut executor in gpus() {
        // Far more than the machine has: either the driver refuses at some point, or it only ever promises.
        let elements = usize::try_from(executor.info().limits.buffer_bytes / 4).unwrap();
        for _ in 0..64 {
            match executor.allocate(elements.min(1 << 28), Purpose::Weights) {
                Ok(_) => {}
                Err(DeviceError::OutOfMemory { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        println!("{}: {} MiB promised", executor.info().name, executor.ledger().live_bytes() >> 20);
    }
}

#[test]
fn device_waiting_ends_at_the_timeout() {
    for mut executor in gpus() {
        // Some tens of milliseconds at least.
        let times = if executor.info().is_software() { 64 } else { 8192 };
        let (program, _) = doubling(executor.as_mut(), 1 << 20, times);
        let id = executor.prepare(&program, 1).unwrap();
        let upload = executor.upload(id).unwrap();
        let ticket = executor.submit(id, Some(upload)).unwrap();
        let finished = executor.is_finished(&ticket).unwrap();
        let started = std::time::Instant::now();
        match executor.wait(ticket, Duration::from_millis(2)) {
            Err(DeviceError::Timeout { what, .. }) => assert!(what.contains("twice"), "{what}"),
            other => panic!("{}: {other:?}, {finished}", executor.info().name),
        }
        assert!(!finished && started.elapsed() < Duration::from_secs(1));
        // The device goes on all the same.
        let upload = executor.upload(id).unwrap();
        let ticket = executor.submit(id, Some(upload)).unwrap();
        let completion = executor.wait(ticket, PATIENCE).unwrap();
        println!("{}: {:?} on the device", executor.info().name, completion.device_time);
    }
}

#[test]
fn device_refuses_programs_that_contradict_themselves() {
    for mut executor in everyone() {
        let (good, [x, y]) = doubling(executor.as_mut(), 256, 1);
        let other = executor.allocate(100, Purpose::Small).unwrap();
        executor.release(other);
        let bad = |slices: Vec<Slice>, commands: Vec<Command>| Program {
            label: "1B2".into(),
            uploads: slices,
            commands,
            ..Program::default()
        };
        let short = Command::Copy { from: slice(x, 256), to: slice(y, 128) };
        let same = Command::Copy { from: slice(x, 64), to: Slice { buffer: x, start: 64, elements: 64 } };
        for program in [
            bad(vec![slice(x, 257)], vec![]),
            bad(vec![Slice { buffer: x, start: 1, elements: 4 }], vec![]),
            bad(vec![slice(other, 64)], vec![]),
            bad(vec![], vec![Command::Clear(Slice { buffer: x, start: usize::MAX - 63, elements: 64 })]),
            bad(vec![], vec![short]),
            bad(vec![], vec![same]),
        ] {
            let error = executor.prepare(&program, 1).unwrap_err();
            assert!(matches!(error, DeviceError::Program { .. }), "{error}");
            assert!(error.to_string().contains("1B2"), "{error}");
        }
        let id = executor.prepare(&good, 1).unwrap();
        assert!(executor.submit(id, None).is_err(), "the upload is missing");
        executor.forget(id);
        assert!(executor.upload(id).is_err());
    }
}

#[test]
fn device_refuses_one_buffer_read_and_written_by_one_dispatch() {
    for mut executor in gpus() {
        let mut program = doubling(executor.as_mut(), 256, 1).0;
        let Command::Run(mut run) = program.commands.remove(0) else { unreachable!() };
        // In place: through scratch memory no dispatch binds the buffer twice, so this is fine.
        run.tensors[1].1 = run.tensors[0].1;
        program.commands = vec![Command::Run(run.clone())];
        executor.prepare(&program, 1).unwrap();
        let relu = brigade_kernels::ops::find("relu").unwrap();
        run.operation = std::sync::Arc::from((relu.from_attributes)(&serde_json::json!({})).unwrap());
        program.commands = vec![Command::Run(run)];
        let error = executor.prepare(&program, 1).unwrap_err();
        assert!(matches!(error, DeviceError::Program { .. }), "{error}");
        assert!(error.to_string().contains("relu/forward"), "{error}");
    }
}

#[test]
fn device_self_test_leaves_wrong_variants_out() {
    for mut executor in gpus() {
        let test = self_test(executor.as_mut(), &[&twice::MENDABLE]).unwrap();
        let names: Vec<_> = test.excluded.iter().map(|(_, _, name)| *name).collect();
        assert_eq!(names, ["threefold", "uncompilable"], "{}", executor.info().name);
        assert!(executor.selection().excludes("twice", Pass::Forward, "threefold"));
        assert!(!executor.selection().excludes("twice", Pass::Forward, "right"));
    }
    for mut executor in gpus() {
        let error = self_test(executor.as_mut(), &[&twice::HOPELESS]).unwrap_err();
        assert!(matches!(error, DeviceError::WrongResults { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("twice/forward") && text.contains(&executor.info().name), "{text}");
    }
}

#[test]
fn device_times_are_of_the_right_size() {
    for name in &adapters() {
        let mut executor = plain(name);
        let times = [1, 200].map(|count| {
            let (program, _) = doubling(executor.as_mut(), 1 << 16, count);
            let id = executor.prepare(&program, 1).unwrap();
            (0..5)
                .map(|_| {
                    let upload = executor.upload(id).unwrap();
                    let ticket = executor.submit(id, Some(upload)).unwrap();
                    let completion = executor.wait(ticket, PATIENCE).unwrap();
                    let wall = completion.finished - completion.submitted;
                    (completion.device_time.unwrap(), wall)
                })
                .min()
                .unwrap()
        });
        println!("{}: (device, wall) {times:?}", executor.info().name);
        let [(short, _), (long, wall)] = times;
        assert!(long <= wall, "{long:?} on the device, {wall:?} by the clock on the wall");
        assert!(long > 10 * short, "{short:?} for one pass, {long:?} for 200");
    }
}

#[test]
fn device_without_timestamps_gives_none() {
    for name in &adapters() {
        let mut executor = opened(name, &OpenOptions { timestamps: false, ..OpenOptions::default() });
        let (program, _) = doubling(executor.as_mut(), 64, 1);
        let id = executor.prepare(&program, 1).unwrap();
        let upload = executor.upload(id).unwrap();
        let ticket = executor.submit(id, Some(upload)).unwrap();
        assert_eq!(executor.wait(ticket, PATIENCE).unwrap().device_time, None);
    }
}
