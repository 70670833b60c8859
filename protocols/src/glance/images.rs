//! Asks one Glance about images.

use std::rc::Rc;

use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{options::GlanceOptions, record::Record, target::Target};
use crate::{
    Code, Error, ObjectUrl,
    keystone::Logins,
    web::{Web, client::Client, place::Place},
};

/// What the catalogue calls Glance.
const SERVICE: &str = "image";
/// Largest record that is read.
const RECORD_BYTES_MAX: usize = 1 << 20;

/// The images at one endpoint, as one lane sees them.
pub(super) struct Images {
    pub client: Rc<Client>,
    base: Url,
}

impl Images {
    /// Those at the endpoint that is meant, seen by whoever the options say. Asks Keystone where that must be known first.
    pub async fn open(web: &Web, logins: &Logins, target: &Target, options: GlanceOptions) -> Result<Self, Error> {
        let login = logins.login(web, &options.settings, options.account)?;
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
        let client = Rc::new(Client::new(web, &options.settings, login)?);
        Ok(Self { client, base })
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

    /// Where the data of an image is.
    pub fn data(&self, id: &str) -> Result<Place, Error> {
        self.place(&format!("{id}/file"))
    }

    fn place(&self, path: &str) -> Result<Place, Error> {
        // An endpoint is written with the version of its API and without.
        let base = self.base.as_str().trim_end_matches('/');
        let base = base.strip_suffix("/v2").unwrap_or(base);
        Place::origin(&ObjectUrl::parse(&format!("{base}/v2/images/{path}"))?)
    }
}
