//! The invariants of ARCHITECTURE.md that can be read from the manifests and sources.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use brigade_kernels::ceiling;
use brigade_kernels::ops::OPERATIONS;

const LONGEST_FILE: usize = 600;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below a folder with this ending; links are not followed.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else if entry.path().extension().is_some_and(|found| found == ending) {
                found.push(entry.path());
            }
        }
    }
    assert!(!found.is_empty(), "no .{ending} in {folder}");
    found
}

/// The names of what a crate depends on; with those of its tests where `tests` holds.
fn dependencies(manifest: &str, tests: bool) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(manifest)).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let mut sections = vec!["dependencies", "build-dependencies"];
    if tests {
        sections.push("dev-dependencies");
    }
    // What one platform alone depends on counts like the rest.
    let platforms = table.get("target").and_then(toml::Value::as_table).into_iter().flat_map(toml::Table::values);
    let tables = platforms.filter_map(toml::Value::as_table).chain([&table]);
    let sections = tables.flat_map(|table| sections.iter().filter_map(|section| table.get(*section)?.as_table()));
    sections.flat_map(|section| section.keys().cloned()).collect()
}

fn crate_dependencies(name: &str) -> BTreeSet<String> {
    dependencies(&format!("crates/{name}/Cargo.toml"), false)
}

/// The code of a source file: without comments, and without the tests at its end.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let body = text.split("#[cfg(test)]\nmod ").next().unwrap();
    body.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// Files of a folder whose code has one of `words`.
fn that_name(folder: &str, words: &[&str]) -> Vec<String> {
    let names = |path: &PathBuf| {
        let code = code(path);
        words.iter().any(|word| code.contains(word))
    };
    files(folder, "rs").iter().filter(|path| names(path)).map(|path| shown(path)).collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

#[test]
fn dependencies_run_one_way() {
    let crates = ["brigade-kernels", "brigade-devices", "brigade-pipeline", "brigade-data", "brigade"];
    let ours = |name: &str| -> Vec<String> {
        crate_dependencies(name).into_iter().filter(|other| crates.contains(&other.as_str())).collect()
    };
    assert_eq!(ours("kernels"), [""; 0]);
    assert_eq!(ours("data"), [""; 0]);
    assert_eq!(ours("devices"), ["brigade-kernels"]);
    assert_eq!(ours("pipeline"), ["brigade-devices", "brigade-kernels"]);
}

#[test]
fn only_devices_depends_on_wgpu() {
    for manifest in ["Cargo.toml", "crates/kernels/Cargo.toml", "crates/pipeline/Cargo.toml", "crates/data/Cargo.toml"]
    {
        let found = dependencies(manifest, true);
        assert!(found.iter().all(|name| !name.starts_with("wgpu")), "{manifest}: {found:?}");
    }
    assert!(crate_dependencies("devices").contains("wgpu"));
    for folder in ["crates/kernels", "crates/pipeline", "crates/data", "crates/brigade", "examples"] {
        assert_eq!(that_name(folder, &["wgpu::"]), [""; 0]);
    }
}

#[test]
fn kernels_starts_no_thread_and_does_no_io() {
    let found = crate_dependencies("kernels");
    for other in ["tokio", "rayon", "crossbeam", "tracing", "naga"] {
        assert!(!found.contains(other), "kernels depends on {other}");
    }
    let words = ["std::thread", "std::fs", "std::net", "std::io", "std::process", "println!", "use std::{"];
    assert_eq!(that_name("crates/kernels/src", &words), [""; 0]);
}

#[test]
fn stages_share_no_state() {
    // What passes between stages passes through a link: no lock, atomic or static in their code.
    let words = ["Mutex", "RwLock", "Atomic", "static ", "RefCell", "OnceLock", "unbounded_channel"];
    assert_eq!(that_name("crates/pipeline/src/stage", &words), [""; 0]);
}

#[test]
fn shaders_and_operations_correspond_one_to_one() {
    // An operation's shader lies in `shaders/`, its families of variants in a folder of its name beside it.
    let stem = |path: &Path| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let operation = |path: &PathBuf| match path.strip_prefix(root().join("shaders")).unwrap().iter().next() {
        Some(folder) if path.parent() != Some(root().join("shaders").as_path()) => folder.to_str().unwrap().to_owned(),
        _ => stem(path),
    };
    let mut shaders: BTreeSet<_> =
        files("shaders", "wgsl").iter().map(operation).filter(|name| name != "shared").collect();
    assert!(shaders.remove("bench"));
    let operations: BTreeSet<_> = OPERATIONS.iter().map(|entry| entry.name.to_owned()).collect();
    assert_eq!(shaders, operations);
    // What benchmarks hold the operations against.
    let benches: BTreeSet<_> = files("shaders/bench", "wgsl").iter().map(|path| stem(path)).collect();
    let ceilings: BTreeSet<_> = ceiling::SHADERS.iter().map(|shader| shader.name.to_owned()).collect();
    assert_eq!(benches, ceilings);
    for entry in OPERATIONS {
        assert_eq!(entry.shader.name, entry.name);
        for file in [format!("shaders/{}.wgsl", entry.name), format!("crates/kernels/src/ops/{}.rs", entry.name)] {
            assert!(root().join(&file).is_file(), "{} has no {file}", entry.name);
        }
    }
}

#[test]
fn every_shader_file_is_part_of_a_shader() {
    let sources = files("crates/kernels/src", "rs").iter().map(|path| code(path)).collect::<String>();
    for path in files("shaders", "wgsl") {
        let name = path.strip_prefix(root().join("shaders")).unwrap().display().to_string();
        let file = path.file_name().unwrap().to_str().unwrap();
        // A path that ends a literal, whole or from `shaders/` on, or the name alone where a macro puts the folder before.
        let included = sources.contains(&format!("/{name}\"")) || sources.contains(&format!("\"{name}\""));
        assert!(included || sources.contains(&format!("\"{file}\"")), "no shader includes {name}");
    }
}

#[test]
fn shaders_use_no_atomics() {
    // Floating-point atomics add in an order of their own: the same run would not give the same bits. The guard before
    // updates stores a flag, which is the same whoever stores it.
    for path in files("shaders", "wgsl").iter().filter(|path| !path.ends_with("non_finite.wgsl")) {
        assert!(!fs::read_to_string(path).unwrap().contains("atomic<"), "{}", shown(path));
    }
    let guard = fs::read_to_string(root().join("shaders/non_finite.wgsl")).unwrap();
    let only_stores = guard.matches("atomic").count() == 2 && guard.contains("atomicStore(&y[HOLD], 1u)");
    assert!(only_stores && guard.contains("array<atomic<u32>>"), "the guard does more than store its flag");
}

#[test]
fn unsafe_code_is_in_devices_alone() {
    for folder in ["crates/kernels", "crates/pipeline", "crates/data", "crates/brigade", "examples", "tests"] {
        let unsafe_word = concat!("uns", "afe "); // this file is searched too
        assert_eq!(that_name(folder, &[unsafe_word, concat!("allow(uns", "afe_code")]), [""; 0]);
    }
}

#[test]
fn no_file_is_long() {
    let mut lengths: Vec<_> = [("crates", "rs"), ("shaders", "wgsl"), ("tests", "rs"), ("examples", "rs")]
        .iter()
        .flat_map(|(folder, ending)| files(folder, ending))
        .map(|path| (fs::read_to_string(&path).unwrap().lines().count(), shown(&path)))
        .collect();
    lengths.sort();
    let long: Vec<_> = lengths.iter().filter(|(lines, _)| *lines > LONGEST_FILE).collect();
    assert!(long.is_empty(), "longer than {LONGEST_FILE} lines: {long:?}");
}

#[test]
fn dependencies_come_from_the_registry() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let sources: Vec<&str> = lock.lines().filter(|line| line.starts_with("source = ")).collect();
    assert!(sources.len() > 100);
    assert!(sources.iter().all(|source| source.contains("registry+")), "a dependency comes from elsewhere");
    let without_checksum = lock.split("[[package]]").filter(|p| p.contains("source = ") && !p.contains("checksum = "));
    assert_eq!(without_checksum.count(), 0);
}
