//! Which roots an owner may use. Pure.
//!
//! A root is bound to an owner (`--root PATH:rw:OWNER`) or to nobody. A bound root is for its owner; one that is not
//! bound is for everybody as long as there are no tokens, because then all callers are users of this host. Whoever runs
//! the service may use all.

use std::{collections::HashMap, path::PathBuf};

use staccato_protocols::{
    ObjectUrl,
    file::{Root, Roots},
};

use crate::{
    config::OwnedRoot,
    model::{Problem, ProblemCode},
};

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    roots: Roots,
    owners: HashMap<PathBuf, String>,
}

impl Policy {
    /// The policy that these roots make.
    pub fn new(roots: &[OwnedRoot]) -> Self {
        let owner = |root: &OwnedRoot| Some((root.root.path().to_owned(), root.owner.clone()?));
        Self {
            roots: Roots::new(roots.iter().map(|root| root.root.clone()).collect()),
            owners: roots.iter().filter_map(owner).collect(),
        }
    }

    /// Whether a caller may use the root in which `url` lies; the refusal without the field at fault. What is not a file,
    /// or lies in no root, is not judged here.
    pub fn check(&self, url: &ObjectUrl, caller: &str, among_strangers: bool) -> Result<(), Problem> {
        let Some(root) = self.root_of(url) else { return Ok(()) };
        let allowed = match self.owners.get(root.path()) {
            Some(owner) => owner == caller,
            None => !among_strangers,
        };
        if allowed {
            return Ok(());
        }
        let detail = format!(
            "{} lies in a root that is not {caller}'s; ask the operator for one that is (--root PATH:rw:{caller})",
            url.redacted(),
        );
        Err(Problem::new(ProblemCode::Forbidden, detail))
    }

    fn root_of(&self, url: &ObjectUrl) -> Option<&Root> {
        (url.scheme() == "file").then(|| self.roots.root_of(url).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_for_their_owners_and_the_longest_one_decides() {
        let roots: Vec<OwnedRoot> =
            ["/srv", "/srv/alice:rw:alice", "/srv/alice/shared:ro:bob"].map(|text| text.parse().unwrap()).into();
        let policy = Policy::new(&roots);
        let allowed = |url: &str, owner: &str, has_tokens: bool| {
            policy.check(&ObjectUrl::parse(url).unwrap(), owner, has_tokens).is_ok()
        };
        // One that is not bound: anybody's until there are tokens.
        assert!(allowed("file:///srv/x", "alice", false) && !allowed("file:///srv/x", "alice", true));
        // A bound one: its owner's, with tokens or without.
        assert!(allowed("file:///srv/alice/x", "alice", true) && !allowed("file:///srv/alice/x", "bob", false));
        // One that lies in another, however it is spelt.
        assert!(allowed("file:///srv/alice/shared/x", "bob", true));
        for url in ["file:///srv/alice/shared/x", "file:///srv/%61lice/shared/x", "file:///srv//alice/shared/x"] {
            assert!(!allowed(url, "alice", true), "{url}");
        }
        assert!(allowed("null:///", "mallory", true) && allowed("file:///elsewhere", "mallory", true));
    }
}
