//! Slack of each link: whether a transfer has a cycle of its own.

use std::fmt;
use std::str::FromStr;

/// Links that can have a slack of their own, at most.
const MOST: usize = 64;

/// For each link, from the first on, whether a transfer over it has a cycle to itself. Links behind the last one that is
/// given have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slack {
    bits: u64,
    links: usize,
}

impl Slack {
    /// Slack of `links` links, at most 64, the first one's in the lowest of `bits`.
    pub const fn from_bits(bits: u64, links: usize) -> Self {
        Self { bits, links: if links < MOST { links } else { MOST } }
    }

    /// Links that it speaks of.
    pub const fn links(self) -> usize {
        self.links
    }

    /// The slack of the links that are left where of the stages only those of `kept`, in order, go on: a link takes over
    /// from all those between its ends, and has a cycle to itself where one of them had.
    #[must_use]
    pub fn between(self, kept: &[usize]) -> Self {
        let mut left = Self { bits: 0, links: kept.len().saturating_sub(1).min(MOST) };
        for (link, ends) in kept.windows(2).enumerate().take(MOST) {
            let slack = (ends[0]..ends[1]).map(|link| self.of(link)).max().unwrap_or(0);
            left.bits |= (slack as u64) << link;
        }
        left
    }

    /// Cycles that a transfer over `link` has to itself: 0 or 1.
    pub const fn of(self, link: usize) -> usize {
        if link < self.links { (self.bits >> link & 1) as usize } else { 0 }
    }
}

impl FromStr for Slack {
    type Err = String;

    /// Reads `1,0,1`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut slack = Self::default();
        for word in text.split(',') {
            let bit = match word.trim() {
                "0" => 0,
                "1" => 1,
                other => return Err(format!("the slack of a link is 0 or 1, and `{other}` was found")),
            };
            if slack.links == MOST {
                return Err(format!("more than {MOST} links"));
            }
            slack.bits |= bit << slack.links;
            slack.links += 1;
        }
        Ok(slack)
    }
}

impl fmt::Display for Slack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = (0..self.links).map(|link| self.of(link).to_string()).collect();
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_lost_stages_go_with_them() {
        let between = |text: &str, kept: &[usize]| text.parse::<Slack>().unwrap().between(kept).to_string();
        // The first stage, one in the middle, the last one, two at once, all but one.
        assert_eq!(between("1,0,1", &[1, 2, 3]), "0,1");
        assert_eq!(between("1,0,0", &[0, 2, 3]), "1,0");
        assert_eq!(between("0,0,1", &[0, 1, 2]), "0,0");
        assert_eq!(between("0,0,1", &[0, 3]), "1");
        assert_eq!(between("1,0,1", &[2]), "");
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["0", "1", "1,0,1", "0,0,0,0,1"] {
            let slack: Slack = text.parse().unwrap();
            assert_eq!(slack.to_string(), text);
            assert_eq!(slack.links(), text.len().div_ceil(2));
        }
        let slack: Slack = "1,0,1".parse().unwrap();
        assert_eq!([0, 1, 2, 3, 200].map(|link| slack.of(link)), [1, 0, 1, 0, 0]);
        for wrong in ["", "2", "1,,0", "yes", "-1", &"1,".repeat(65)] {
            assert!(wrong.parse::<Slack>().is_err(), "{wrong}");
        }
    }
}
