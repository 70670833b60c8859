//! Tokens in use: one for all who ask with one account, renewed before it runs out, or when it was refused.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::request::Parts;
use tokio::{sync::Mutex as Turn, time::Instant};
use url::Url;

use super::{
    account::{Account, KeystoneAccount, Proof},
    catalogue::{Catalogue, is_same},
    secret::Secret,
    server::{Issued, LookedUp, Server, TOKEN, header_of},
};
use crate::{
    Code, Disposition, Error,
    web::{Web, settings::Settings, settings::invalid, sign::Sign},
};

/// A token is renewed when it lives less than this, or less than a quarter of its life.
const MARGIN_MAX: Duration = Duration::from_secs(60);
/// How long a refusal holds for all who ask with the account: else every lane would ask, and Keystone locks accounts that
/// are refused too often.
const REFUSAL_HOLDS: Duration = Duration::from_secs(5);

/// The logins that are in use in this process. Clones are one and the same.
#[derive(Clone, Default)]
pub(crate) struct Logins {
    shared: Arc<Mutex<HashMap<[u8; 32], Weak<Shared>>>>,
}

/// How one lane asks with an account.
pub(crate) enum Login {
    /// Says nothing.
    Nobody,
    /// With a token that was given.
    Token(Secret),
    /// With tokens of Keystone.
    Keystone {
        /// For all lanes.
        shared: Arc<Shared>,
        /// Of this one.
        server: Box<Server>,
    },
}

/// What all lanes share that ask with one account.
pub(crate) struct Shared {
    account: KeystoneAccount,
    state: Turn<State>,
}

#[derive(Default)]
struct State {
    token: Option<Held>,
    refused: Option<(Instant, Error)>,
}

struct Held {
    text: Secret,
    catalogue: Catalogue,
    got: Instant,
    renew: Instant,
    ends: Instant,
}

impl Logins {
    /// How the calling lane asks with an account. Asks nobody yet.
    pub fn login(&self, web: &Web, settings: &Settings, account: Account) -> Result<Rc<Login>, Error> {
        let account = match account {
            Account::Nobody => return Ok(Rc::new(Login::Nobody)),
            Account::Token(token) => return Ok(Rc::new(Login::Token(token))),
            Account::Keystone(account) => *account,
        };
        // How long an object may take is no limit of Keystone's.
        let settings = Settings { total_timeout: None, ..settings.clone() };
        let server = Box::new(Server::new(web, &settings, &account.auth_url)?);
        let mut all = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, shared| shared.strong_count() > 0);
        let shared = all.get(&account.digest).and_then(Weak::upgrade).unwrap_or_else(|| {
            let shared = Arc::new(Shared { account: account.clone(), state: Turn::default() });
            all.insert(account.digest, Arc::downgrade(&shared));
            shared
        });
        Ok(Rc::new(Login::Keystone { shared, server }))
    }
}

/// Keeps a login's token for whoever asks next.
pub(crate) struct Hold(#[expect(dead_code, reason = "it is held, not looked at")] Arc<Shared>);

impl Login {
    /// What keeps its token until it is dropped; nothing where there is none to keep.
    pub fn hold(&self) -> Option<Hold> {
        match self {
            Self::Keystone { shared, .. } => Some(Hold(shared.clone())),
            _ => None,
        }
    }

    /// The endpoint of a service, where the URL of an object names none.
    pub async fn endpoint(&self, service: &str) -> Result<String, Error> {
        let Self::Keystone { shared, .. } = self else {
            return Err(invalid("the URL names no host; say with auth_url which Keystone knows it".into()));
        };
        if let Some(endpoint) = &shared.account.wanted.endpoint {
            return Ok(endpoint.clone());
        }
        self.with_catalogue(|catalogue| catalogue.endpoint(service, &shared.account.wanted)).await
    }

    /// Refuses a base URL that is no endpoint of a service to show tokens to.
    pub async fn check(&self, service: &str, base: &Url) -> Result<(), Error> {
        let Self::Keystone { shared, .. } = self else { return Ok(()) };
        match &shared.account.wanted.endpoint {
            Some(endpoint) if is_same(endpoint, base) => Ok(()),
            Some(endpoint) => {
                let why =
                    format!("{base} is not the endpoint {endpoint}, so it is shown no token; name one of the two");
                Err(Error::fatal(Code::PermissionDenied, why))
            }
            None => self.with_catalogue(|catalogue| catalogue.check(service, &shared.account.wanted, base)).await,
        }
    }

    async fn with_catalogue<T>(&self, look: impl FnOnce(&Catalogue) -> Result<T, Error>) -> Result<T, Error> {
        let Self::Keystone { shared, server } = self else { return look(&Catalogue::default()) };
        let mut state = shared.state.lock().await;
        look(&state.current(&shared.account, server).await?.catalogue)
    }

    /// A token that is in force, as far as is known; none where nobody in particular asks.
    async fn token(&self) -> Result<Option<Secret>, Error> {
        match self {
            Self::Nobody => Ok(None),
            Self::Token(token) => Ok(Some(token.clone())),
            Self::Keystone { shared, server } => {
                let mut state = shared.state.lock().await;
                Ok(Some(state.current(&shared.account, server).await?.text.clone()))
            }
        }
    }
}

impl State {
    /// The token that is held, or another where that one is about to run out.
    async fn current(&mut self, account: &KeystoneAccount, server: &Server) -> Result<&Held, Error> {
        let now = Instant::now();
        match &self.token {
            Some(held) if now < held.renew => (),
            Some(held) if now < held.ends => {
                // What is held still opens, so that Keystone may be away for a while.
                if let Err(error) = self.get(account, server).await {
                    tracing::warn!(%error, "a token is about to run out and cannot be renewed yet");
                }
            }
            _ => self.get(account, server).await?,
        }
        Ok(self.token.as_ref().expect("it was there, or has just been got"))
    }

    /// Gets another token.
    async fn get(&mut self, account: &KeystoneAccount, server: &Server) -> Result<(), Error> {
        if let Some((when, error)) = &self.refused
            && when.elapsed() < REFUSAL_HOLDS
        {
            return Err(error.clone());
        }
        let asked = Instant::now();
        match issue(account, server).await {
            Ok(issued) => {
                self.refused = None;
                self.token = Some(Held::new(issued, asked, account.is_lasting()));
                Ok(())
            }
            Err(error) => {
                if error.disposition == Disposition::Fatal {
                    self.refused = Some((asked, error.clone()));
                }
                Err(error)
            }
        }
    }
}

async fn issue(account: &KeystoneAccount, server: &Server) -> Result<Issued, Error> {
    match &account.proof {
        // A token of some project is used as it is; for another project Keystone gives another.
        Proof::Token(token) if account.project.is_none() => match server.look_up(token).await? {
            LookedUp::Valid(issued) => Ok(*issued),
            LookedUp::Unknown => Err(Error::fatal(
                Code::PermissionDenied,
                format!("Keystone ({}) does not know the token that was given, or not any more", account.auth_url),
            )),
        },
        _ => server.issue(account).await,
    }
}

impl Held {
    fn new(Issued { text, document, lives }: Issued, asked: Instant, lasting: bool) -> Self {
        let ends = asked + lives;
        let renew = if lasting { ends - (lives / 4).min(MARGIN_MAX) } else { ends };
        Self { text, catalogue: document.catalog, got: Instant::now(), renew, ends }
    }
}

impl Sign for Login {
    fn sign<'a>(&'a self, request: &'a mut Parts, home: bool) -> LocalBoxFuture<'a, Result<(), Error>> {
        async move {
            if home && let Some(token) = self.token().await? {
                request.headers.insert(TOKEN, header_of(&token)?);
            }
            Ok(())
        }
        .boxed_local()
    }

    fn renew(&self, asked: Instant) -> LocalBoxFuture<'_, Result<bool, Error>> {
        async move {
            let Self::Keystone { shared, server } = self else { return Ok(false) };
            let mut state = shared.state.lock().await;
            // Somebody else met the same refusal and was faster.
            if state.token.as_ref().is_some_and(|held| held.got > asked) {
                return Ok(true);
            }
            if !shared.account.is_lasting() {
                return Ok(false);
            }
            state.get(&shared.account, server).await.map(|()| true)
        }
        .boxed_local()
    }

    fn advice(&self) -> &'static str {
        match self {
            Self::Nobody => "say who asks: auth_url with username and password or an application credential, or token",
            Self::Token(_) => "the token has run out, or may not do that; give another, or auth_url and what renews it",
            Self::Keystone { .. } => "Keystone's token does not open it: look at the user's project and roles",
        }
    }
}
