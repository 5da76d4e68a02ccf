//! Tuning on the software adapters: what is wrong is found, named and never chosen; what was found is kept.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;
#[path = "common/twice.rs"]
#[allow(dead_code, reason = "its programs are another test's")]
mod twice;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brigade_devices::{
    DeviceError, DeviceInfo, Selection, ShapeClass, Task, Tuner, Tuning, TuningMemory, TuningReport, self_test_for,
};
use brigade_kernels::ops::{OPERATIONS, find};
use brigade_kernels::{Pass, Problem, Shape, Variant};
use common::{adapter, adapters, plain};
use twice::Twice;

fn twice(variants: &'static [&'static str]) -> Vec<Task> {
    let problem = Problem { n: 64, input: Shape::new(8, 40, 40) };
    vec![Task { operation: Arc::new(Twice(variants)), pass: Pass::Forward, problem }]
}

/// Passes of a convolution and a linear layer, as small as is worth a tile.
fn layers() -> Vec<Task> {
    let task = |name: &str, attributes, pass, problem| {
        let operation = (find(name).unwrap().from_attributes)(&attributes).unwrap().into();
        Task { operation, pass, problem }
    };
    let passes = [Pass::Forward, Pass::BackwardInput, Pass::BackwardWeight];
    let conv = serde_json::json!({"out_channels": 16, "kernel": 3, "padding": 1});
    let linear = serde_json::json!({"out_features": 40});
    let conv = passes.map(|pass| task("conv2d", conv.clone(), pass, Problem { n: 6, input: Shape::new(8, 16, 16) }));
    let linear = passes.map(|pass| task("linear", linear.clone(), pass, Problem { n: 6, input: Shape::vector(300) }));
    conv.into_iter().chain(linear).collect()
}

/// Tunes with findings kept in `folder`; also gives how many devices were opened.
fn tune(
    info: &DeviceInfo,
    effort: Tuning,
    folder: Option<&Path>,
    tasks: &[Task],
) -> Result<(Selection, TuningReport, usize), DeviceError> {
    let opened = Cell::new(0);
    let tuner = Tuner::new(effort).folder(folder.map(Path::to_owned));
    let (selection, report) = tuner.tune(info, tasks, &mut || {
        opened.set(opened.get() + 1);
        Ok(plain(&info.name))
    })?;
    Ok((selection, report, opened.get()))
}

fn choice(selection: &Selection, task: &Task) -> Option<&'static str> {
    let class = ShapeClass::of(task.operation.as_ref(), task.pass, task.problem);
    selection.chosen().find(|(found, _)| **found == class).map(|(_, variant)| variant)
}

/// The only file of findings in a folder.
fn file(folder: &Path) -> PathBuf {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found: Vec<_> = paths.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn device_tuning_names_wrong_variants_and_never_chooses_them() {
    let tasks = twice(&["hasty", "threefold", "uncompilable", "slow", "right"]);
    for name in &adapters() {
        let info = adapter(name);
        let folder = tempfile::tempdir().unwrap();
        for effort in [Tuning::Quick, Tuning::Full] {
            let (selection, report, _) = tune(&info, effort, Some(folder.path()), &tasks).unwrap();
            assert_eq!(choice(&selection, &tasks[0]), Some("right"), "{name} {effort}");
            let mut wrong: Vec<_> = report.wrong.iter().map(|wrong| wrong.variant).collect();
            wrong.sort_unstable();
            assert_eq!(wrong, ["hasty", "threefold", "uncompilable"], "{name} {effort}: {report:?}");
            for wrong in &report.wrong {
                assert_eq!((wrong.operation, wrong.pass, &wrong.device), ("twice", "forward", &info.name));
                assert!(selection.excludes("twice", Pass::Forward, wrong.variant));
            }
            let named = |variant| report.wrong.iter().find(|wrong| wrong.variant == variant).unwrap().detail.clone();
            assert!(named("threefold").contains("y is 5.0e-1 off, allowed 1.0e-5"), "{}", named("threefold"));
            // From the cache: still known to be wrong, and no device is opened.
            let (again, from_cache, opened) = tune(&info, effort, Some(folder.path()), &tasks).unwrap();
            assert_eq!((opened, from_cache.kernels, from_cache.cached), (0, 1, 1));
            assert_eq!(from_cache.wrong.len(), 3);
            assert_eq!(again, selection);
        }
    }
}

#[test]
fn device_tuning_is_repeated_where_more_is_asked_for() {
    let info = adapter("llvmpipe");
    let folder = tempfile::tempdir().unwrap();
    // What was tried in full serves the quick as well.
    for (effort, cached) in [(Tuning::Quick, 0), (Tuning::Full, 0), (Tuning::Full, 6), (Tuning::Quick, 6)] {
        let (_, report, _) = tune(&info, effort, Some(folder.path()), &layers()).unwrap();
        assert_eq!(report.cached, cached, "{effort}: {report:?}");
    }
}

#[test]
fn device_tuning_fails_where_nothing_is_right() {
    let error = tune(&adapter("llvmpipe"), Tuning::Quick, None, &twice(&["hasty", "threefold"])).unwrap_err();
    let message = error.to_string();
    for word in ["llvmpipe", "twice/forward", "hasty", "threefold", "5.0e-1"] {
        assert!(message.contains(word), "no `{word}` in {message}");
    }
}

#[test]
fn device_tuning_does_not_trust_the_names_in_a_cache() {
    let tasks = twice(&["hasty", "right", "slow"]);
    let info = adapter("llvmpipe");
    let folder = tempfile::tempdir().unwrap();
    let tuned = || tune(&info, Tuning::Quick, Some(folder.path()), &tasks).unwrap();
    tuned();
    let path = file(folder.path());
    let whole = std::fs::read_to_string(&path).unwrap();
    let planted = |choice: &str| {
        let text = whole.replace("\"choice\": \"right\"", &format!("\"choice\": \"{choice}\""));
        assert_ne!(text, whole);
        std::fs::write(&path, text).unwrap();
    };

    // A variant that does not exist, and one that is known to be wrong: tuned again.
    for name in ["vanished", "hasty"] {
        planted(name);
        let (selection, report, _) = tuned();
        assert_eq!((choice(&selection, &tasks[0]), report.cached), (Some("right"), 0), "{name}");
    }

    // A wrong one of which the file says nothing bad is taken, and the self-test stops it before it runs.
    let text = whole.replace("\"choice\": \"right\"", "\"choice\": \"hasty\"");
    let begin = text.find("\"wrong\": {").unwrap();
    let end = begin + text[begin..].find('}').unwrap();
    std::fs::write(&path, format!("{}\"wrong\": {{{}", &text[..begin], &text[end..])).unwrap();
    let (selection, report, opened) = tuned();
    assert_eq!((choice(&selection, &tasks[0]), report.cached, opened), (Some("hasty"), 1, 0));
    let mut executor = plain("llvmpipe");
    executor.selection_mut().adopt(&selection);
    let test = self_test_for(executor.as_mut(), &[], &tasks).unwrap();
    assert_eq!(test.excluded, [("twice", Pass::Forward, "hasty")]);
    let limits = executor.info().limits.clone();
    let left = executor.selection().eligible(tasks[0].operation.as_ref(), Pass::Forward, tasks[0].problem, &limits);
    assert_eq!(left[0].name, "right");
    // What took its place was tested too; `slow` was not, as it is not used.
    let tested: Vec<_> = test.reports.iter().map(|report| report.variant).collect();
    assert_eq!(tested, ["hasty", "right"]);
}

#[test]
fn device_tuning_offers_wide_subgroups_only_where_they_are() {
    let tasks = twice(&["wide", "slow", "right"]);
    for (name, offered) in [("llvmpipe", true), ("swiftshader", false)] {
        let info = adapter(name);
        assert_eq!(info.limits.subgroup_min >= 8, offered, "{name}");
        let folder = tempfile::tempdir().unwrap();
        tune(&info, Tuning::Full, Some(folder.path()), &tasks).unwrap();
        let found = std::fs::read_to_string(file(folder.path())).unwrap();
        assert_eq!(found.contains("\"wide\": "), offered, "{name}: {found}");
        // The same of the list's own operations.
        for task in layers() {
            let Task { operation, pass, problem } = task;
            let eligible = Selection::default().eligible(operation.as_ref(), pass, problem, &info.limits);
            // Those for GPUs want more than wide subgroups.
            let meant = |variant: &&Variant| variant.requires.software && variant.requires.subgroup_min >= 8;
            let wide = |variants: Vec<Variant>| variants.iter().filter(meant).count();
            let all = wide(operation.variants(pass));
            assert_eq!(wide(eligible), if offered { all } else { 0 }, "{name}: {}/{pass}", operation.name());
        }
    }
}

#[test]
fn device_tuning_chooses_among_the_layers_variants_and_remembers() {
    for name in &adapters() {
        let info = adapter(name);
        let folder = tempfile::tempdir().unwrap();
        let (selection, report, opened) = tune(&info, Tuning::Quick, Some(folder.path()), &layers()).unwrap();
        println!("{name}: {report}");
        for (class, variant) in selection.chosen() {
            println!("  {} {:?}: {variant}", class.pass, class.operation);
        }
        assert_eq!((opened, report.kernels, report.cached, report.wrong.len()), (1, 6, 0, 0), "{report:?}");
        let (again, report, opened) = tune(&info, Tuning::Quick, Some(folder.path()), &layers()).unwrap();
        assert_eq!((opened, report.cached), (0, 6));
        assert_eq!(again, selection);
        let mut executor = plain(name);
        executor.selection_mut().adopt(&selection);
        let test = self_test_for(executor.as_mut(), OPERATIONS, &layers()).unwrap();
        println!("{name}: self-test of what is used: {} outputs in {:?}", test.reports.len(), test.elapsed);
        assert!(test.excluded.is_empty());
    }
}

/// A run that starts again in its process goes on with the same kernels, though nothing can be kept on disk, or another
/// run has found something else meanwhile.
#[test]
fn device_tuning_is_remembered_without_a_folder() {
    let info = adapter("llvmpipe");
    let memory = TuningMemory::default();
    let again = |folder: Option<&Path>, tasks: &[Task]| {
        let opened = Cell::new(0);
        let tuner = Tuner::new(Tuning::Quick).folder(folder.map(Path::to_owned)).remembering(&memory);
        let (selection, _) = tuner
            .tune(&info, tasks, &mut || {
                opened.set(opened.get() + 1);
                Ok(plain(&info.name))
            })
            .unwrap();
        (selection, opened.get())
    };
    let (first, opened) = again(None, &layers());
    assert_eq!((opened, first.chosen().count()), (1, 6));
    assert_eq!(again(None, &layers()), (first.clone(), 0));
    // Fewer layers, as after the loss of a device, are a part of it.
    let (fewer, opened) = again(None, &layers()[..3]);
    assert!(opened == 0 && fewer.chosen().all(|chosen| first.chosen().any(|first| first == chosen)));
    let folder = tempfile::tempdir().unwrap();
    tune(&info, Tuning::Full, Some(folder.path()), &layers()).unwrap();
    let path = file(folder.path());
    let mut other: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    for found in other["found"].as_array_mut().unwrap() {
        found["choice"] = "naive".into();
    }
    std::fs::write(&path, other.to_string()).unwrap();
    let (theirs, _, opened) = tune(&info, Tuning::Quick, Some(folder.path()), &layers()).unwrap();
    assert!(opened == 0 && theirs != first);
    assert_eq!(again(Some(folder.path()), &layers()), (first, 0));
}

#[test]
fn device_tuning_off_and_on_the_reference_does_nothing() {
    for (name, effort) in [("llvmpipe", Tuning::Off), ("reference", Tuning::Full)] {
        let folder = tempfile::tempdir().unwrap();
        let (selection, report, opened) = tune(&adapter(name), effort, Some(folder.path()), &layers()).unwrap();
        assert_eq!((selection, report.kernels, opened), (Selection::default(), 0, 0));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
