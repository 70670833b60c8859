//! TLS 1.3 between two executors: who they are, and the stream.
//!
//! Both show certificates of the deployment's own CA. The reader knows the name of whom it wants to reach; the owner
//! knows nobody beforehand, and lets tickets decide what a reader's key is good for ([`KeyDigest`]). Whether a
//! certificate has expired is judged by the control plane's clock, for an executor's own may be wrong.

mod outgoing;
mod stream;

#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::{
    digest::{SHA256, digest},
    hmac,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    time_provider::TimeProvider,
    version::TLS13,
};
use staccato_protocols::{Code, Error, tls::provider};

use super::{connection::Stream, serve::ControlTime, ticket::KeyDigest};

/// What the two speak inside TLS, so that nobody takes one protocol for another.
const ALPN: &[u8] = b"staccato-executor/1";

/// An executor's certificate and key, and whose certificates it believes.
#[derive(Clone)]
pub struct Identity {
    own: Arc<Own>,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    quic_client: Arc<QuicClientConfig>,
    quic_server: Arc<QuicServerConfig>,
    /// Nobody else knows it, and the executor knows it again after it was restarted.
    secret: Arc<hmac::Key>,
}

/// What it shows; it may be renewed while connections are there, which keep what they began with.
struct Own(RwLock<Arc<CertifiedKey>>);

impl Identity {
    /// With a chain of certificates (its own first), the private key, and the CA's certificates.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: &[CertificateDer<'static>],
        time: Arc<ControlTime>,
    ) -> Result<Self, Error> {
        let provider = Arc::new(provider());
        let time = Arc::new(Clock(time));
        let mut roots = RootCertStore::empty();
        for certificate in ca {
            roots.add(certificate.clone()).map_err(|error| unusable("the CA's certificate", &error))?;
        }
        let roots = Arc::new(roots);
        let secret = Arc::new(hmac::Key::new(hmac::HMAC_SHA256, key.secret_der()));
        let own = Arc::new(Own(RwLock::new(certified(chain, key, &provider)?)));
        let mut client = ClientConfig::builder_with_details(provider.clone(), time.clone())
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks TLS 1.3")
            .with_root_certificates(roots.clone())
            .with_client_cert_resolver(own.clone());
        // Connections are few and long: each shows who is at its end.
        client.resumption = Resumption::disabled();
        client.alpn_protocols = vec![ALPN.to_vec()];
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
        let verifier = verifier.map_err(|error| unusable("the CA's certificate", &error))?;
        let mut server = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])
            .expect("ring speaks TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(own.clone());
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.alpn_protocols = vec![ALPN.to_vec()];
        let (client, server) = (Arc::new(client), Arc::new(server));
        let suites = "ring has the suite of QUIC's first packets (RFC 9001, 5.2)";
        let quic_client = Arc::new(QuicClientConfig::try_from(client.clone()).expect(suites));
        let quic_server = Arc::new(QuicServerConfig::try_from(server.clone()).expect(suites));
        Ok(Self { own, client, server, quic_client, quic_server, secret })
    }

    /// Shows another certificate from now on.
    pub fn renew(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), Error> {
        let new = certified(chain, key, &provider())?;
        *self.own.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The digest of its own key: what tickets name it by.
    pub fn key_digest(&self) -> KeyDigest {
        let own = self.own.current();
        key_digest(&own.cert[0]).expect("it was read when it was taken")
    }

    /// What it shows, and the key to it.
    pub(super) fn own(&self) -> Arc<CertifiedKey> {
        self.own.current()
    }

    /// Whether the two are one: what one of them renews, the other shows.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.own, &other.own)
    }

    /// The same inside QUIC, for connections to others.
    pub(super) fn quic_client(&self) -> Arc<QuicClientConfig> {
        self.quic_client.clone()
    }

    /// What only this executor can derive from `purpose`, again and again while it has the key that it began with.
    pub(super) fn derive(&self, purpose: &[u8]) -> [u8; 32] {
        hmac::sign(&self.secret, purpose).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// The same inside QUIC, for connections of readers.
    pub(super) fn quic_server(&self) -> Arc<QuicServerConfig> {
        self.quic_server.clone()
    }

    /// Speaks TLS with the executor `host` at the other end of `stream`.
    pub async fn connect(&self, stream: Box<dyn Stream>, host: &str) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let (stream, peer) = stream::connect(ALPN, self.client.clone(), name, stream).await?;
        peer.is_some().then_some(stream).ok_or_else(|| io::Error::other("it shows no certificate"))
    }

    /// Speaks TLS with a reader; whose key is at the other end.
    pub async fn accept(&self, stream: Box<dyn Stream>) -> io::Result<(Box<dyn Stream>, KeyDigest)> {
        let (stream, peer) = stream::accept(ALPN, self.server.clone(), stream).await?;
        let peer = peer.ok_or_else(|| io::Error::other("it shows no certificate"))?;
        Ok((stream, key_digest(&peer)?))
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Arc<CertifiedKey>, Error> {
    let own = CertifiedKey::from_der(chain, key, provider);
    let own = own.map_err(|error| unusable("the executor's certificate", &error))?;
    let leaf = own.cert.first().ok_or_else(|| unusable("the executor's certificate", &"it is not there"))?;
    key_digest(leaf).map_err(|error| unusable("the executor's certificate", &error))?;
    Ok(Arc::new(own))
}

fn unusable(what: &str, why: &dyn fmt::Display) -> Error {
    Error::fatal(Code::TlsFailed, format!("{what} cannot be used: {why}"))
}

/// The digest of the key in a certificate.
pub fn key_digest(certificate: &CertificateDer<'_>) -> io::Result<KeyDigest> {
    let parsed = ParsedCertificate::try_from(certificate).map_err(io::Error::other)?;
    let digest = digest(&SHA256, parsed.subject_public_key_info().as_ref());
    Ok(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

impl Own {
    fn current(&self) -> Arc<CertifiedKey> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Own")
    }
}

/// The control plane's clock.
struct Clock(Arc<ControlTime>);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis((self.0)())))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
