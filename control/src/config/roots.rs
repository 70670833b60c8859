//! Roots, and whose they are.

use std::{fmt, str::FromStr};

use staccato_protocols::file::Root;

use crate::model::token::check_owner;

/// A root, and the owner it is bound to; without one, see [`crate::policy`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRoot {
    /// The folder, and what may be done there.
    pub root: Root,
    /// Whose it is.
    pub owner: Option<String>,
}

/// `PATH`, `PATH:rw`, `PATH:ro`, `PATH:rw:OWNER` or `PATH:ro:OWNER`.
impl FromStr for OwnedRoot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |text: &str| text.parse::<Root>().map_err(|error| error.message);
        // A path may hold colons, and so may an owner: what is behind the last :rw: or :ro: is the owner.
        let bound = [":rw:", ":ro:"].iter().filter_map(|mark| text.rfind(mark)).max();
        let Some(at) = bound else { return Ok(Self { root: plain(text)?, owner: None }) };
        let (root, owner) = (&text[..at + 3], &text[at + 4..]);
        check_owner(owner).map_err(|why| format!("{text}: {why}"))?;
        Ok(Self { root: plain(root)?, owner: Some(owner.to_owned()) })
    }
}

impl fmt::Display for OwnedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.owner {
            Some(owner) => write!(f, "{}:{owner}", self.root),
            None => self.root.fmt(f),
        }
    }
}

impl From<Root> for OwnedRoot {
    fn from(root: Root) -> Self {
        Self { root, owner: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_written_as_they_are_read() {
        for (text, owner) in [
            ("/a:rw", None),
            ("/a:ro", None),
            ("/a:rw:alice", Some("alice")),
            ("/a:ro:uid:1000", Some("uid:1000")),
            ("/a:rw:b:ro:bob", Some("bob")),
        ] {
            let root: OwnedRoot = text.parse().unwrap();
            assert_eq!((root.to_string().as_str(), root.owner.as_deref()), (text, owner));
        }
        assert_eq!("/a:b".parse::<OwnedRoot>().unwrap().to_string(), "/a:b:rw");
        for text in ["a:rw:alice", "/a:rw:", "/a:rw:a b", "/a/../b"] {
            assert!(text.parse::<OwnedRoot>().is_err(), "{text}");
        }
    }
}
