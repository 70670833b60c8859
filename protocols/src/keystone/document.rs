//! What is sent to Keystone, and what it answers. Pure.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    account::{Domain, KeystoneAccount, Named, Proof},
    catalogue::Catalogue,
};

/// What Keystone tells of a token.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct TokenDocument {
    expires_at: String,
    issued_at: String,
    /// The project it is for.
    #[serde(default)]
    pub project: Option<Project>,
    /// Whose it is.
    pub user: User,
    /// What its user may do there.
    #[serde(default)]
    pub roles: Vec<Role>,
    /// Where services are.
    #[serde(default)]
    pub catalog: Catalogue,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Project {
    pub id: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct User {
    pub name: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Role {
    pub name: String,
}

impl TokenDocument {
    /// The document in an answer's body; none where it is not one.
    pub fn parse(body: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Answer {
            token: TokenDocument,
        }
        serde_json::from_slice::<Answer>(body).ok().map(|answer| answer.token)
    }

    /// How long the token lives from now on, by Keystone's own clock: ours may be another. `date` is what that clock
    /// showed, as the answer's header, in whole seconds; a token that is younger than that was just issued.
    pub fn lives(&self, date: Option<&str>) -> Option<Duration> {
        let end = humantime::parse_rfc3339(&self.expires_at).ok()?;
        let issued = humantime::parse_rfc3339(&self.issued_at).ok()?;
        let shown = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Some(end.duration_since(shown.map_or(issued, |shown| shown.max(issued))).unwrap_or_default())
    }
}

/// The request for a token.
pub(crate) fn request(account: &KeystoneAccount) -> Value {
    let (method, proof) = match &account.proof {
        Proof::Password { user, password } => {
            let mut user = named(user);
            user.insert("password".into(), password.reveal().into());
            ("password", json!({ "user": user }))
        }
        Proof::ApplicationCredential { name, user, secret } => {
            let mut proof = match user {
                None => json!({ "id": name }),
                Some(user) => json!({ "name": name, "user": named(user) }),
            };
            proof["secret"] = secret.reveal().into();
            ("application_credential", proof)
        }
        Proof::Token(token) => ("token", json!({ "id": token.reveal() })),
    };
    let mut auth = json!({ "identity": { "methods": [method], method: proof } });
    if let Some(project) = &account.project {
        auth["scope"] = json!({ "project": named(project) });
    }
    json!({ "auth": auth })
}

fn named(who: &Named) -> Map<String, Value> {
    let document = match who {
        Named::Id(id) => json!({ "id": id }),
        Named::Name { name, domain: Domain::Id(id) } => json!({ "name": name, "domain": { "id": id } }),
        Named::Name { name, domain: Domain::Name(domain) } => json!({ "name": name, "domain": { "name": domain } }),
    };
    match document {
        Value::Object(map) => map,
        _ => unreachable!("made as an object above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_life_is_told_by_keystones_own_clock() {
        let document = TokenDocument::parse(
            br#"{"token": {"expires_at": "2026-11-30T09:06:11.000000Z", "issued_at": "2026-11-30T08:06:11.500000Z",
                "user": {"name": "demo", "id": "1"}}}"#,
        )
        .unwrap();
        let lives = |date| document.lives(date);
        assert_eq!(lives(None), Some(Duration::from_millis(3_599_500)));
        assert_eq!(lives(Some("Mon, 30 Nov 2026 09:06:01 GMT")), Some(Duration::from_secs(10)));
        assert_eq!(lives(Some("Mon, 30 Nov 2026 10:00:00 GMT")), Some(Duration::ZERO));
        assert_eq!(lives(Some("now")), lives(None));
        assert!(TokenDocument::parse(b"{}").is_none());
    }
}
