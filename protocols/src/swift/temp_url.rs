//! TempURLs: each request is signed by itself, with a key of the account or of the container.
//!
//! The signature is HMAC-SHA256 over method, end and path
//! (<https://docs.openstack.org/swift/latest/api/temporary_url_middleware.html>). It is made when a request is sent, and is
//! in no URL that is shown.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{Method, Uri, request::Parts, uri::PathAndQuery};
use percent_encoding::percent_decode_str;
use ring::hmac;

use crate::{Code, Error, keystone::secret::Secret, web::sign::Sign};

/// How long a signature opens: longer than clocks differ, and than a request takes.
const LIFE: Duration = Duration::from_secs(24 * 3600);

/// Signs with a key.
pub(super) struct TempUrl {
    key: Secret,
}

impl TempUrl {
    pub fn new(key: Secret) -> Self {
        Self { key }
    }

    /// The path with its signature.
    fn signed(&self, method: &Method, path: &str, end: u64) -> String {
        // Whatever stands before, Swift knows its own path only.
        let own = path.find("/v1/").map_or(path, |at| &path[at..]);
        let mut text = format!("{method}\n{end}\n").into_bytes();
        text.extend(percent_decode_str(own));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.key.reveal().as_bytes());
        let signature = HEXLOWER.encode(hmac::sign(&key, &text).as_ref());
        format!("{path}?temp_url_sig={signature}&temp_url_expires={end}")
    }
}

impl Sign for TempUrl {
    fn sign<'a>(&'a self, request: &'a mut Parts, home: bool) -> LocalBoxFuture<'a, Result<(), Error>> {
        async move {
            if !home {
                return Ok(());
            }
            let end = (SystemTime::now() + LIFE).duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let signed = self.signed(&request.method, request.uri.path(), end);
            let mut uri = request.uri.clone().into_parts();
            let unusable = || Error::fatal(Code::Internal, "a signed URL cannot be sent");
            uri.path_and_query = Some(PathAndQuery::try_from(signed).map_err(|_| unusable())?);
            request.uri = Uri::from_parts(uri).map_err(|_| unusable())?;
            Ok(())
        }
        .boxed_local()
    }

    fn advice(&self) -> &'static str {
        "look at temp_url_key and storage_url, whether the server takes SHA-256, and at the clocks"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_that_swift_makes() {
        // python3: hmac.new(b"mykey", b"GET\n1440619048\n/v1/AUTH_account/container/o \xc3\xa4", "sha256").hexdigest()
        let signer = TempUrl::new(Secret::new("mykey"));
        let wanted = "eb31eb6c2fea218a40aa7318a2879a0142e558e49af12c75308666773c8f7e65";
        for before in ["", "/swift"] {
            let path = format!("{before}/v1/AUTH_account/container/o%20%C3%A4");
            let signed = signer.signed(&Method::GET, &path, 1_440_619_048);
            assert_eq!(signed, format!("{path}?temp_url_sig={wanted}&temp_url_expires=1440619048"));
        }
    }
}
