//! Which host a URL is about, and what may be done there.
//!
//! `file`, `zero` and `null` exist on every host: `file://HOST/path` is a file on that one, `zero:///SIZE` and `null:///`
//! are the same everywhere, and with a host they are made, or end, there. `file:///path` is a file on the host whose own
//! door the request came through; through the doors for everybody it must name a host as soon as more than one could be
//! meant.

use std::borrow::Cow;

use staccato_protocols::{ObjectUrl, Options, Registry, contract::CREDENTIAL};

use crate::{
    ledger::{Ledger, NamedCredentials},
    model::{
        HostName, Place, Problem, ProblemCode,
        distribution::{Candidate, Hosts},
        host::{SCHEMES, as_at_home},
        request::Catalogue,
    },
    policy::Policy,
};

/// See the module.
pub struct Places<'a> {
    ledger: &'a Ledger,
    /// On which host the request came in; none: through a door for everybody.
    at: Option<Place>,
    credentials: NamedCredentials,
}

impl<'a> Places<'a> {
    /// For a request that came through a door of this host, or (none) through one for everybody.
    pub fn new(ledger: &'a Ledger, at: Option<Place>) -> Self {
        Self { ledger, at, credentials: NamedCredentials::default() }
    }

    /// The same, for a request that may name these.
    pub fn with_credentials(self, credentials: NamedCredentials) -> Self {
        Self { credentials, ..self }
    }

    /// Where the object of a URL is.
    pub fn place(&self, url: &ObjectUrl) -> Result<Place, Problem> {
        let config = self.ledger.config();
        match (url.scheme(), url.host()) {
            (scheme, Some(host)) if SCHEMES.contains(&scheme) => {
                if host == config.own_host.as_str() {
                    return Ok(Place::Here);
                }
                let known = host.parse().ok().filter(|_| self.ledger.files_of(host).is_some());
                known.map(Place::Host).ok_or_else(|| {
                    let why = "no executor there has joined; `staccato executors` lists those that have";
                    Problem::new(ProblemCode::UnknownHost, format!("{} names the host {host}: {why}", url.redacted()))
                })
            }
            ("file", None) => match &self.at {
                Some(Place::Here) if config.own_executor => Ok(Place::Here),
                Some(host @ Place::Host(_)) => Ok(host.clone()),
                _ => self.only_host(url),
            },
            _ => Ok(Place::Anywhere),
        }
    }

    /// The only host there is.
    fn only_host(&self, url: &ObjectUrl) -> Result<Place, Problem> {
        let config = self.ledger.config();
        let mut hosts = self.ledger.host_names();
        if config.own_executor {
            hosts.push(config.own_host.clone());
        }
        match &hosts[..] {
            [] => Ok(Place::Here),
            [only] if *only == config.own_host => Ok(Place::Here),
            [only] => Ok(Place::Host(only.clone())),
            several => {
                let detail = format!(
                    "{} could be on any of {} hosts; write file://HOST/PATH, for instance file://{}{}",
                    url.redacted(),
                    several.len(),
                    several[0],
                    url.url().path(),
                );
                Err(Problem::new(ProblemCode::AmbiguousHost, detail))
            }
        }
    }

    /// The options of a request with those of the credential that they name, if they name one. Where nothing is secret, no
    /// credential is known, and its name is an unknown option.
    fn complete<'o>(&self, url: &ObjectUrl, options: &'o Options) -> Result<Cow<'o, Options>, Problem> {
        let named = options.get(CREDENTIAL);
        let module = self.ledger.registry().of_scheme(url.scheme());
        let secretive = module.filter(|module| module.capabilities().options.iter().any(|option| option.secret));
        let (Some(name), Some(module)) = (named, secretive) else { return Ok(Cow::Borrowed(options)) };
        let credential = self.credentials.find(name);
        let complete = credential.and_then(|credential| credential.complete(url, options, module.as_ref()));
        complete.map(Cow::Owned).map_err(|unusable| Problem::protocol(unusable.option, unusable.error))
    }

    /// What checks a URL that was found to be of this place.
    fn check(
        &self,
        place: &Place,
        url: &ObjectUrl,
        check: impl Fn(&Registry, &ObjectUrl) -> Result<(), staccato_protocols::Error>,
    ) -> Result<(), Problem> {
        let checked = match place {
            Place::Anywhere => check(self.ledger.registry(), url),
            Place::Host(host) if url.scheme() == "file" => match self.ledger.files_of(host.as_str()) {
                Some(files) => check(&files.registry, &url.without_host()),
                // Forgotten a moment ago.
                None => return Err(Problem::new(ProblemCode::UnknownHost, format!("{host} was forgotten"))),
            },
            Place::Here | Place::Host(_) => check(self.ledger.registry(), &as_at_home(url.clone())),
        };
        checked.map_err(|error| Problem::protocol("", error))
    }
}

impl Catalogue for Places<'_> {
    fn source(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem> {
        let place = self.place(url)?;
        let options = self.complete(url, options)?;
        self.check(&place, url, |registry, url| registry.source(url, &options).map(drop))?;
        Ok(place)
    }

    fn destination(&self, url: &ObjectUrl, options: &Options) -> Result<Place, Problem> {
        let place = self.place(url)?;
        let options = self.complete(url, options)?;
        self.check(&place, url, |registry, url| registry.destination(url, &options).map(drop))?;
        Ok(place)
    }

    fn check_way(&self, source: &Place, destination: &Place) -> Result<(), Problem> {
        let (Some(from), Some(to)) = (source.host(), destination.host()) else { return Ok(()) };
        if from == to || self.ledger.lets_others_in(from) != Some(false) {
            return Ok(());
        }
        let name = if from.is_empty() { self.ledger.config().own_host.as_str() } else { from };
        let detail = format!(
            "the executor of {name} lets no others in, and so cannot show them its objects; start it with an address \
             where they connect (--peer-listen)"
        );
        Err(Problem::new(ProblemCode::HostUnreachable, detail))
    }
}

impl Hosts for Places<'_> {
    fn candidates(&self) -> Vec<Candidate> {
        self.ledger.candidates()
    }

    fn place(&self, url: &ObjectUrl) -> Result<Place, Problem> {
        Places::place(self, url)
    }

    fn name_of(&self, place: &Place) -> Option<HostName> {
        match place {
            Place::Anywhere => None,
            Place::Here => Some(self.ledger.config().own_host.clone()),
            Place::Host(host) => Some(host.clone()),
        }
    }
}

/// Whether a caller may use the root in which the object of `url` lies, at its place; `own` is the policy of the service's
/// own host. `among_strangers`: callers are told apart by tokens, so that roots without an owner are nobody's.
pub fn may_use(
    ledger: &Ledger,
    own: &Policy,
    url: &ObjectUrl,
    host: Option<&str>,
    caller: &str,
    among_strangers: bool,
) -> Result<(), Problem> {
    match host {
        None | Some("") => own.check(&url.without_host(), caller, among_strangers),
        Some(host) => match ledger.files_of(host) {
            Some(files) => files.policy.check(&url.without_host(), caller, among_strangers),
            None => Ok(()),
        },
    }
}
