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

    /// Refuses a transfer from or to a root that is not the caller's; `operator`: whether the caller may use all. What is
    /// not a file, or lies in no root, is not judged here.
    pub fn check(
        &self,
        source: &ObjectUrl,
        destination: &ObjectUrl,
        caller: &str,
        operator: bool,
        has_tokens: bool,
    ) -> Result<(), Problem> {
        if operator {
            return Ok(());
        }
        for (field, url) in [("source_url", source), ("destination_url", destination)] {
            let Some(root) = self.root_of(url) else { continue };
            let allowed = match self.owners.get(root.path()) {
                Some(owner) => owner == caller,
                None => !has_tokens,
            };
            if !allowed {
                let detail = format!(
                    "{} lies in a root that is not {caller}'s; ask the operator for one that is (--root PATH:rw:{caller})",
                    url.redacted(),
                );
                return Err(Problem::new(ProblemCode::Forbidden, detail).at(field));
            }
        }
        Ok(())
    }

    fn root_of(&self, url: &ObjectUrl) -> Option<&Root> {
        (url.scheme() == "file").then(|| self.roots.root_of(url).ok()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use staccato_protocols::http::networks::Networks;

    use super::*;
    use crate::{config::registry, model::CreateRequest};

    #[test]
    fn roots_are_for_their_owners_and_the_longest_one_decides() {
        let roots: Vec<OwnedRoot> =
            ["/srv", "/srv/alice:rw:alice", "/srv/alice/shared:ro:bob"].map(|text| text.parse().unwrap()).into();
        let policy = Policy::new(&roots);
        let registry = registry(&roots, true, Networks::any());
        let allowed = |source: &str, destination: &str, owner: &str, operator: bool, has_tokens: bool| {
            let json = json!({"source_url": source, "destination_url": destination});
            let request = CreateRequest::from_json(&json, &registry).unwrap();
            let judged = policy.check(&request.source_url, &request.destination_url, owner, operator, has_tokens);
            judged.map_err(|problem| problem.field.unwrap())
        };
        let (source, destination) = (Err("source_url".to_owned()), Err("destination_url".to_owned()));
        // To a root that is not bound: anybody's until there are tokens.
        assert_eq!(allowed("zero:///1", "file:///srv/x", "alice", false, false), Ok(()));
        assert_eq!(allowed("zero:///1", "file:///srv/x", "alice", false, true), destination);
        assert_eq!(allowed("zero:///1", "file:///srv/x", "alice", true, true), Ok(()));
        // To a bound one: its owner's, with tokens or without.
        assert_eq!(allowed("zero:///1", "file:///srv/alice/x", "alice", false, true), Ok(()));
        assert_eq!(allowed("zero:///1", "file:///srv/alice/x", "bob", false, false), destination);
        assert_eq!(allowed("zero:///1", "file:///srv/alice/x", "bob", true, false), Ok(()));
        // From one that lies in another.
        assert_eq!(allowed("file:///srv/alice/shared/x", "null:///", "bob", false, true), Ok(()));
        assert_eq!(allowed("file:///srv/alice/shared/x", "null:///", "alice", false, true), source);
        assert_eq!(allowed("file:///srv/%61lice/shared/x", "null:///", "alice", false, true), source);
        assert_eq!(allowed("zero:///1", "null:///", "mallory", false, true), Ok(()));
    }
}
