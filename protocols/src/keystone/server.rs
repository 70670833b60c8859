//! Asks Keystone.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::{
    account::KeystoneAccount,
    document::{self, TokenDocument},
    secret::Secret,
};
use crate::{
    Code, Error, ObjectUrl,
    web::{
        Web,
        body::Body,
        client::Client,
        place::Place,
        settings::{Settings, invalid},
        sign::Unsigned,
    },
};

/// How a request shows who asks.
pub(crate) const TOKEN: HeaderName = HeaderName::from_static("x-auth-token");
/// Which token is asked about, or was issued.
const SUBJECT: HeaderName = HeaderName::from_static("x-subject-token");

/// Largest answer that is read: a catalogue may be long.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Longest token: more, and servers refuse the header that carries it.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// One Keystone, as one thread asks it.
pub(crate) struct Server {
    client: Client,
    tokens: Place,
    auth_url: String,
}

/// A token, and what Keystone tells of it.
pub(crate) struct Issued {
    pub text: Secret,
    pub document: TokenDocument,
    /// How long it lives, from when it was asked for.
    pub lives: Duration,
}

/// What became of a question about a token.
pub(crate) enum LookedUp {
    /// It is in force.
    Valid(Box<Issued>),
    /// Keystone does not know it, or not any more.
    Unknown,
}

impl Server {
    /// The one at `auth_url`, which ends with its version.
    pub fn new(web: &Web, settings: &Settings, auth_url: &str) -> Result<Self, Error> {
        let client = Client::new(web, settings, Rc::new(Unsigned))?;
        let tokens = Place::origin(&ObjectUrl::parse(&format!("{auth_url}/auth/tokens"))?)?;
        Ok(Self { client, tokens, auth_url: auth_url.to_owned() })
    }

    /// A new token for an account.
    pub async fn issue(&self, account: &KeystoneAccount) -> Result<Issued, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = document::request(account).to_string();
        let mut answer = self.client.send(Method::POST, &self.tokens, &headers, body.as_bytes()).await?;
        let unknown = || {
            self.refused(&format!(
                "does not know {} by what was shown: the name, the domain or the secret is wrong, or it may not enter the \
                 project",
                account.proof
            ))
        };
        let status = answer.head().status;
        match status {
            StatusCode::CREATED => self.issued(&mut answer, None).await,
            StatusCode::UNAUTHORIZED => Err(unknown()),
            // An application credential that is not there.
            StatusCode::NOT_FOUND if is_keystones(&mut answer).await => Err(unknown()),
            StatusCode::FORBIDDEN => Err(self.refused(&format!("lets {} have no token", account.proof))),
            _ => Err(self.trouble(&mut answer).await),
        }
    }

    /// What Keystone tells of a token, asked with that very token.
    pub async fn look_up(&self, token: &Secret) -> Result<LookedUp, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(TOKEN, header_of(token)?);
        headers.insert(SUBJECT, header_of(token)?);
        let mut answer = self.client.send(Method::GET, &self.tokens, &headers, &[]).await?;
        let status = answer.head().status;
        match status {
            StatusCode::OK => Ok(LookedUp::Valid(Box::new(self.issued(&mut answer, Some(token)).await?))),
            StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND if is_keystones(&mut answer).await => {
                Ok(LookedUp::Unknown)
            }
            StatusCode::FORBIDDEN => {
                Err(self.refused("lets nobody look up a token of one's own; its policy must allow that"))
            }
            _ => Err(self.trouble(&mut answer).await),
        }
    }

    async fn issued(&self, answer: &mut Body, asked: Option<&Secret>) -> Result<Issued, Error> {
        let date = answer.head().headers.get(header::DATE).and_then(|date| date.to_str().ok()).map(str::to_owned);
        let text = match asked {
            Some(token) => Some(token.clone()),
            None => {
                let text = answer.head().headers.get(SUBJECT).and_then(|text| text.to_str().ok());
                text.filter(|text| !text.is_empty() && text.len() <= TOKEN_BYTES_MAX).map(Secret::new)
            }
        };
        let document = TokenDocument::parse(&answer.document(ANSWER_BYTES_MAX).await?);
        let lives = document.as_ref().and_then(|document| document.lives(date.as_deref()));
        match (text, document, lives) {
            (Some(text), Some(document), Some(lives)) => Ok(Issued { text, document, lives }),
            _ => Err(answer.head().violation("answered with something that is no token")),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::fatal(Code::PermissionDenied, format!("Keystone ({}) {why}", self.auth_url))
    }

    /// The error for an answer that no account explains.
    async fn trouble(&self, answer: &mut Body) -> Error {
        let status = answer.head().status;
        if status.is_redirection() {
            let why = format!("Keystone ({}) redirects; write in auth_url where it is", self.auth_url);
            return Error::fatal(Code::RedirectRefused, why);
        }
        if status == StatusCode::BAD_REQUEST && is_keystones(answer).await {
            return invalid(format!(
                "Keystone ({}) does not understand the account; look at its domains and ids",
                self.auth_url
            ));
        }
        if matches!(status.as_u16(), 400 | 404 | 405 | 410) {
            return invalid(format!(
                "auth_url: {} is no Identity API v3 (it answered {status}); write for instance \
                 https://keystone.example:5000/v3",
                self.auth_url
            ));
        }
        answer.head().status_error()
    }
}

/// Whether an error is told as Keystone does: not every 404 comes from it.
async fn is_keystones(answer: &mut Body) -> bool {
    let document = answer.document(ANSWER_BYTES_MAX).await.unwrap_or_default();
    serde_json::from_slice::<serde_json::Value>(&document).is_ok_and(|document| document["error"]["code"].is_u64())
}

/// A token as a header, which no log shows.
pub(crate) fn header_of(token: &Secret) -> Result<HeaderValue, Error> {
    let refused = || invalid("token: it is too long, or holds characters that a header cannot carry".into());
    if token.reveal().len() > TOKEN_BYTES_MAX {
        return Err(refused());
    }
    let mut value = HeaderValue::from_str(token.reveal()).map_err(|_| refused())?;
    value.set_sensitive(true);
    Ok(value)
}
