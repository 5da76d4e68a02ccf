//! The header of a safetensors file, held against the file before any tensor is read: eight bytes of length, little-endian,
//! then JSON that names each tensor's type, shape and place. What is absurd is refused before memory is taken for it.

use std::fmt;
use std::io::Read;

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, de};

/// Bytes of a header at most: some 100 for each tensor.
const MOST_BYTES: u64 = 8 << 20;
/// Tensors of a file at most.
const MOST_TENSORS: usize = 1 << 16;

/// A tensor as the header describes it.
#[derive(Debug, Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Whether the header of `file`, `length` bytes long in all, describes exactly what follows it; else why not.
pub(super) fn check(file: &mut impl Read, length: u64) -> Result<(), String> {
    let header = read(file, length)?;
    let text = std::str::from_utf8(&header).map_err(|error| format!("its header is not UTF-8: {error}"))?;
    let Entries(mut entries) =
        serde_json::from_str(text).map_err(|error| format!("its header cannot be read: {error}"))?;
    entries.sort_by_key(|(_, entry)| entry.data_offsets);
    let begin = 8 + header.len() as u64;
    let (mut end, mut wanted) = (0, begin);
    for (name, entry) in &entries {
        end = follows(name, entry, end)?;
        wanted = begin.checked_add(end).ok_or_else(|| {
            format!("data_offsets of tensor `{name}` end at {end}, which is beyond the end of any file")
        })?;
    }
    match length.checked_sub(wanted) {
        Some(0) => Ok(()),
        Some(more) => Err(format!("{more} bytes come after the last tensor, at byte {wanted}")),
        None => Err(format!("is cut short: its header wants {wanted} bytes, and {length} bytes were found")),
    }
}

fn read(file: &mut impl Read, length: u64) -> Result<Vec<u8>, String> {
    let mut size = [0; 8];
    let unreadable = |error: std::io::Error| format!("its header cannot be read ({length} bytes found): {error}");
    file.read_exact(&mut size).map_err(unreadable)?;
    let size = u64::from_le_bytes(size);
    if size > MOST_BYTES || size > length.saturating_sub(8) {
        return Err(format!(
            "its header should have {size} bytes; {length} bytes were found in all, and a header has at most {MOST_BYTES}"
        ));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header).map_err(unreadable)?;
    Ok(header)
}

/// Whether a tensor begins where the one before it ends, and is as long as its shape says; where it ends.
fn follows(name: &str, entry: &Entry, end: u64) -> Result<u64, String> {
    let Entry { dtype, shape, data_offsets: (from, to) } = entry;
    if *from != end {
        let how = if *from < end { "overlaps the tensor before it" } else { "leaves a gap before it" };
        return Err(format!("data_offsets of tensor `{name}`: {from} {how}, which ends at {end}"));
    }
    // Of another type there is no more to say here: such a tensor is refused when it is read.
    let size = if dtype == "F32" { 4 } else { return Ok((*to).max(end)) };
    let bytes = shape.iter().try_fold(size, |bytes: u64, &side| bytes.checked_mul(side));
    match (bytes, to.checked_sub(*from)) {
        (Some(wanted), Some(found)) if wanted == found => Ok(*to),
        (Some(wanted), Some(found)) => {
            Err(format!("shape of tensor `{name}` wants {wanted} bytes, and its data_offsets hold {found}"))
        }
        (None, _) => Err(format!("shape of tensor `{name}` is too large: {shape:?}")),
        (_, None) => Err(format!("data_offsets of tensor `{name}` end before they begin: {from} to {to}")),
    }
}

/// The tensors in the order of the file, none twice.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collect)
    }
}

struct Collect;

impl<'de> Visitor<'de> for Collect {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a key for each tensor")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries, M::Error> {
        let mut entries = Vec::new();
        let mut names = std::collections::HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.clone()) {
                return Err(M::Error::custom(format!("key `{name}` is given twice")));
            }
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if entries.len() == MOST_TENSORS {
                return Err(de::Error::custom(format!("more than {MOST_TENSORS} tensors")));
            }
            let entry = map.next_value().map_err(|error| M::Error::custom(format!("tensor `{name}`: {error}")))?;
            entries.push((name, entry));
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(header: &str, length: u64) -> String {
        let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        check(&mut &*file, length).unwrap_err()
    }

    #[test]
    fn a_tensor_that_ends_beyond_any_file_is_named() {
        let entry = r#"{"dtype":"F32","shape":[4611686018427387903],"data_offsets":[0,18446744073709551612]}"#;
        let message = refused(&format!(r#"{{"huge":{entry}}}"#), 1 << 20);
        assert!(message.contains("`huge`") && message.contains("beyond the end of any file"), "{message}");
    }

    #[test]
    fn a_file_that_says_it_is_empty_and_is_not_is_refused() {
        // So do the files of /proc.
        assert!(refused("{}", 0).contains("0 bytes were found"));
    }
}
