//! Row 20 before the run begins: what its checkpoints need is held against what the disk has.

use crate::common::command::Place;

const STORAGE: i32 = 7;

#[test]
fn row_20_a_disk_without_room_is_found_before_the_first_step() {
    let place = Place::new();
    let run = "--devices reference,reference --epochs 4 --events @events --checkpoint-dir @ck";
    // Not even one has room, whether all are kept or some.
    for keep in ["", "--keep 1"] {
        let outcome = place.train_with("disk.free@1:disk-full", &format!("{run} {keep}"));
        outcome.refused(STORAGE, &[&place.text("ck"), "has 0 bytes free", "need"]);
        assert!(place.read("events").is_empty(), "the run began");
    }
}

#[test]
fn row_20_room_for_all_that_are_kept_is_wanted_at_the_start() {
    // The true disk of this machine: more checkpoints than any has room for.
    let place = Place::new();
    let run = "--devices reference --epochs 1000000000000 --steps 3000000000000 --events @events --checkpoint-dir @ck";
    let kept = place.train_with("", &format!("{run} --keep 1000000000000"));
    kept.refused(STORAGE, &[&place.text("ck"), "1000000000000 more checkpoints of", "lower --keep"]);
    assert!(place.read("events").is_empty(), "the run began");
    // Where all are kept, it may be ended before the disk is full.
    let all = place.train_with("device0.submit@40:gone", run);
    assert!(all.error.contains("give --keep"), "{all:?}");
    assert!(!place.read("events").is_empty(), "the run did not begin: {all:?}");
    // The same directory has room for few.
    place.train_with("", "--devices reference --epochs 2 --keep 1 --checkpoint-dir @ck").done();
}

#[test]
fn a_checkpoint_takes_no_more_than_was_said() {
    let place = Place::new();
    place.train_with("", "--devices reference --checkpoint-dir @ck").done();
    let files = std::fs::read_dir(place.path("ck/step-00000003")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    let full = place.train_with("disk.free@1:disk-full", "--devices reference --checkpoint-dir @other");
    let said = full.error.split("a checkpoint needs ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    let said: u64 = said.parse().unwrap();
    assert!((bytes..bytes + (24 << 10)).contains(&said), "{bytes} bytes, and {said} were said");
}
