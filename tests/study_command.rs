//! `brigade study convergence --quick`: rows are trained once, and what was stopped goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::command::Place;
use serde_json::Value;

const ROWS: &str = "glyphs/1,layer-block-wise/1/single/none";

fn study(place: &Place, flags: &str) -> common::command::Outcome {
    place.run(&format!("study convergence --quick --device reference --jobs 2 --seeds 1 --out @out {flags}"))
}

#[test]
fn rows_that_have_results_are_not_trained_again() {
    let place = Place::new();
    let first = study(&place, &format!("--only {ROWS} --json")).json();
    let lines = first["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["case"], "glyphs/1");
    assert!(lines.iter().all(|line| line["mean"].as_f64().is_some_and(|mean| (0.0..=100.0).contains(&mean))));
    // The same seed and data: what two stages lose is the difference of the two means.
    let mean = |line: &Value| line["mean"].as_f64().unwrap();
    let difference = lines[1]["difference"].as_f64().unwrap();
    assert!((difference - (mean(&lines[1]) - mean(&lines[0]))).abs() < 1e-9);

    let results = place.read("out/results.jsonl");
    let again = study(&place, &format!("--only {ROWS}")).done();
    assert!(again.error.contains("2 rows, 2 of them done") && !again.error.contains("started"), "{again:?}");
    assert_eq!(place.read("out/results.jsonl"), results);
    assert!(String::from_utf8(place.read("out/glyphs-2.svg")).unwrap().contains("layer-block-wise 1 single none"));
}

#[test]
fn a_row_without_a_result_is_the_only_one_that_is_trained() {
    let place = Place::new();
    study(&place, &format!("--only {ROWS}")).done();
    let whole = String::from_utf8(place.read("out/results.jsonl")).unwrap();
    let (kept, lost): (Vec<_>, Vec<_>) = whole.lines().partition(|line| line.contains("\"stages\":1,"));
    place.write("out/results.jsonl", format!("{}\n", kept[0]).as_bytes());
    let again = study(&place, &format!("--only {ROWS}")).done();
    assert!(again.error.contains("2 rows, 1 of them done"), "{again:?}");
    // The row gives the same figures again, but for its seconds.
    let figures = |line: &str| serde_json::from_str::<Value>(line).unwrap()["epochs"].clone();
    let second = String::from_utf8(place.read("out/results.jsonl")).unwrap();
    assert_eq!(figures(second.lines().last().unwrap()), figures(lost[0]));
}

#[test]
fn what_cannot_be_is_refused() {
    let place = Place::new();
    place.run("study convergence --out @out").refused(2, &["--cifar10", "--mnist", "--quick"]);
    study(&place, "--only nothing-like-this").refused(2, &["--only", "--list"]);
    std::fs::create_dir_all(place.path("out")).unwrap();
    place.write("out/results.jsonl", b"{\"name\":1}\n");
    study(&place, "").refused(3, &["results.jsonl, line 1"]);
}

/// A folder without data ends every row with 3: each is recorded, none stops the others, and all are tried again.
#[test]
fn a_row_that_fails_is_recorded_and_the_study_goes_on() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("empty")).unwrap();
    let run = || {
        let only = "mnist/1/,mnist/4/layer-block-wise/1/single/none/";
        place.run(&format!(
            "study convergence --mnist @empty --device reference --jobs 1 --seeds 1 --out @out --only {only} --json"
        ))
    };
    let first = run();
    assert!(first.error.contains("2 rows, 0 of them done"), "{first:?}");
    let lines = first.json()["lines"].clone();
    assert_eq!((&lines[0]["outcomes"][0], &lines[1]["outcomes"][0]), (&Value::from("failed"), &Value::from("failed")));
    assert!(String::from_utf8(place.read("out/table.md")).unwrap().contains("| failed |"));
    let results = String::from_utf8(place.read("out/results.jsonl")).unwrap();
    assert_eq!(results.matches("ended with status 3").count(), 2, "{results}");
    let again = run();
    assert!(again.error.contains("2 rows, 0 of them done"), "{again:?}");
    assert_eq!(again.json()["lines"].as_array().unwrap().len(), 2);
}

/// `plan` refuses what `train` would refuse, without data and without a device.
#[test]
fn every_row_can_be_trained() {
    let place = Place::new();
    let list =
        place.run("study convergence --cifar10 @none --mnist @none --rows all --seeds 1 --list --out @out").done();
    let commands: Vec<&str> = list.out.lines().filter_map(|line| line.strip_prefix("brigade train ")).collect();
    assert!(commands.len() > 80, "{}", commands.len());
    for command in commands {
        let words: Vec<&str> = command.split(' ').collect();
        let of = |flag: &str| words.iter().position(|&word| word == flag).map(|at| words[at + 1]);
        let kept =
            ["--model", "--stages", "--schedule", "--cuts", "--microbatches", "--weights", "--correction", "--batch"];
        let flags = kept.into_iter().filter_map(|flag| Some(format!("{flag} {}", of(flag)?))).collect::<Vec<_>>();
        place.run(&format!("plan {} --json", flags.join(" "))).done();
    }
}

/// The table in the documentation is what the command makes of the results beside it.
#[test]
fn the_documented_table_is_that_of_the_results() {
    let place = Place::new();
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    std::fs::create_dir_all(place.path("out")).unwrap();
    place.write("out/results.jsonl", &std::fs::read(docs.join("convergence/results.jsonl")).unwrap());
    study(&place, "--report").done();
    let table = String::from_utf8(place.read("out/table.md")).unwrap();
    assert!(table.lines().count() > 5, "{table}");
    assert_eq!(std::fs::read_to_string(docs.join("convergence/table.md")).unwrap(), table);
    assert!(std::fs::read_to_string(docs.join("convergence.md")).unwrap().contains(&table));
}
