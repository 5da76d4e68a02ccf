//! Rows of checkpoints that one run leaves to another: links, foreign names, the directory's lock, retention, resuming.

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::common::command::{Outcome, Place};
use crate::support::{newest_verifies, steps_in, within_limit};

const CHECKPOINT: i32 = 4;
const IN_USE: i32 = 10;
const NEWEST: &str = "ck/step-00000006";

/// Checkpoints of the small model after steps 3 and 6 in `ck`.
fn two_checkpoints() -> Place {
    let place = Place::new();
    place.small("train", "--epochs 2 --checkpoint-dir @ck").done();
    place
}

#[test]
fn row_03_a_header_length_beyond_the_file() {
    let place = Place::new();
    for length in [u64::MAX, 1 << 40, 200_000_000, 65] {
        // The file is 64 GiB long and holds next to nothing: reading it whole would take minutes and all memory.
        let path = place.path("model.safetensors");
        std::fs::write(&path, [&length.to_le_bytes()[..], b"{}"].concat()).unwrap();
        if length != 65 {
            std::fs::File::options().write(true).open(&path).unwrap().set_len(64 << 30).unwrap();
        }
        let started = Instant::now();
        let outcome = place.small("eval", "--checkpoint @model.safetensors");
        outcome.refused(CHECKPOINT, &["model.safetensors", "header", &length.to_string()]);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?} for {length}", started.elapsed());
    }
}

/// A safetensors file with this header and as many bytes of data.
fn file(header: &[u8], data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header, &vec![0; data]].concat()
}

#[test]
fn row_04_header_fields_that_cannot_be() {
    let place = Place::new();
    let entry = |name: &str, shape: &str, from: u64, to: u64| {
        format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let twice = format!("{{{},{}}}", entry("a", "[2]", 0, 8), entry("a", "[2]", 8, 16));
    let overlap = format!("{{{},{}}}", entry("a", "[2]", 0, 8), entry("b", "[2]", 4, 12));
    let gap = format!("{{{},{}}}", entry("a", "[2]", 0, 8), entry("b", "[2]", 12, 20));
    let trailing = format!("{{{}}}", entry("a", "[2]", 0, 8));
    let overflow = format!("{{{}}}", entry("a", "[4294967296,4294967296,4]", 0, 8));
    // The shape fits the offsets, and with the header before them the end is beyond 2^64.
    let beyond = format!("{{{}}}", entry("a", "[4611686018427387903]", 0, u64::MAX - 3));
    let cases: [(&str, Vec<u8>, &str); 7] = [
        ("twice", file(twice.as_bytes(), 16), "`a`"),
        ("overlap", file(overlap.as_bytes(), 12), "`b`"),
        ("gap", file(gap.as_bytes(), 20), "`b`"),
        ("trailing", file(trailing.as_bytes(), 9), "1 bytes"),
        ("overflow", file(overflow.as_bytes(), 8), "`a`"),
        ("beyond", file(beyond.as_bytes(), 8), "`a`"),
        ("text", file(b"{\"\xff\":1}", 0), "UTF-8"),
    ];
    for (case, bytes, word) in cases {
        place.write("model.safetensors", &bytes);
        let outcome = place.small("eval", "--checkpoint @model.safetensors");
        assert!(outcome.error.contains(word), "{case}: {outcome:?}");
        outcome.refused(CHECKPOINT, &["model.safetensors"]);
    }
}

#[test]
fn row_04_a_hundred_thousand_entries() {
    let place = Place::new();
    let entries: Vec<_> =
        (0..100_000).map(|i| format!(r#""t{i}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#)).collect();
    place.write("model.safetensors", &file(format!("{{{}}}", entries.join(",")).as_bytes(), 0));
    let started = Instant::now();
    let outcome = place.small("eval", "--checkpoint @model.safetensors");
    outcome.refused(CHECKPOINT, &["model.safetensors", "tensors"]);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[test]
fn row_06_a_manifest_names_a_file_elsewhere() {
    for name in ["../weights.safetensors", "/etc/hostname", "other.safetensors"] {
        let place = two_checkpoints();
        let manifest = format!("{NEWEST}/manifest.json");
        let whole = String::from_utf8(place.read(&manifest)).unwrap();
        let edited = whole.replacen("\"weights.safetensors\"", &format!("\"{name}\""), 1);
        assert_ne!(edited, whole);
        place.write_manifest(&manifest, serde_json::from_str(&edited).unwrap());
        place
            .small("eval", &format!("--checkpoint @{NEWEST}"))
            .refused(CHECKPOINT, &["manifest.json", &format!("`{name}`"), "its own folder"]);
        newest_verifies(&place.path("ck"));
    }
}

#[cfg(unix)]
#[test]
fn row_06_links_in_a_checkpoint_are_not_followed() {
    for file in ["manifest.json", "weights.safetensors", "momentum.safetensors"] {
        let place = two_checkpoints();
        let (inside, outside) = (place.path(&format!("{NEWEST}/{file}")), place.path("outside"));
        std::fs::rename(&inside, &outside).unwrap();
        std::os::unix::fs::symlink(&outside, &inside).unwrap();
        let outcome = place.small("eval", &format!("--checkpoint @{NEWEST}"));
        outcome.refused(CHECKPOINT, &[file, "symbolic link"]);
        newest_verifies(&place.path("ck"));
    }
    // A whole checkpoint that lies elsewhere is none of this directory.
    let place = two_checkpoints();
    std::fs::rename(place.path(NEWEST), place.path("outside")).unwrap();
    std::os::unix::fs::symlink(place.path("outside"), place.path(NEWEST)).unwrap();
    let outcome = place.small("train", "--epochs 2 --checkpoint-dir @ck --resume").done();
    assert!(outcome.error.contains("at step 3"), "{outcome:?}");
}

/// A manifest of a terabyte of holes, and pipes that nobody writes to.
#[cfg(unix)]
#[test]
fn row_06_what_is_no_file_of_a_checkpoint_is_not_read() {
    let place = two_checkpoints();
    let manifest = place.path(&format!("{NEWEST}/manifest.json"));
    std::fs::File::options().write(true).open(&manifest).unwrap().set_len(1 << 40).unwrap();
    let eval = format!("eval --config @small.toml --checkpoint @{NEWEST}");
    within_limit(place.command(&eval)).refused(CHECKPOINT, &["manifest.json", "larger than"]);
    for (file, word) in
        [("weights.safetensors", "weights.safetensors: is not a file"), ("manifest.json", "has no checkpoint")]
    {
        let place = two_checkpoints();
        let path = place.path(&format!("{NEWEST}/{file}"));
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        within_limit(place.command(&eval)).refused(CHECKPOINT, &[word]);
        newest_verifies(&place.path("ck"));
    }
}

#[test]
fn row_22_two_runs_in_one_directory() {
    let place = Place::new();
    let endless = "train --config @small.toml --epochs 100000 --checkpoint-dir @ck --events @events";
    let mut first = place.command(endless).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !std::fs::read_to_string(place.path("events")).is_ok_and(|text| text.contains("\"checkpoint\"")) {
        assert!(Instant::now() < deadline, "the first run saved nothing");
        std::thread::sleep(Duration::from_millis(5));
    }
    let holder = format!("process {} on ", first.id());
    for flags in ["", "--resume"] {
        let second = place.small("train", &format!("--checkpoint-dir @ck {flags}"));
        second.refused(IN_USE, &["ck", "in use", &holder, "another directory"]);
    }
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock of a run that was killed is stale.
    newest_verifies(&place.path("ck"));
    place.small("train", "--epochs 1 --checkpoint-dir @ck --resume").done();
}

#[test]
fn row_23_the_last_and_the_best_are_kept() {
    let place = Place::new();
    let end = place.small("train", "--epochs 6 --checkpoint-dir @ck --keep 2 --events @events").done();
    assert_eq!(end.status, 0);
    let accuracy = |event: &serde_json::Value| event["test_accuracy"].as_f64();
    let epochs: Vec<f64> =
        place.events("events").iter().filter(|event| event["event"] == "epoch").filter_map(accuracy).collect();
    let most = epochs.iter().copied().fold(0.0, f64::max);
    let best = epochs.iter().rposition(|&one| one == most).unwrap();
    let mut wanted: Vec<_> = [best, 4, 5].map(|epoch| format!("step-{:08}", 3 * (epoch + 1))).into();
    wanted.sort();
    wanted.dedup();
    assert_eq!(steps_in(&place, "ck"), wanted);
}

#[test]
fn row_23_folders_of_somebody_else_are_neither_counted_nor_removed() {
    let place = two_checkpoints();
    let notes = ["step-by-step-notes", "step-3", "step-00000003-backup", ".step-by-step.partial", ".step-3.replaced"];
    for name in notes {
        let folder = place.path(&format!("ck/{name}"));
        std::fs::create_dir(&folder).unwrap();
        for file in std::fs::read_dir(place.path("ck/step-00000006")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
    }
    let outcome = place.small("train", "--epochs 3 --checkpoint-dir @ck --keep 1 --resume").done();
    let newest = place.text(NEWEST);
    assert!(outcome.error.contains(&format!("resuming from {newest} at step 6")), "{outcome:?}");
    let left = steps_in(&place, "ck");
    assert!(notes.iter().all(|name| left.contains(&(*name).to_owned())), "{left:?}");
    assert!(left.len() <= notes.len() + 2, "{left:?}");
}

#[test]
fn row_23_the_newest_that_verifies_is_never_removed() {
    // Writes are one to try the directory, then weights, momentum and manifest of each save: the eighth is the third
    // save's weights, which the disk damages.
    let place = Place::new();
    let run = "--epochs 3 --keep 1";
    let wanted = place.undisturbed(run);
    place.train_with("storage.write@8:flip", &format!("{run} --checkpoint-dir @ck")).done();
    assert!(steps_in(&place, "ck").contains(&"step-00000009".to_owned()));
    let outcome = place.small("eval", "--checkpoint @ck/step-00000009");
    outcome.refused(CHECKPOINT, &["fc2.weight", "damaged"]);
    newest_verifies(&place.path("ck"));
    place.resumes_to(&wanted, "ck", run);
}

/// Steps of an epoch of the small run.
const EPOCH: usize = 3;

/// Stops a run at each of its first checkpoints, most of them within an epoch, and resumes it: `BRIGADE_RESUMES` of them,
/// 9 by default. `schedule` saves every `every` steps.
fn resumes_in_the_middle(schedule: &str, stages: usize, every: usize) {
    let stops = std::env::var("BRIGADE_RESUMES").ok().map_or(9, |stops| stops.parse().unwrap());
    let place = Place::new();
    let epochs = ((stops + 1) * every).div_ceil(EPOCH);
    let run = format!(
        "train --config @small.toml --schedule {schedule} --stages {stages} --epochs {epochs} --checkpoint-every {every}"
    );
    within_limit(place.command(&format!("{run} --checkpoint-dir @whole --save @a"))).done();
    let whole = place.read("a");
    for stop in (1..=stops).map(|stop| stop * every) {
        let directory = format!("@ck{stop}");
        within_limit(place.command(&format!("{run} --checkpoint-dir {directory} --steps {stop}"))).done();
        let outcome: Outcome =
            within_limit(place.command(&format!("{run} --checkpoint-dir {directory} --resume --save @b")));
        assert!(outcome.done().error.contains(&format!("at step {stop}")));
        assert!(
            place.read("b") == whole,
            "{schedule} over {stages} stages, resumed at step {stop}, came to other weights"
        );
        std::fs::remove_dir_all(place.path(&directory[1..])).unwrap();
    }
    eprintln!("{schedule} over {stages} stages: {stops} of {stops} resumes came to the same bits");
}

#[test]
fn row_43_resumes_within_epochs_with_layer_block_wise() {
    resumes_in_the_middle("layer-block-wise", 2, 2);
    resumes_in_the_middle("layer-block-wise", 4, 1);
}

#[test]
fn row_43_resumes_within_epochs_with_1f1b() {
    resumes_in_the_middle("1f1b", 2, 1);
    resumes_in_the_middle("1f1b", 4, 2);
}

#[test]
fn row_43_resumes_within_epochs_with_1f1b_async() {
    resumes_in_the_middle("1f1b-async", 3, 5);
}
