//! The options that say who asks, parsed once. Pure.

use std::fmt;

use sha2::{Digest, Sha256};

use super::secret::Secret;
use crate::{
    Error, ObjectUrl,
    contract::OptionSpec,
    web::{place::Place, settings::invalid},
};

/// Interface of a service that is meant where none is named: what is for everybody.
const INTERFACE_DEFAULT: &str = "public";
/// Domain that is meant where none is named.
const DOMAIN_DEFAULT: &str = "default";

/// Options about the account, as they come.
#[derive(Debug, Default)]
pub(crate) struct AccountOptions {
    given: std::collections::BTreeMap<&'static str, Secret>,
}

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Account {
    /// Nobody in particular: a service without accounts.
    Nobody,
    /// Whoever has this token; who that is, its issuer knows.
    Token(Secret),
    /// Somebody whom Keystone knows.
    Keystone(Box<KeystoneAccount>),
}

/// Somebody whom Keystone knows.
#[derive(Clone, Debug)]
pub(crate) struct KeystoneAccount {
    /// Where Keystone is, with its version and without a slash at the end.
    pub auth_url: String,
    /// How it is proved who asks.
    pub proof: Proof,
    /// The project in which is asked; none: the user's own, or that of the proof.
    pub project: Option<Named>,
    /// Which of a service's endpoints are meant.
    pub wanted: Wanted,
    /// Tells accounts apart; of everything above.
    pub digest: [u8; 32],
}

/// How it is proved who asks.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// A user's password.
    Password { user: Named, password: Secret },
    /// An application credential, by its id, or by its name and user.
    ApplicationCredential { name: String, user: Option<Named>, secret: Secret },
    /// A token that was got elsewhere. It cannot be renewed.
    Token(Secret),
}

/// A user or a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// By id.
    Id(String),
    /// By name within a domain.
    Name { name: String, domain: Domain },
}

/// A domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// Which of a service's endpoints are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// In this region; in any without.
    pub region: Option<String>,
    /// Of this interface; without, any may be named, and `public` is meant where none is.
    pub interface: Option<String>,
    /// None of the catalogue's but this one, without a slash at its end.
    pub endpoint: Option<String>,
}

impl Wanted {
    /// The interface that is meant where no endpoint is named.
    pub fn interface(&self) -> &str {
        self.interface.as_deref().unwrap_or(INTERFACE_DEFAULT)
    }
}

/// For a module's list of options.
pub(crate) const OPTIONS: [OptionSpec; 17] = [
    open("auth_url", "where Keystone is, for instance https://keystone.example:5000/v3"),
    open("username", "the user's name"),
    open("user_id", "the user's id, instead of its name and domain"),
    open("user_domain_name", "name of the user's domain"),
    open("user_domain_id", "id of the user's domain (default `default`)"),
    hidden("password", "the user's password"),
    open("project_name", "name of the project in which is asked"),
    open("project_id", "its id, instead of its name and domain"),
    open("project_domain_name", "name of the project's domain"),
    open("project_domain_id", "id of the project's domain (default that of the user)"),
    open("application_credential_id", "id of an application credential, instead of a user and a password"),
    open("application_credential_name", "its name, together with its user"),
    hidden("application_credential_secret", "its secret"),
    hidden("token", "a token, instead of a password; it cannot be renewed"),
    open("region_name", "region whose endpoints of the catalogue are meant (default any)"),
    open("interface", "public, internal or admin: interface whose endpoints of the catalogue are meant"),
    open("endpoint", "endpoint of the service, instead of those of the catalogue"),
];

/// A module's list of options: these, and its own.
pub(crate) const fn with_own<const OWN: usize, const ALL: usize>(own: [OptionSpec; OWN]) -> [OptionSpec; ALL] {
    assert!(ALL == OPTIONS.len() + OWN, "all of them are listed");
    let mut all = [OPTIONS[0]; ALL];
    let mut at = 0;
    while at < ALL {
        all[at] = if at < OPTIONS.len() { OPTIONS[at] } else { own[at - OPTIONS.len()] };
        at += 1;
    }
    all
}

const fn open(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, secret: false, help }
}

const fn hidden(name: &'static str, help: &'static str) -> OptionSpec {
    OptionSpec { name, secret: true, help }
}

impl AccountOptions {
    /// Takes an option if it is one of these; whether it is.
    pub fn take(&mut self, name: &str, value: &str) -> Result<bool, Error> {
        let Some(spec) = OPTIONS.iter().find(|spec| spec.name == name) else { return Ok(false) };
        if value.is_empty() || value.chars().any(char::is_control) {
            return Err(invalid(format!(
                "{name} is empty or holds a control character; write it as it is, or leave it out"
            )));
        }
        self.given.insert(spec.name, Secret::new(value));
        Ok(true)
    }

    /// Who they say asks.
    pub fn finish(mut self) -> Result<Account, Error> {
        let mut digest = Sha256::new();
        for (name, value) in &self.given {
            // Neither holds a control character, so that nothing else is spelt like this.
            digest.update(format!("{name}\n{}\n", value.reveal()));
        }
        let wanted = Wanted {
            region: self.text("region_name"),
            interface: self.text("interface"),
            endpoint: self.text("endpoint").map(|url| base("endpoint", &url)).transpose()?,
        };
        if let Some(interface) = wanted.interface.as_deref()
            && !["public", "internal", "admin"].contains(&interface)
        {
            return Err(invalid(format!("interface: {interface:?} is none; write public, internal or admin")));
        }
        let Some(auth_url) = self.text("auth_url") else { return self.without_keystone() };
        let user = self.named("username", "user_id", ("user_domain_name", "user_domain_id"), None)?;
        let own_domain = match &user {
            Some(Named::Name { domain, .. }) => Some(domain.clone()),
            _ => None,
        };
        let domain = ("project_domain_name", "project_domain_id");
        let project = self.named("project_name", "project_id", domain, own_domain)?;
        let proof = self.proof(user)?;
        if matches!(proof, Proof::ApplicationCredential { .. }) && project.is_some() {
            return Err(invalid(
                "an application credential has a project of its own; leave the project's options out".into(),
            ));
        }
        if let Some(surplus) = self.given.keys().next() {
            return Err(invalid(format!("{surplus} does not belong to the other options; leave it out")));
        }
        let auth_url = versioned(&base("auth_url", &auth_url)?);
        let digest = digest.finalize().into();
        Ok(Account::Keystone(Box::new(KeystoneAccount { auth_url, proof, project, wanted, digest })))
    }

    fn without_keystone(mut self) -> Result<Account, Error> {
        let token = self.given.remove("token");
        if let Some(name) = self.given.keys().next() {
            return Err(invalid(format!("{name} is for Keystone; say with auth_url where it is")));
        }
        Ok(token.map_or(Account::Nobody, Account::Token))
    }

    fn proof(&mut self, user: Option<Named>) -> Result<Proof, Error> {
        let (password, token) = (self.given.remove("password"), self.given.remove("token"));
        let secret = self.given.remove("application_credential_secret");
        let (id, name) = (self.text("application_credential_id"), self.text("application_credential_name"));
        match (password, token, secret, user) {
            (Some(password), None, None, Some(user)) if id.is_none() && name.is_none() => {
                Ok(Proof::Password { user, password })
            }
            (None, Some(token), None, None) if id.is_none() && name.is_none() => Ok(Proof::Token(token)),
            (None, None, Some(secret), user) => match (id, name, user) {
                (Some(name), None, None) => Ok(Proof::ApplicationCredential { name, user: None, secret }),
                (None, Some(name), Some(user)) => Ok(Proof::ApplicationCredential { name, user: Some(user), secret }),
                _ => Err(invalid(
                    "name an application credential by application_credential_id alone, or by \
                     application_credential_name and its user (username)"
                        .into(),
                )),
            },
            _ => Err(invalid(
                "auth_url needs one proof of who asks: username and password, or application_credential_id and \
                 application_credential_secret, or token"
                    .into(),
            )),
        }
    }

    fn named(
        &mut self,
        name: &'static str,
        id: &'static str,
        (domain_name, domain_id): (&'static str, &'static str),
        otherwise: Option<Domain>,
    ) -> Result<Option<Named>, Error> {
        let domain = match (self.text(domain_name), self.text(domain_id)) {
            (Some(_), Some(_)) => return Err(invalid(format!("give {domain_name} or {domain_id}, not both"))),
            (Some(name), None) => Some(Domain::Name(name)),
            (None, Some(id)) => Some(Domain::Id(id)),
            (None, None) => None,
        };
        match (self.text(name), self.text(id), domain) {
            (Some(_), Some(_), _) => Err(invalid(format!("give {name} or {id}, not both"))),
            (Some(name), None, domain) => {
                let domain = domain.or(otherwise).unwrap_or_else(|| Domain::Id(DOMAIN_DEFAULT.into()));
                Ok(Some(Named::Name { name, domain }))
            }
            (None, Some(id), None) => Ok(Some(Named::Id(id))),
            (None, Some(_), Some(_)) => {
                Err(invalid(format!("{id} needs no domain; leave {domain_name} and {domain_id} out")))
            }
            // An account may come with the domain of a user that it does not need.
            (None, None, _) => Ok(None),
        }
    }

    fn text(&mut self, name: &str) -> Option<String> {
        self.given.remove(name).map(|value| value.reveal().to_owned())
    }
}

/// A URL that others are made from by adding to it.
pub(crate) fn base(option: &str, url: &str) -> Result<String, Error> {
    let refused = |error: Error| invalid(format!("{option}: {}", error.message));
    let url = ObjectUrl::parse(url).map_err(refused)?;
    Place::origin(&url).map_err(refused)?;
    if url.url().query().is_some() {
        return Err(invalid(format!("{option} has a query; leave it out")));
    }
    Ok(url.url().as_str().trim_end_matches('/').to_owned())
}

/// Keystone's URL is written with its version and without.
pub(super) fn versioned(auth_url: &str) -> String {
    if auth_url.ends_with("/v3") { auth_url.to_owned() } else { format!("{auth_url}/v3") }
}

impl KeystoneAccount {
    /// Whether another token can be had once this one has run out.
    pub fn is_lasting(&self) -> bool {
        !matches!(self.proof, Proof::Token(_))
    }
}

/// As errors name it.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "the user {user}"),
            Self::ApplicationCredential { name, user: None, .. } => write!(f, "the application credential {name}"),
            Self::ApplicationCredential { name, user: Some(user), .. } => {
                write!(f, "the application credential {name} of the user {user}")
            }
            Self::Token(_) => f.write_str("the token that was given"),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Name { name, domain: Domain::Id(domain) | Domain::Name(domain) } => {
                write!(f, "{name} of the domain {domain}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Code;

    fn account(pairs: &[(&str, &str)]) -> Result<Account, Error> {
        let mut options = AccountOptions::default();
        for (name, value) in pairs {
            assert!(options.take(name, value)?, "{name}");
        }
        options.finish()
    }

    fn keystone(pairs: &[(&str, &str)]) -> KeystoneAccount {
        let mut all = vec![("auth_url", "http://k:5000")];
        all.extend(pairs);
        match account(&all) {
            Ok(Account::Keystone(account)) => *account,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_account_has_one_proof() {
        let password = keystone(&[("username", "u"), ("password", "p"), ("project_name", "a")]);
        assert_eq!(password.auth_url, "http://k:5000/v3");
        let own = |name: &str| Named::Name { name: name.into(), domain: Domain::Id("default".into()) };
        assert!(matches!(&password.proof, Proof::Password { user, .. } if *user == own("u")));
        assert_eq!(password.project, Some(own("a")));
        let elsewhere =
            keystone(&[("username", "u"), ("user_domain_name", "D"), ("password", "p"), ("project_name", "a")]);
        assert_eq!(
            elsewhere.project,
            Some(Named::Name { name: "a".into(), domain: Domain::Name("D".into()) }),
            "a project is of its user's domain"
        );
        keystone(&[("user_id", "u"), ("password", "p"), ("project_id", "a")]);
        keystone(&[("application_credential_id", "c"), ("application_credential_secret", "s")]);
        let named = [("application_credential_name", "c"), ("username", "u"), ("application_credential_secret", "s")];
        keystone(&named);
        assert!(!keystone(&[("token", "t")]).is_lasting());
        assert!(matches!(account(&[]), Ok(Account::Nobody)));
        assert!(matches!(account(&[("token", "t")]), Ok(Account::Token(_))));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        for pairs in [
            &[("username", "u"), ("password", "p")][..],
            &[("auth_url", "http://k")],
            &[("auth_url", "k:5000"), ("token", "t")],
            &[("auth_url", "http://u:p@k/"), ("token", "t")],
            &[("auth_url", "http://k/?a"), ("token", "t")],
            &[("auth_url", "http://k"), ("username", "u")],
            &[("auth_url", "http://k"), ("password", "p")],
            &[("auth_url", "http://k"), ("username", "u"), ("password", "p"), ("token", "t")],
            &[("auth_url", "http://k"), ("username", "u"), ("user_id", "u"), ("password", "p")],
            &[("auth_url", "http://k"), ("application_credential_name", "c"), ("application_credential_secret", "s")],
            &[
                ("auth_url", "http://k"),
                ("application_credential_id", "c"),
                ("application_credential_secret", "s"),
                ("project_id", "a"),
            ],
            &[("auth_url", "http://k"), ("token", "t"), ("interface", "private")],
            &[("password", "")],
        ] {
            assert_eq!(account(pairs).expect_err(&format!("{pairs:?}")).code, Code::InvalidOption, "{pairs:?}");
        }
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        for pairs in [
            &[("username", "u"), ("password", "hush")][..],
            &[("application_credential_id", "c"), ("application_credential_secret", "hush")],
            &[("token", "hush")],
        ] {
            let account = keystone(pairs);
            assert!(!format!("{account:?} {}", account.proof).contains("hush"));
        }
        let error = account(&[("password", "hush\n")]).unwrap_err();
        assert!(!error.message.contains("hush"), "{error}");
        for spec in OPTIONS {
            assert_eq!(spec.secret, ["password", "token", "application_credential_secret"].contains(&spec.name));
        }
    }

    #[test]
    fn accounts_that_differ_have_other_digests() {
        let digest = |password| keystone(&[("username", "u"), ("password", password)]).digest;
        assert_eq!(digest("a"), digest("a"));
        assert_ne!(digest("a"), digest("b"));
    }
}
