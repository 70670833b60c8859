//! Credentials in the service's environment: only the variables of a kind that the operator names are read, and only for
//! what that kind is for.

use std::{fmt, str::FromStr};

use staccato_protocols::Options;

use crate::model::{
    credential::{Credential, CredentialName, Definition, Kept, UrlPrefix},
    token::check_owner,
};

/// Which variables are which options of which schemes.
struct Kind {
    name: &'static str,
    schemes: &'static [&'static str],
    /// Variable and option.
    variables: &'static [(&'static str, &'static str)],
}

const KINDS: [Kind; 3] = [
    Kind { name: "http", schemes: &["http", "https"], variables: &[("HTTP_AUTHORIZATION", "header.Authorization")] },
    Kind {
        name: "s3",
        schemes: &["s3"],
        variables: &[
            ("AWS_ACCESS_KEY_ID", "access_key"),
            ("AWS_SECRET_ACCESS_KEY", "secret_key"),
            ("AWS_SESSION_TOKEN", "session_token"),
            ("AWS_REGION", "region"),
            ("AWS_ENDPOINT_URL", "endpoint"),
        ],
    },
    Kind {
        name: "keystone",
        schemes: &["glance", "glance+https", "swift"],
        variables: &[
            ("OS_AUTH_URL", "auth_url"),
            ("OS_USERNAME", "username"),
            ("OS_PASSWORD", "password"),
            ("OS_PROJECT_NAME", "project_name"),
            ("OS_USER_DOMAIN_NAME", "user_domain_name"),
            ("OS_PROJECT_DOMAIN_NAME", "project_domain_name"),
            ("OS_REGION_NAME", "region_name"),
            ("OS_APPLICATION_CREDENTIAL_ID", "application_credential_id"),
            ("OS_APPLICATION_CREDENTIAL_SECRET", "application_credential_secret"),
        ],
    },
];

/// Every variable that some kind reads. Executors that `serve` starts do not inherit them.
pub fn variables() -> impl Iterator<Item = &'static str> {
    KINDS.iter().flat_map(|kind| kind.variables.iter().map(|(variable, _)| *variable))
}

/// A credential that the operator names: `NAME=KIND`, and perhaps an owner and URLs behind it, with spaces between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentCredential {
    name: CredentialName,
    kind: &'static str,
    owner: Option<String>,
    urls: Vec<UrlPrefix>,
}

/// None of the variables of a kind is set, or one is not text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnsetVariable(String);

impl EnvironmentCredential {
    /// Its name.
    pub fn name(&self) -> &CredentialName {
        &self.name
    }

    /// The credential that these variables make. `offered` says which schemes are: others are left out.
    pub fn read(
        &self,
        variable: impl Fn(&str) -> Option<String>,
        offered: impl Fn(&str) -> bool,
    ) -> Result<Credential, UnsetVariable> {
        let kind = KINDS.iter().find(|kind| kind.name == self.kind).expect("it was found when it was parsed");
        let value = |(name, option): &(&str, &str)| {
            let value = variable(name).filter(|value| !value.is_empty())?;
            Some(((*option).to_owned(), value))
        };
        let options: Options = kind.variables.iter().filter_map(value).collect();
        if options.is_empty() {
            let names: Vec<_> = kind.variables.iter().map(|(variable, _)| *variable).collect();
            let why = format!("the credential {} needs at least one of {}", self.name, names.join(", "));
            return Err(UnsetVariable(why));
        }
        // With URLs, it is for theirs and no other scheme.
        let named = |scheme: &str| self.urls.is_empty() || self.urls.iter().any(|url| url.scheme() == scheme);
        let schemes = kind.schemes.iter().filter(|scheme| offered(scheme) && named(scheme));
        let schemes = schemes.map(|&scheme| scheme.to_owned()).collect();
        let definition = Definition { schemes, urls: self.urls.clone(), options };
        let (name, owner) = (self.name.clone(), self.owner.clone());
        Ok(Credential { name, owner, kept: Kept::Environment, definition, changed_at: None })
    }
}

impl FromStr for EnvironmentCredential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=KIND"))?;
        let mut words = rest.split_whitespace();
        let named = words.next().unwrap_or_default();
        let kind = KINDS.iter().find(|kind| kind.name == named).ok_or_else(|| {
            let known = KINDS.map(|kind| kind.name).join(", ");
            format!("{named:?} is no kind of credential in an environment; known are {known}")
        })?;
        let (urls, owners): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains("://"));
        let urls: Vec<UrlPrefix> = urls.into_iter().map(str::parse).collect::<Result<_, _>>()?;
        if let Some(url) = urls.iter().find(|url| !kind.schemes.contains(&url.scheme())) {
            return Err(format!("{url} is of none of the schemes of {named} ({})", kind.schemes.join(", ")));
        }
        let owner = match owners[..] {
            [] => None,
            [owner] => Some(owner.to_owned()),
            _ => return Err(format!("{text:?} has more than one owner")),
        };
        owner.as_deref().map_or(Ok(()), check_owner)?;
        Ok(Self { name: name.parse()?, kind: kind.name, owner, urls })
    }
}

impl fmt::Display for EnvironmentCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.kind)?;
        self.owner.iter().try_for_each(|owner| write!(f, " {owner}"))?;
        self.urls.iter().try_for_each(|url| write!(f, " {url}"))
    }
}
