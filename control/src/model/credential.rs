//! Named credentials: options of protocols, secrets among them, that a request names instead of holding them. Pure.
//!
//! **Who may use a credential must not be able to read it.** Whoever names one writes the URL and may write options beside
//! it; so neither may have a say in where its secrets go ([`Credential::complete`]):
//!
//! 1. It is used by its owner, or by everybody where it has none; for its schemes, and below its URLs where it has any of
//!    that scheme.
//! 2. Where secrets are sent to the server that the URL names ([`Secrecy::sent_to_url`]), it must have some.
//! 3. Of the request's own options, only those that the module calls harmless stand beside it, and these win. Endpoints,
//!    certificates to trust, and secrets come from the credential, or from nobody.
//!
//! These rules are asked when a transfer is submitted, and again at every attempt. What they cannot know: a server below
//! one of the URLs that repeats what it is sent (an echo, a debugging page). URLs should lead to objects only.

mod definition;
mod prefix;

use std::{fmt, str::FromStr};

pub use definition::Definition;
pub use prefix::UrlPrefix;
use serde::{Deserialize, Serialize};
use staccato_protocols::{
    Code, Error, ObjectUrl, Options, Protocol,
    contract::{CREDENTIAL, Capabilities, Secrecy},
};
use utoipa::ToSchema;

use super::Timestamp;

/// Longest name of a credential, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// What a credential is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CredentialName(String);

/// Where a credential is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// In the store, sealed.
    Sealed,
    /// In a file of the operator's folder.
    File,
    /// In the service's environment, in variables that the operator has named.
    Environment,
}

/// A credential, secrets included. Shows none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it is called.
    pub name: CredentialName,
    /// Whose it is; none: everybody's.
    pub owner: Option<String>,
    /// Where it is kept.
    pub kept: Kept,
    /// What it is for, and what it holds.
    pub definition: Definition,
    /// When it was last set, where that is known.
    pub changed_at: Option<Timestamp>,
}

/// Why a credential cannot be used, and which option of the request is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The option.
    pub option: String,
    /// The error, of code [`Code::CredentialUnusable`].
    pub error: Error,
}

impl Unusable {
    /// Of a credential that a person has to do something about.
    pub fn fatal(why: impl Into<String>) -> Self {
        let error = Error::fatal(Code::CredentialUnusable, why);
        Self { option: CREDENTIAL.into(), error }
    }

    /// Of a credential that may be usable in a moment: its file is perhaps being written.
    pub fn for_now(why: impl Into<String>) -> Self {
        let error = Error::retry(Code::CredentialUnusable, why);
        Self { option: CREDENTIAL.into(), error }
    }

    /// Of one that there is none of, as far as `owner` can know.
    pub fn unknown(name: &str) -> Self {
        Self::fatal(format!(
            "there is no credential {name:?} for you; `staccato credential list` shows those there are"
        ))
    }

    fn at(self, option: &str) -> Self {
        Self { option: option.into(), ..self }
    }
}

impl Credential {
    /// Whether `owner` may use it.
    pub fn is_for(&self, owner: &str) -> bool {
        self.owner.as_deref().is_none_or(|own| own == owner)
    }

    /// The options of a request for `url` with those of this credential, by the rules above. `options` are the request's,
    /// the credential's name among them; `module` is that of the URL.
    pub fn complete(&self, url: &ObjectUrl, options: &Options, module: &dyn Protocol) -> Result<Options, Unusable> {
        let (name, secrecy) = (&self.name, module.secrecy());
        let schemes = &self.definition.schemes;
        if !schemes.iter().any(|scheme| scheme == url.scheme()) {
            let known = schemes.join(", ");
            return Err(Unusable::fatal(format!("the credential {name} is for {known}, not for {}", url.scheme())));
        }
        let mut prefixes = self.definition.urls.iter().filter(|prefix| prefix.scheme() == url.scheme()).peekable();
        if prefixes.peek().is_none() {
            if secrecy.sent_to_url && self.has_secrets(&module.capabilities()) {
                return Err(Unusable::fatal(format!(
                    "the credential {name} does not say below which URLs its secrets may be sent; give it `urls`"
                )));
            }
        } else if !prefixes.any(|prefix| prefix.covers(url)) {
            return Err(Unusable::fatal(format!(
                "the credential {name} is not for {}; see its `urls`",
                url.redacted()
            )));
        }
        let mut complete = self.definition.options.clone();
        for (option, value) in options.iter().filter(|(option, _)| *option != CREDENTIAL) {
            if !secrecy.is_harmless(option) {
                return Err(Unusable::fatal(format!(
                    "{option} would have a say in what becomes of the secrets of {name}: leave it out, or have it put into \
                     the credential{}",
                    known(&secrecy)
                ))
                .at(option));
            }
            complete.insert(option.clone(), value.clone());
        }
        Ok(complete)
    }

    fn has_secrets(&self, capabilities: &Capabilities) -> bool {
        self.definition.options.keys().any(|option| capabilities.is_secret(option))
    }

    /// What clients see.
    pub fn document(&self) -> CredentialDocument {
        CredentialDocument {
            name: self.name.to_string(),
            owner: self.owner.clone(),
            kept: self.kept,
            schemes: self.definition.schemes.clone(),
            urls: self.definition.urls.iter().map(ToString::to_string).collect(),
            options: self.definition.options.keys().cloned().collect(),
            changed_at: self.changed_at.map(|at| at.to_string()),
        }
    }
}

fn known(secrecy: &Secrecy) -> String {
    match secrecy.harmless {
        [] => String::new(),
        names => format!(" (beside one, a request may set {})", names.join(", ")),
    }
}

/// A credential as clients see it: the names of its options, never their values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = Credential)]
pub struct CredentialDocument {
    /// What a request calls it: `"source_options": {"credential": NAME}`.
    pub name: String,
    /// Whose it is; null: everybody's.
    pub owner: Option<String>,
    /// Where it is kept: in the store (`sealed`), or by the operator in a `file` or in the service's `environment`.
    pub kept: Kept,
    /// For which schemes it is.
    pub schemes: Vec<String>,
    /// Below which URLs it is; below any of a scheme that none of them has.
    pub urls: Vec<String>,
    /// The names of its options.
    pub options: Vec<String>,
    /// When it was last set (RFC 3339); null where the store does not keep it.
    pub changed_at: Option<String>,
}

impl CredentialName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Letters, digits and `. _ -`, beginning with a letter or digit: a name that stays the same in a URL and as a file's.
impl FromStr for CredentialName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.len() <= NAME_BYTES_MAX
            && text.bytes().all(plain)
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
        {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no name of a credential; use 1 to {NAME_BYTES_MAX} letters, digits and . _ -, a letter or digit \
             first"
        ))
    }
}

impl TryFrom<String> for CredentialName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CredentialName> for String {
    fn from(name: CredentialName) -> Self {
        name.0
    }
}

impl fmt::Display for CredentialName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests;
