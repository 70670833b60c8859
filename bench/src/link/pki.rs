//! Certificates of a deployment that exists for a measurement: a CA, an owner, a reader, and the secret that signs tickets.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use staccato_dataplane::{
    transport::{serve::ControlTime, tls::Identity},
    yardstick::link::OWNER_NAME,
};

const CA: &str = "ca.der";
const TICKET_SEED: &str = "ticket.seed";
/// What a reader's certificate calls it.
pub const READER_NAME: &str = "reader";

/// Makes a CA, certificates and a secret in a folder.
pub fn write(folder: &Path) -> io::Result<()> {
    let authority_key = KeyPair::generate().map_err(io::Error::other)?;
    let mut authority = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "staccato-bench");
    let root = authority.self_signed(&authority_key).map_err(io::Error::other)?;
    fs::write(folder.join(CA), root.der())?;
    let issuer = Issuer::new(authority, authority_key);
    for name in [OWNER_NAME, READER_NAME] {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(io::Error::other)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &issuer).map_err(io::Error::other)?;
        fs::write(folder.join(format!("{name}.der")), leaf.der())?;
        secret(&folder.join(format!("{name}.key")), &key.serialize_der())?;
    }
    secret(&folder.join(TICKET_SEED), &std::array::from_fn::<u8, 32, _>(|_| fastrand::u8(..)))
}

fn secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// What a folder has for one end.
pub struct Files {
    /// The CA's certificate.
    pub ca: CertificateDer<'static>,
    /// Its own.
    pub certificate: CertificateDer<'static>,
    /// The key of that.
    pub key: PrivateKeyDer<'static>,
}

/// What is there for `name`.
pub fn read(folder: &Path, name: &str) -> io::Result<Files> {
    let file = |name: &str| fs::read(folder.join(name));
    Ok(Files {
        ca: file(CA)?.into(),
        certificate: file(&format!("{name}.der"))?.into(),
        key: PrivateKeyDer::Pkcs8(file(&format!("{name}.key"))?.into()),
    })
}

/// What `name` shows and believes.
pub fn identity(folder: &Path, name: &str) -> io::Result<Identity> {
    let Files { ca, certificate, key } = read(folder, name)?;
    let since_1970 = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let time: ControlTime = Box::new(move || u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX));
    Identity::new(vec![certificate], key, &[ca], Arc::new(time)).map_err(io::Error::other)
}

/// The secret that signs tickets.
pub fn ticket_seed(folder: &Path) -> io::Result<[u8; 32]> {
    fs::read(folder.join(TICKET_SEED))?.try_into().map_err(|_| io::Error::other("a ticket's seed has 32 bytes"))
}
