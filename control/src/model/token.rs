//! Tokens: what clients show that the operating system cannot name. Pure.

use std::{fmt, str::FromStr};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Timestamp;

/// What a token's text begins with, so that whoever finds one knows what it is.
const PREFIX: &str = "staccato_";
/// The same of an invitation.
const INVITATION_PREFIX: &str = "staccato_join_";
/// Random bytes of a token, written in hex.
pub const TOKEN_BYTES: usize = 32;
/// Longest name of an owner, in bytes.
pub const OWNER_BYTES_MAX: usize = 64;

/// What a caller may do; each scope includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// See its owner's transfers.
    Read,
    /// Submit transfers for its owner, and act on them.
    Submit,
    /// The same with everybody's, and with every root.
    Admin,
}

/// A token as the ledger keeps it: its text is nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What it is called; no secret.
    pub id: String,
    /// On whose behalf it acts.
    pub owner: String,
    /// What it allows.
    pub scope: TokenScope,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is nothing any more; none: never.
    pub expires_at: Option<Timestamp>,
}

/// A token as clients see it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Token)]
pub struct TokenDocument {
    /// What it is called; no secret.
    pub id: String,
    /// On whose behalf it acts.
    pub owner: String,
    /// What it allows.
    pub scope: TokenScope,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// From when on it is nothing any more (RFC 3339); null: never.
    pub expires_at: Option<String>,
    /// Its text, to be shown as `Authorization: Bearer TOKEN`; only in the answer that makes it, and kept nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Without its text: nobody logs that by mistake.
impl fmt::Debug for TokenDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenDocument").field("id", &self.id).field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Token {
    /// What clients see.
    pub fn document(&self) -> TokenDocument {
        TokenDocument {
            id: self.id.clone(),
            owner: self.owner.clone(),
            scope: self.scope,
            created_at: self.created_at.to_string(),
            expires_at: self.expires_at.map(|at| at.to_string()),
            token: None,
        }
    }

    /// Whether it is nothing any more.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// The text of a token that these random bytes make.
pub fn token_text(random: [u8; TOKEN_BYTES]) -> String {
    written(PREFIX, random)
}

/// The text of an invitation that these random bytes make.
pub fn invitation_text(random: [u8; TOKEN_BYTES]) -> String {
    written(INVITATION_PREFIX, random)
}

fn written(prefix: &str, random: [u8; TOKEN_BYTES]) -> String {
    format!("{prefix}{}", HEXLOWER.encode(&random))
}

/// Why `owner` cannot be an owner's name; nothing when it can.
pub fn check_owner(owner: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._@:+-".contains(&byte);
    if (1..=OWNER_BYTES_MAX).contains(&owner.len()) && owner.bytes().all(plain) {
        return Ok(());
    }
    Err(format!("{owner:?} is no name of an owner; use 1 to {OWNER_BYTES_MAX} letters, digits and . _ @ : + -"))
}

impl fmt::Display for TokenScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Submit => "submit",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for TokenScope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Read, Self::Submit, Self::Admin]
            .into_iter()
            .find(|scope| scope.to_string() == text)
            .ok_or_else(|| format!("{text:?} is no scope; use read, submit or admin"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_include_one_another_and_have_one_spelling() {
        assert!(TokenScope::Read < TokenScope::Submit && TokenScope::Submit < TokenScope::Admin);
        for scope in [TokenScope::Read, TokenScope::Submit, TokenScope::Admin] {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.to_string());
        }
        assert!("Admin".parse::<TokenScope>().is_err());
    }

    #[test]
    fn tokens_end_and_owners_have_plain_names() {
        let at = Timestamp::from_millis;
        let token = |expires_at| Token {
            id: "1".into(),
            owner: "a".into(),
            scope: TokenScope::Read,
            created_at: at(0),
            expires_at,
        };
        assert!(!token(None).is_expired(Timestamp::MAX));
        assert!(!token(Some(at(5))).is_expired(at(4)) && token(Some(at(5))).is_expired(at(5)));
        assert_eq!(token_text([0xA5; TOKEN_BYTES]).len(), PREFIX.len() + 2 * TOKEN_BYTES);
        for owner in ["alice", "uid:1000", "ci@example.org", "A_b-c+1"] {
            assert_eq!(check_owner(owner), Ok(()), "{owner}");
        }
        for owner in ["", "a b", "a/b", "ü", &"x".repeat(65)] {
            assert!(check_owner(owner).is_err(), "{owner}");
        }
    }
}
