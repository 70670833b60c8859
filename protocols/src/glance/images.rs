//! Asks one Glance about images.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::{
    options::{GlanceOptions, ImageOptions},
    record::{Record, Stage},
    target::Target,
};
use crate::{
    Code, Error, ObjectUrl,
    keystone::{Hold, Login, Logins},
    web::{Web, client::Client, place::Place, settings::invalid},
};

/// How much of what Glance says is repeated.
const SAID_CHARS_MAX: usize = 300;
/// What the catalogue calls Glance.
const SERVICE: &str = "image";
/// Pauses between looks at an image that is busy.
const SETTLE_PAUSE_MIN: Duration = Duration::from_millis(50);
const SETTLE_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Largest record that is read.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// The images at one endpoint, as one lane sees them.
pub(super) struct Images {
    pub client: Rc<Client>,
    login: Rc<Login>,
    base: Url,
}

impl Images {
    /// Those at the endpoint that is meant, seen by whoever the options say. Asks Keystone where that must be known first.
    pub async fn open(web: &Web, logins: &Logins, target: &Target, options: &GlanceOptions) -> Result<Self, Error> {
        let login = logins.login(web, &options.settings, options.account.clone())?;
        let base = match &target.base {
            Some(base) => {
                login.check(SERVICE, base).await?;
                base.clone()
            }
            None => {
                let endpoint = login.endpoint(SERVICE).await?;
                let unusable =
                    |error| Error::fatal(Code::InvalidUrl, format!("the endpoint {endpoint} is no URL ({error})"));
                Url::parse(&endpoint).map_err(unusable)?
            }
        };
        let client = Rc::new(Client::new(web, &options.settings, login.clone())?);
        Ok(Self { client, login, base })
    }

    /// The record of an image; none where there is no such image, or whoever asks may not see it.
    pub async fn find(&self, id: &str) -> Result<Option<Record>, Error> {
        let mut answer = self.client.send(Method::GET, &self.place(id)?, &HeaderMap::new(), &[]).await?;
        match answer.head().status {
            StatusCode::OK => {
                let document = answer.document(RECORD_BYTES_MAX).await?;
                let record = serde_json::from_slice::<Record>(&document).ok().filter(|record| record.id == id);
                let violation = || answer.head().violation("answered with something that is not the image's record");
                Ok(Some(record.ok_or_else(violation)?))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.head().status_error()),
        }
    }

    /// The record of an image that shall be read.
    pub async fn show(&self, id: &str) -> Result<Record, Error> {
        let missing = || {
            let why = format!("there is no image {id} at {}, or whoever asks may not see it", self.base);
            Error::fatal(Code::SourceMissing, why)
        };
        self.find(id).await?.ok_or_else(missing)
    }

    /// Makes the record of an image, which has no data yet.
    pub async fn create(&self, record: &Value) -> Result<(), Error> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut answer =
            self.client.send(Method::POST, &self.place("")?, &headers, record.to_string().as_bytes()).await?;
        match answer.head().status {
            StatusCode::CREATED => Ok(()),
            StatusCode::CONFLICT => Err(Error::fatal(
                Code::DestinationExists,
                format!(
                    "Glance ({}) has given the id {} away already, perhaps to an image that was deleted, and gives none \
                     twice; name another, or none",
                    self.base, record["id"]
                ),
            )),
            StatusCode::BAD_REQUEST => {
                let why = said(&answer.document(RECORD_BYTES_MAX).await?);
                Err(invalid(format!("Glance ({}) does not take an image like that: {why}", self.base)))
            }
            StatusCode::PAYLOAD_TOO_LARGE => Err(no_room(&self.base)),
            _ => Err(answer.head().status_error()),
        }
    }

    /// Protects an image that is complete, where its options want that: before, nobody could clean it up.
    pub async fn protect(&self, id: &str, image: &ImageOptions) -> Result<(), Error> {
        if !image.is_protected() {
            return Ok(());
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/openstack-images-v2.1-json-patch"));
        let patch = br#"[{"op": "replace", "path": "/protected", "value": true}]"#;
        let answer = self.client.send(Method::PATCH, &self.place(id)?, &headers, patch).await?;
        if answer.head().status.is_success() { Ok(()) } else { Err(answer.head().status_error()) }
    }

    /// Deletes an image; one that is not there is no error.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        let answer = self.client.send(Method::DELETE, &self.place(id)?, &HeaderMap::new(), &[]).await?;
        match answer.head().status {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(answer.head().status_error()),
        }
    }

    /// Waits, for at most so long, until an image has left the stage `Busy`.
    pub async fn settle(&self, id: &str, wait_max: Duration) -> Result<Option<Record>, Error> {
        let (begun, mut pause) = (Instant::now(), SETTLE_PAUSE_MIN);
        loop {
            let record = self.find(id).await?;
            let busy = record.as_ref().is_some_and(|record| record.stage() == Stage::Busy);
            if !busy || begun.elapsed() >= wait_max {
                return Ok(record);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(SETTLE_PAUSE_MAX);
        }
    }

    /// Whoever asks, alone.
    pub fn into_client(self) -> Result<Client, Error> {
        let shared = || Error::fatal(Code::Internal, "a client that others ask with cannot be given away");
        Rc::try_unwrap(self.client).map_err(|_| shared())
    }

    /// Keeps the login in use for as long as what is returned is held.
    pub fn hold(&self) -> Option<Hold> {
        self.login.hold()
    }

    /// Where the data of an image is.
    pub fn data(&self, id: &str) -> Result<Place, Error> {
        self.place(&format!("{id}/file"))
    }

    fn place(&self, path: &str) -> Result<Place, Error> {
        // An endpoint is written with the version of its API and without.
        let base = self.base.as_str().trim_end_matches('/');
        let base = base.strip_suffix("/v2").unwrap_or(base);
        let slash = if path.is_empty() { "" } else { "/" };
        Place::origin(&ObjectUrl::parse(&format!("{base}/v2/images{slash}{path}"))?)
    }
}

/// The error where a project may not store so much.
pub(super) fn no_room(of: &impl std::fmt::Display) -> Error {
    Error::fatal(Code::NoSpace, format!("Glance ({of}) takes no image as large, or the project's quota is used up"))
}

/// What Glance says within its pages of errors, in one line.
pub(super) fn said(document: &[u8]) -> String {
    let text = String::from_utf8_lossy(document);
    let mut plain = String::new();
    let mut in_tag = false;
    for letter in text.chars() {
        match letter {
            '<' => in_tag = true,
            '>' => in_tag = false,
            _ if !in_tag => plain.push(letter),
            _ => (),
        }
    }
    let words: Vec<_> = plain.split_whitespace().collect();
    words.join(" ").chars().take(SAID_CHARS_MAX).collect()
}
