//! Loss of power: what was not synced may be gone, and names may be there whose files are not.
//!
//! A run notes every change that it makes to the disk. The test then plays the notes up to each place and cuts the power
//! there: a file that was not synced is empty; of the changes to the names in a folder since it was synced, the first few
//! have come to the disk and the others have not: none, one, two, … all of them, in every folder alike.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use brigade_pipeline::Checkpoint;

use crate::common::command::Place;
use crate::support::within_limit;

const RUN: &str = "--epochs 3 --checkpoint-every 2";

/// One noted change.
#[derive(Debug, Clone)]
struct Note {
    what: String,
    path: PathBuf,
    to: PathBuf,
}

/// A file or folder by its number, as the notes make them.
type Node = usize;

#[derive(Debug, Clone)]
enum Change {
    Link(String, Node),
    Unlink(String),
    /// One change: both names come to the disk together.
    Rename(String, String, Node),
}

/// What a power cut can leave of one file or folder.
#[derive(Debug, Default)]
struct State {
    folder: bool,
    /// A file's content, or a folder's names, as they were synced.
    synced: bool,
    names: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    since: Vec<Change>,
}

/// The disk as the process sees it, and as the power cut will leave it.
struct Disk {
    nodes: Vec<State>,
    root: PathBuf,
}

impl Disk {
    fn new(root: &Path) -> Self {
        let root_node = State { folder: true, synced: true, ..State::default() };
        Self { nodes: vec![root_node], root: root.to_owned() }
    }

    fn find(&self, path: &Path) -> Option<Node> {
        let inside = path.strip_prefix(&self.root).unwrap();
        inside.iter().try_fold(0, |node, name| self.nodes[node].names.get(name.to_str().unwrap()).copied())
    }

    fn place(&self, path: &Path) -> (Node, String) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (self.find(path.parent().unwrap()).unwrap(), name)
    }

    fn change(&mut self, folder: Node, change: Change) {
        let state = &mut self.nodes[folder];
        apply(&mut state.names, &change);
        state.since.push(change);
    }

    fn play(&mut self, note: &Note) {
        match note.what.as_str() {
            "folder" | "file" => {
                let (folder, name) = self.place(&note.path);
                self.nodes.push(State { folder: note.what == "folder", ..State::default() });
                let node = self.nodes.len() - 1;
                self.change(folder, Change::Link(name, node));
            }
            "sync" => {
                let node = self.find(&note.path).unwrap();
                let state = &mut self.nodes[node];
                state.synced = true;
                state.durable = state.names.clone();
                state.since.clear();
            }
            "rename" => {
                let node = self.find(&note.path).unwrap();
                let ((from, old), (to, new)) = (self.place(&note.path), self.place(&note.to));
                assert_eq!(from, to, "names change within a folder, where one change is all or nothing");
                self.change(from, Change::Rename(old, new, node));
            }
            "remove" => {
                let (folder, name) = self.place(&note.path);
                self.change(folder, Change::Unlink(name));
            }
            other => assert_eq!(other, "published"),
        }
    }

    /// Writes down what is left where of each folder's unsynced changes the first `kept` have come to the disk.
    fn cut(&self, kept: usize, contents: &BTreeMap<Node, Vec<u8>>, to: &Path) {
        self.leave(0, kept, contents, to);
    }

    fn leave(&self, node: Node, kept: usize, contents: &BTreeMap<Node, Vec<u8>>, to: &Path) {
        let state = &self.nodes[node];
        if !state.folder {
            let whole = contents.get(&node).filter(|_| state.synced);
            std::fs::write(to, whole.map_or(&[][..], Vec::as_slice)).unwrap();
            return;
        }
        if !to.is_dir() {
            std::fs::create_dir(to).unwrap();
        }
        let mut names = state.durable.clone();
        state.since.iter().take(kept).for_each(|change| apply(&mut names, change));
        for (name, &inner) in &names {
            self.leave(inner, kept, contents, &to.join(name));
        }
    }
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    match change {
        Change::Link(name, node) => {
            names.insert(name.clone(), *node);
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
        Change::Rename(old, new, node) => {
            names.remove(old);
            names.insert(new.clone(), *node);
        }
    }
}

fn journal(path: &Path) -> Vec<Note> {
    let text = std::fs::read_to_string(path).unwrap();
    let note = |line: &str| {
        let mut parts = line.split('\t');
        let mut next = || parts.next().unwrap().to_owned();
        Note { what: next(), path: next().into(), to: next().into() }
    };
    text.lines().map(note).collect()
}

/// What each file of a finished run holds.
fn contents(disk: &Disk, node: Node, path: &Path, found: &mut BTreeMap<Node, Vec<u8>>) {
    for (name, &inner) in &disk.nodes[node].names {
        let path = path.join(name);
        if path.is_dir() {
            contents(disk, inner, &path, found);
        } else if let Ok(bytes) = std::fs::read(&path) {
            found.insert(inner, bytes);
        }
    }
}

#[test]
fn row_19_the_power_goes_at_every_place_of_a_save() {
    let place = Place::new();
    let wanted = place.undisturbed(RUN);
    // The second run goes on in a directory that is there already.
    for steps in [5, 9] {
        let resume = if steps == 5 { "" } else { "--resume" };
        let line = format!("train --config @small.toml {RUN} --steps {steps} --checkpoint-dir @deep/ck {resume}");
        let mut command = place.command(&line);
        command.env("BRIGADE_DISK_JOURNAL", place.path("journal"));
        within_limit(command).done();
    }
    let notes = journal(&place.path("journal"));
    let root = place.path("");
    let mut whole = Disk::new(&root);
    notes.iter().for_each(|note| whole.play(note));
    let mut found = BTreeMap::new();
    contents(&whole, 0, &root, &mut found);

    let mut disk = Disk::new(&root);
    let mut published = 0;
    let mut cuts = 0;
    for (position, note) in notes.iter().enumerate() {
        disk.play(note);
        if note.what == "published" {
            published = step(&note.path);
        }
        let most = disk.nodes.iter().map(|state| state.since.len()).max().unwrap();
        for kept in 0..=most {
            cuts += 1;
            let left = tempfile::tempdir().unwrap();
            disk.cut(kept, &found, left.path());
            let case = format!("after change {position} ({note:?}) with {kept} of the unsynced ones");
            goes_on_from(&place, left.path(), published, &case, (cuts % 97 == 0).then_some(&wanted));
        }
    }
    assert!(published == 9 && cuts > 100, "{cuts} cuts up to step {published}");
}

fn step(path: &Path) -> usize {
    path.file_name().unwrap().to_str().unwrap().strip_prefix("step-").unwrap().parse().unwrap()
}

/// What was published verifies; and a run that goes on from what is left comes to the same weights.
#[track_caller]
fn goes_on_from(place: &Place, left: &Path, published: usize, case: &str, wanted: Option<&Vec<u8>>) {
    let directory = left.join("deep/ck");
    if published > 0 {
        let newest = Checkpoint::open(&directory).unwrap_or_else(|error| panic!("{case}: {error}"));
        assert!(step(&newest.path) >= published, "{case}: {} after step {published}", newest.path.display());
    }
    let Some(wanted) = wanted else { return };
    let resume = if published > 0 { "--resume" } else { "" };
    let line = format!("train --config @small.toml {RUN} --checkpoint-dir {} {resume}", directory.display());
    within_limit(place.command(&format!("{line} --save @resumed"))).done();
    assert!(&place.read("resumed") == wanted, "{case}: the resumed run came to other weights");
}
