//! What a run file's text needs besides its words: where a mistake is, and the key that was probably meant.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Deserializer};

use crate::failure::Failure;

/// A list, or its words in one string with commas between.
pub(super) fn one_or_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        One(String),
        Many(Vec<String>),
    }
    Ok(Some(match Written::deserialize(deserializer)? {
        Written::One(words) => words.split(',').map(ToOwned::to_owned).collect(),
        Written::Many(words) => words,
    }))
}

/// A run file of more bytes is none: it is a device, or another file that was named by mistake.
const LARGEST: u64 = 1 << 20;

/// The text of a run file.
pub(super) fn text_of(path: &Path) -> Result<String, Failure> {
    let failed = |what: String| Failure::usage(format!("run file {}: {what}", path.display()));
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(LARGEST + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > LARGEST {
        return Err(failed(format!("is larger than {LARGEST} bytes, which no run file is")));
    }
    Ok(text)
}

/// The line, from 1, on which a run file gives `key`.
pub(super) fn line_of(text: &str, key: &str) -> usize {
    let gives = |line: &str| line.trim_start().strip_prefix(key).is_some_and(|rest| rest.starts_with(['=', ' ', '\t']));
    1 + text.lines().position(gives).unwrap_or(0)
}

/// File, line, what is wrong, and the key that was probably meant.
pub(super) fn run_file_message(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
    let place = format!("run file {}, line {line}", path.display());
    match unknown_key(error.message()) {
        Some((key, nearest)) => format!("{place}: there is no key `{key}`; did you mean `{nearest}`?"),
        None => {
            let written = text.lines().nth(line - 1).unwrap_or_default().trim();
            format!("{place}, `{written}`: {}", error.message())
        }
    }
}

/// The key that is unknown, and the nearest of those that serde lists behind it.
fn unknown_key(message: &str) -> Option<(&str, &str)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let key = quoted.next()?;
    let nearest = quoted.min_by_key(|known| edit_distance(key, known))?;
    Some((key, nearest))
}

/// Insertions, deletions and replacements between two words (Levenshtein).
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
