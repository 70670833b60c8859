//! Which certificates are trusted.

use std::{
    error::Error as StdError,
    io,
    sync::{Arc, OnceLock},
};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::{Code, Error, tls::provider};

/// The operating system's roots, loaded once, and the configuration made from them, shared by every source that names
/// no roots of its own (so that TLS sessions are resumed over all lanes).
#[derive(Default)]
pub(crate) struct Trust {
    native: OnceLock<Native>,
}

struct Native {
    roots: RootCertStore,
    config: Arc<ClientConfig>,
    /// What went wrong while loading, for the message when there is not one root.
    problems: String,
}

/// How to speak TLS; the error to answer with where nobody is trusted.
pub(crate) struct Tls {
    pub config: Arc<ClientConfig>,
    pub unusable: Option<Error>,
}

impl Trust {
    /// TLS that trusts the operating system's roots and `extra`. Blocks on files the first time.
    pub fn with(&self, extra: &[CertificateDer<'static>]) -> Result<Tls, Error> {
        let native = self.native.get_or_init(Native::load);
        let mut roots = native.roots.clone();
        for certificate in extra {
            roots.add(certificate.clone()).map_err(|error| {
                Error::fatal(Code::InvalidOption, format!("ca: a certificate cannot serve as a root ({error})"))
            })?;
        }
        let unusable = roots.is_empty().then(|| {
            Error::fatal(
                Code::TlsFailed,
                format!(
                    "no trusted root certificates were found on this host{}; install them (on Debian the package \
                     ca-certificates) or pass the option ca",
                    native.problems
                ),
            )
        });
        let config = if extra.is_empty() { native.config.clone() } else { config(roots) };
        Ok(Tls { config, unusable })
    }
}

impl Native {
    fn load() -> Self {
        let loaded = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        // Old stores hold roots that cannot be parsed any more; the others still count.
        let (_, ignored) = roots.add_parsable_certificates(loaded.certs);
        let problems: String = loaded.errors.iter().map(|error| format!(" ({error})")).collect();
        if ignored > 0 || !problems.is_empty() {
            tracing::warn!(ignored, problems, "some root certificates of this host cannot be used");
        }
        Self { config: config(roots.clone()), roots, problems }
    }
}

fn config(roots: RootCertStore) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3");
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// What became of an attempt to connect to `host`.
pub(crate) fn connect_error(error: &(dyn StdError + 'static), host: &str) -> Error {
    // What was refused before anybody was asked.
    if let Some(refused) = causes(error).find_map(|cause| cause.downcast_ref::<Error>()) {
        return refused.clone();
    }
    match tls_cause(error) {
        // The other side's trouble may pass; a certificate or a version that does not fit will not.
        Some(cause @ rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)) => {
            Error::retry(Code::TlsFailed, format!("{host} broke off the TLS handshake: {cause}"))
        }
        Some(cause @ rustls::Error::InvalidCertificate(_)) => Error::fatal(
            Code::TlsFailed,
            format!("the certificate of {host} is not trusted: {cause}; a root of your own goes into the option ca"),
        ),
        Some(cause) => Error::fatal(Code::TlsFailed, format!("the TLS handshake with {host} failed: {cause}")),
        None => Error::retry(Code::ConnectFailed, format!("cannot connect to {host}: {}", innermost(error))),
    }
}

/// The TLS error among the causes of an error.
pub(crate) fn tls_cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

/// The causes of an error, itself first. `io::Error::source` skips the error it wraps, so that one is looked at by
/// hand.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| {
        let error: &'a (dyn StdError + 'static) = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        }
    })
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}
