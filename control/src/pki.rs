//! A deployment's own certificate authority, in a folder: `ca.pem`, to be given to everybody, and `ca-key.pem`, which
//! nobody else may read. It vouches for the service's own door and for executors.
//!
//! Whoever has an authority already needs none of this: certificates are PEM files to all other parts.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};

use staccato_dataplane::transport::{ticket::KeyDigest, tls::key_digest};

use crate::{folder, model::HostName};

/// How long an authority lasts.
const CA_LIFE: Duration = Duration::from_secs(3653 * 86_400);
/// Certificates begin to be valid so much before they are made: others' clocks may be behind.
const BACKDATED: Duration = Duration::from_secs(86_400);

/// An authority that can vouch.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, PEM.
    certificate: String,
}

/// A certificate for a key that somebody else has.
pub struct Vouched {
    /// The certificate, PEM.
    pub certificate: String,
    /// The digest of the key.
    pub key: KeyDigest,
}

/// A certificate and its key, PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What stands against it.
        why: String,
    },
    /// It cannot be made so.
    #[error("no certificate can be made for {name:?}: {why}")]
    Name {
        /// For whom.
        name: String,
        /// What stands against it.
        why: String,
    },
}

impl PkiError {
    fn file(path: &Path, why: impl ToString) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }
}

/// Where an authority's certificate is.
pub fn certificate_path(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

fn key_path(dir: &Path) -> PathBuf {
    dir.join("ca-key.pem")
}

impl Authority {
    /// Makes an authority in a folder that has none.
    pub fn create(dir: &Path, name: &str) -> Result<Self, PkiError> {
        folder::create(dir).map_err(|error| PkiError::file(dir, error))?;
        let refused = |error: rcgen::Error| PkiError::Name { name: name.to_owned(), why: error.to_string() };
        let key = KeyPair::generate().map_err(refused)?;
        let mut params = CertificateParams::new(Vec::new()).map_err(refused)?;
        params.distinguished_name.push(DnType::CommonName, name);
        // It vouches for others, and for none that vouch in turn.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasting(&mut params, CA_LIFE);
        let certificate = params.self_signed(&key).map_err(refused)?;
        // The key first: without it, a certificate would stand in the way of the next try.
        write_new(&key_path(dir), &key.serialize_pem(), 0o600)?;
        write_new(&certificate_path(dir), &certificate.pem(), 0o644)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate: certificate.pem() })
    }

    /// The authority in a folder, which is made where there is none.
    pub fn open_or_create(dir: &Path, name: &str) -> Result<Self, PkiError> {
        // The key tells: it is written first.
        if key_path(dir).exists() { Self::open(dir) } else { Self::create(dir, name) }
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Vouches that the key in a signing request (PEM) is that of the executor on `host`. Nothing but the key is taken from
    /// the request.
    pub fn vouch(&self, request: &str, host: &HostName, life: Duration) -> Result<Vouched, PkiError> {
        let refused = |why: &dyn std::fmt::Display| PkiError::Name { name: host.to_string(), why: why.to_string() };
        // Whoever sends it has the key: it is signed with it.
        let asked = CertificateSigningRequestParams::from_pem(request).map_err(|error| refused(&error))?;
        let mut params = CertificateParams::new(vec![host.to_string()]).map_err(|error| refused(&error))?;
        params.distinguished_name.push(DnType::CommonName, host.as_str());
        good_at_either_end(&mut params);
        lasting(&mut params, life);
        let request = CertificateSigningRequestParams { params, public_key: asked.public_key };
        let made = request.signed_by(&self.issuer).map_err(|error| refused(&error))?;
        let key = key_digest(made.der()).map_err(|error| refused(&error))?;
        Ok(Vouched { certificate: made.pem(), key })
    }

    /// The authority in a folder.
    pub fn open(dir: &Path) -> Result<Self, PkiError> {
        let read = |path: &Path| match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(PkiError::file(path, "there is no such file; `staccato pki init` makes an authority"))
            }
            read => read.map_err(|error| PkiError::file(path, error)),
        };
        let (certificate, key) = (certificate_path(dir), key_path(dir));
        let pair = KeyPair::from_pem(&read(&key)?).map_err(|error| PkiError::file(&key, error))?;
        let text = read(&certificate)?;
        let issuer = Issuer::from_ca_cert_pem(&text, pair);
        Ok(Self { issuer: issuer.map_err(|error| PkiError::file(&certificate, error))?, certificate: text })
    }

    /// A certificate for a host of these names (or addresses), good at either end of a connection.
    pub fn issue(&self, names: &[String], life: Duration) -> Result<Issued, PkiError> {
        let first = names.first().map_or("", String::as_str);
        let refused = |why: &dyn std::fmt::Display| PkiError::Name { name: first.to_owned(), why: why.to_string() };
        if first.is_empty() {
            return Err(refused(&"it has no name"));
        }
        let key = KeyPair::generate().map_err(|error| refused(&error))?;
        let mut params = CertificateParams::new(names).map_err(|error| refused(&error))?;
        params.distinguished_name.push(DnType::CommonName, first);
        good_at_either_end(&mut params);
        lasting(&mut params, life);
        let certificate = params.signed_by(&key, &self.issuer).map_err(|error| refused(&error))?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Issued {
    /// Writes both; the key for its owner's eyes only. Files that are there are replaced, the certificate last: whoever
    /// looks in between finds an old pair or a key that does not fit yet, and looks again.
    pub fn write(&self, certificate: &Path, key: &Path) -> Result<(), PkiError> {
        write_anew(key, &self.key, 0o600)?;
        write_anew(certificate, &self.certificate, 0o644)
    }
}

/// A file in the place of one that may be there, on disk.
pub(crate) fn write_anew(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(PkiError::file(&new, error)),
        _ => write_new(&new, text, mode)?,
    }
    fs::rename(&new, path).map_err(|error| PkiError::file(path, error))
}

fn good_at_either_end(params: &mut CertificateParams) {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
}

fn lasting(params: &mut CertificateParams, life: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(BACKDATED);
    params.not_after = epoch + now + life;
}

/// A file that was not there before, on disk.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => PkiError::file(path, "it is there already, and is left as it is"),
        _ => PkiError::file(path, error),
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
    use staccato_dataplane::transport::{serve::ControlTime, tls};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn an_authority_is_made_once_and_vouches_after_it_was_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pki");
        let missing = Authority::open(&dir).err().unwrap().to_string();
        assert!(missing.contains("ca-key.pem") && missing.contains("staccato pki init"), "{missing}");
        Authority::create(&dir, "a deployment").unwrap();
        let key = fs::read(dir.join("ca-key.pem")).unwrap();
        let again = Authority::create(&dir, "another").err().unwrap().to_string();
        assert!(again.contains("left as it is"), "{again}");
        assert_eq!(fs::read(dir.join("ca-key.pem")).unwrap(), key);
        assert_eq!(fs::metadata(dir.join("ca-key.pem")).unwrap().permissions().mode() & 0o777, 0o600);

        let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        for _renewed in 0..2 {
            let authority = Authority::open(&dir).unwrap();
            let names = ["h1.example.org".to_owned(), "10.0.0.1".to_owned()];
            authority.issue(&names, 90 * DAY).unwrap().write(&certificate, &key).unwrap();
            assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let read = |path: &Path| CertificateDer::from_pem_file(path).unwrap();
        let time: ControlTime = Box::new(|| 0);
        let key = PrivateKeyDer::from_pem_file(&key).unwrap();
        let ca = [read(&certificate_path(&dir))];
        tls::Identity::new(vec![read(&certificate)], key, &ca, Arc::new(time)).unwrap();
        let nameless = Authority::open(&dir).unwrap().issue(&[String::new()], DAY).err().unwrap();
        assert!(nameless.to_string().contains("no name"), "{nameless}");
    }
}
