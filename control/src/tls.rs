//! TLS at the service's own door: its certificate, which may be renewed while it runs.
//!
//! Certificates are short-lived. Files that change are read again within seconds; connections that are there keep what
//! they began with. Files that cannot be used are said and left alone: the certificate that was good stays.

use std::{
    fmt, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, SystemTime},
};

use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// A certificate and its key, in files.
#[derive(Clone)]
pub struct Identity {
    shared: Arc<Shared>,
}

struct Shared {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// A file that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used: {why}", .path.display())]
pub struct TlsError {
    /// Which one.
    path: PathBuf,
    /// What is wrong with it.
    why: String,
}

impl Identity {
    /// Reads a chain of certificates (its own first) and the private key, both PEM.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let current = RwLock::new(read(certificate, key)?);
        Ok(Self { shared: Arc::new(Shared { certificate: certificate.into(), key: key.into(), current }) })
    }

    /// How to answer with it: TLS 1.3 and 1.2, HTTP/1.1. Whoever has a certificate of the authority `ca` (PEM) may show it.
    pub fn server(&self, ca: &str) -> Result<Arc<ServerConfig>, TlsError> {
        let unusable = |why: &dyn fmt::Display| TlsError { path: "ca.pem".into(), why: why.to_string() };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.allow_unauthenticated().build().map_err(|error| unusable(&error))?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3");
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(self.shared.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// Reads the files again whenever they change. Never ends.
    pub async fn keep_current(&self) {
        let mut known = self.shared.stamp();
        loop {
            tokio::time::sleep(LOOK).await;
            let shared = self.shared.clone();
            // Files may be on a disk that does not answer.
            let look = tokio::task::spawn_blocking(move || {
                let found = shared.stamp();
                if found != known {
                    shared.reload();
                }
                found
            });
            known = look.await.unwrap_or(known);
        }
    }
}

impl Shared {
    /// What changes when somebody writes the files.
    fn stamp(&self) -> [Option<(SystemTime, u64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        })
    }

    /// Whether the files could be used.
    fn reload(&self) -> bool {
        match read(&self.certificate, &self.key) {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                tracing::info!(certificate = %self.certificate.display(), "the certificate was renewed");
                true
            }
            // Perhaps only one of the two is there yet.
            Err(error) => {
                tracing::warn!(%error, "the certificate was not renewed; the last good one stays");
                false
            }
        }
    }
}

fn read(certificate: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let refused = |path: &Path, why: String| TlsError { path: path.to_owned(), why };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| refused(certificate, pem_trouble(&error)))?;
    if chain.is_empty() {
        return Err(refused(certificate, "there is no certificate in it (PEM, -----BEGIN CERTIFICATE-----)".into()));
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| refused(key, pem_trouble(&error)))?;
    let mode = std::fs::metadata(key).map_or(0, |found| found.permissions().mode());
    if mode & 0o077 != 0 {
        tracing::warn!(key = %key.display(), "others than its owner can read the private key; chmod 600 mends that");
    }
    let both = CertifiedKey::from_der(chain, private, &ring::default_provider());
    both.map(Arc::new).map_err(|error| {
        let why = format!("with the key {}: {error}", key.display());
        refused(certificate, why)
    })
}

fn pem_trouble(error: &rustls::pki_types::pem::Error) -> String {
    match error {
        rustls::pki_types::pem::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => {
            "there is no such file".into()
        }
        rustls::pki_types::pem::Error::NoItemsFound => "there is nothing of the kind in it (PEM)".into(),
        other => other.to_string(),
    }
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_read_again_and_bad_ones_are_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            fs::write(&certificate, made.cert.pem()).unwrap();
            fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        };
        let missing = Identity::read(&certificate, &key).err().unwrap().to_string();
        assert!(missing.contains("cert.pem") && missing.contains("no such file"), "{missing}");
        let (first, second) = (made(), made());
        write(&first);
        let identity = Identity::read(&certificate, &key).unwrap();
        let current = || identity.shared.current.read().unwrap().cert[0].to_vec();
        assert_eq!(current(), first.cert.der().to_vec());

        fs::write(&key, second.signing_key.serialize_pem()).unwrap();
        assert!(!identity.shared.reload(), "a key of another certificate");
        fs::write(&certificate, "").unwrap();
        assert!(!identity.shared.reload());
        assert_eq!(current(), first.cert.der().to_vec());
        write(&second);
        assert!(identity.shared.reload());
        assert_eq!(current(), second.cert.der().to_vec());
    }
}
