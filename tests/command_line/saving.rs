//! Where `train` writes: places that cannot be written, links, pipes, names that are no Unicode.

use super::common::command::{Outcome, Place};
use super::{DEVICE, STORAGE, USAGE, train};

#[test]
fn row_21_places_that_cannot_be_written_are_refused() {
    // A path below a regular file cannot be made by any user, root included.
    for flag in ["--save", "--checkpoint-dir", "--events"] {
        let outcome = train(&format!("{flag} @small.toml/x --steps 1"));
        let outcome = outcome.refused(STORAGE, &["small.toml/x", "choose another place"]);
        assert!(!outcome.error.contains("step 1"), "{outcome:?}");
    }
}

#[test]
fn a_name_to_save_under_leaves_what_is_there_until_the_end() {
    let place = Place::new();
    place.write("kept", b"kept");
    place.small("train", "--save @kept --devices none-such").refused(DEVICE, &["none-such"]);
    assert_eq!(place.read("kept"), b"kept");
    place.small("train", "--save @new --devices none-such").refused(DEVICE, &["none-such"]);
    assert!(!place.path("new").exists());
}

#[test]
fn row_21_a_partial_file_that_cannot_be_made_is_found_before_the_first_step() {
    let place = Place::new();
    // Nobody, not even root, can write a file over a folder.
    std::fs::create_dir(place.path("weights.partial")).unwrap();
    for flag in ["--save", "--timeline"] {
        let outcome = place.small("train", &format!("{flag} @weights --events @events"));
        outcome.refused(STORAGE, &["weights", "choose another place"]);
        assert!(!place.path("events").exists(), "{flag}: the run began");
    }
    place.small("train", "--save @small.toml/ --events @events").refused(STORAGE, &["small.toml"]);
    assert!(!place.path("events").exists(), "the run began");
}

/// Files that flags name, in whatever spelling, before any of them is there.
#[test]
fn two_outputs_in_one_file_are_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("sub")).unwrap();
    for (flags, words) in [
        ("--save w --timeline w", ["--save and --timeline", "/w;"]),
        ("--save w --events ./w", ["--save and --events", "/w;"]),
        ("--events w --timeline @w", ["--events and --timeline", "/w;"]),
        ("--save w --events sub/../w", ["--save and --events", "/w;"]),
        ("--save new/w --events ./new/w", ["--save and --events", "/w;"]),
        // What is saved is written beside its place first.
        ("--save w --events w.partial", ["--save and --events", "/w.partial;"]),
        ("--save ck/step-00000003/weights.safetensors", ["--save ck/step-00000003", "place of a checkpoint"]),
        ("--events ck/.lock", ["--events ck/.lock", "place of a checkpoint"]),
    ] {
        let line = format!("train --config @small.toml --checkpoint-dir ck {flags}");
        let outcome: Outcome = place.command(&line).current_dir(place.path("")).output().unwrap().into();
        outcome.refused(USAGE, &words);
        assert!(!place.path("w").exists() && !place.path("ck").exists(), "{flags}: the run began");
    }
    place.small("train", "--checkpoint-dir @ck --save @ck/weights --events @ck/events --timeline @w").done();
}

#[cfg(unix)]
mod links {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    /// The weights of the small run.
    fn wanted(place: &Place) -> Vec<u8> {
        place.small("train", "--save @plain").done();
        place.read("plain")
    }

    fn is_link(place: &Place, name: &str) -> bool {
        place.path(name).symlink_metadata().unwrap().is_symlink()
    }

    #[test]
    fn a_file_behind_a_link_is_written_whole_and_the_link_stays() {
        let place = Place::new();
        let wanted = wanted(&place);
        std::fs::create_dir(place.path("there")).unwrap();
        place.write("there/weights", &vec![b'x'; wanted.len() + 1000]);
        symlink("there/weights", place.path("first")).unwrap();
        symlink(place.path("first"), place.path("second")).unwrap();
        for flag in ["--save", "--timeline"] {
            place.small("train", &format!("{flag} @second")).done();
            assert!(is_link(&place, "second") && is_link(&place, "first"));
            let found = place.read("there/weights");
            match flag {
                "--save" => assert!(found == wanted, "{} bytes for {}", found.len(), wanted.len()),
                _ => assert!(found.ends_with(b"</svg>\n") || found.ends_with(b"</svg>"), "an old tail is left"),
            }
        }
        let names: Vec<_> =
            std::fs::read_dir(place.path("there")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["weights"]);
    }

    #[test]
    fn a_link_to_what_is_not_there_yet_stays_and_is_followed() {
        let place = Place::new();
        let wanted = wanted(&place);
        symlink("new", place.path("link")).unwrap();
        place.small("train", "--save @link --devices none-such").refused(DEVICE, &["none-such"]);
        assert!(is_link(&place, "link") && !place.path("new").exists());
        place.small("train", "--save @link").done();
        assert!(is_link(&place, "link") && place.read("new") == wanted);
        symlink("round", place.path("round")).unwrap();
        place.small("train", "--save @round").refused(STORAGE, &["round", "links"]);
    }

    #[test]
    fn links_under_names_of_the_programs_own_are_not_written_through() {
        for target in ["thesis", "nothing"] {
            let place = Place::new();
            std::fs::create_dir(place.path("ck")).unwrap();
            place.write("thesis", b"thesis");
            let link = |name: &str| symlink(place.path(target), place.path(name)).unwrap();
            let untouched =
                || assert!(place.read("thesis") == b"thesis" && !place.path("nothing").exists(), "{target}");
            link("ck/.lock");
            let outcome = place.small("train", "--checkpoint-dir @ck --events @events");
            outcome.refused(STORAGE, &["ck/.lock", "symbolic link", "remove it"]);
            assert!(!place.path("events").exists(), "the run began");
            untouched();
            std::fs::remove_file(place.path("ck/.lock")).unwrap();
            // What is only there for a moment takes the link's place.
            link("ck/.probe");
            link("ck/.probe.partial");
            place.small("train", "--checkpoint-dir @ck").done();
            untouched();
            link("weights.partial");
            place.small("train", "--save @weights").refused(STORAGE, &["weights", "symbolic link"]);
            untouched();
        }
    }

    #[test]
    fn two_outputs_in_one_file_are_refused_behind_links() {
        let place = Place::new();
        symlink("w", place.path("link")).unwrap();
        symlink(place.path(""), place.path("here")).unwrap();
        for flags in ["--save @w --events @link", "--save @here/w --timeline @link"] {
            place.small("train", flags).refused(USAGE, &["both write", "/w;"]);
            assert!(!place.path("w").exists(), "the run began");
        }
        place.small("train", "--save /dev/null --timeline /dev/null").done();
    }

    #[test]
    fn pipes_and_devices_are_written_as_they_are() {
        let place = Place::new();
        let wanted = wanted(&place);
        place.small("train", "--save /dev/null").done();
        assert!(!std::fs::symlink_metadata("/dev/null").unwrap().is_file());
        let output = place.command("train --config @small.toml --save /dev/stdout").output().unwrap();
        assert!(output.status.success() && output.stdout == wanted, "{output:?}");
        // Standard output may be a file as well.
        let out = std::fs::File::create(place.path("out")).unwrap();
        let mut command = place.command("train --config @small.toml --save /dev/stdout");
        assert!(command.stdout(out).status().unwrap().success() && place.read("out") == wanted);
        assert!(std::process::Command::new("mkfifo").arg(place.path("pipe")).status().unwrap().success());
        let pipe = place.path("pipe");
        let reader = std::thread::spawn(move || std::fs::read(pipe).unwrap());
        place.small("train", "--save @pipe").done();
        assert!(reader.join().unwrap() == wanted);
    }

    /// Names of files are bytes; those of JSON are Unicode.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_whose_name_is_no_unicode_is_written_and_read() {
        let place = Place::new();
        let name = place.path("").join(std::ffi::OsStr::from_bytes(b"ck\xff"));
        let mut train = place.command("train --config @small.toml --events @events --json --checkpoint-dir");
        Outcome::from(train.arg(&name).output().unwrap()).done();
        let saved = place.events("events").into_iter().find(|event| event["event"] == "checkpoint").unwrap();
        assert!(saved["path"].as_str().unwrap().ends_with("ck\u{fffd}/step-00000003"), "{saved}");
        let mut eval = place.command("eval --config @small.toml --json --checkpoint");
        let found = Outcome::from(eval.arg(&name).output().unwrap()).json();
        assert!(found["checkpoint"].as_str().unwrap().contains("ck\u{fffd}"), "{found}");
    }
}
