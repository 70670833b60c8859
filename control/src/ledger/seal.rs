//! Secrets at rest: sealed with ChaCha20-Poly1305 (RFC 8439) under a key that lies in a file beside the store.
//!
//! What is sealed is bound to the transfer (or credential) it belongs to, so that it opens nowhere else. Digests of what must be
//! compared but not kept (destinations, idempotency keys, bodies) are HMAC-SHA-256 under the same secret, so that
//! nobody can try guesses against the store without the key file.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use staccato_protocols::{ObjectUrl, Options, Registry, contract::CREDENTIAL};

use crate::model::{TransferId, transfer::REDACTED};

const SECRET_BYTES: usize = 32;
/// First byte of everything sealed: the version of the form.
const FORM: u8 = 1;
/// What a credential is bound to begins with this: longer than the id that a transfer is bound to.
const CREDENTIAL_BOUND: &[u8] = b"staccato credential\n";

/// The key that seals secrets.
pub struct Seal {
    sealing: LessSafeKey,
    digesting: hmac::Key,
    random: SystemRandom,
}

/// The parts of a transfer that are shown as `<redacted>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Secrets {
    /// The source with its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_url: Option<ObjectUrl>,
    /// The destination with its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_url: Option<ObjectUrl>,
    /// Secret options of the source.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub source_options: Options,
    /// Secret options of the destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub destination_options: Options,
}

impl Secrets {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Splits what may be shown from what may not: the shown URL and options, and the secret ones.
pub(crate) fn redact(
    registry: &Registry,
    url: &ObjectUrl,
    options: &Options,
) -> (String, Options, Option<ObjectUrl>, Options) {
    let shown_url = url.redacted();
    let secret_url = (shown_url != url.as_str()).then(|| url.clone());
    let (mut shown, mut secret) = (Options::new(), Options::new());
    for (name, value) in options {
        if name != CREDENTIAL && registry.is_secret(url, name) {
            shown.insert(name.clone(), REDACTED.into());
            secret.insert(name.clone(), value.clone());
        } else {
            shown.insert(name.clone(), value.clone());
        }
    }
    (shown_url, shown, secret_url, secret)
}

/// Something sealed does not open: another key, another place, or damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secrets cannot be opened; was the key file replaced?")]
pub struct Unsealable;

impl Seal {
    /// The key in the file at `path`, which is made (mode 0600, durable) when there is none. A file that others may
    /// read is refused.
    pub fn open(path: &Path) -> io::Result<Self> {
        let secret = match File::open(path) {
            Ok(file) => read_secret(file, path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => create_secret(path)?,
            Err(error) => return Err(error),
        };
        Ok(Self::from_secret(&secret))
    }

    /// A key that lives as long as this value, for tests and for stores that do.
    pub fn ephemeral() -> Self {
        let mut secret = [0; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).expect("the kernel's random numbers are always there after boot");
        Self::from_secret(&secret)
    }

    fn from_secret(secret: &[u8; SECRET_BYTES]) -> Self {
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"staccato seal 1").extract(secret);
        let derive = |label: &'static [u8]| {
            let mut key = [0; SECRET_BYTES];
            root.expand(&[label], hkdf::HKDF_SHA256)
                .and_then(|material| material.fill(&mut key))
                .expect("32 bytes are within what HKDF gives");
            key
        };
        let sealing =
            UnboundKey::new(&CHACHA20_POLY1305, &derive(b"secrets")).expect("the key has the cipher's length");
        Self {
            sealing: LessSafeKey::new(sealing),
            digesting: hmac::Key::new(hmac::HMAC_SHA256, &derive(b"digests")),
            random: SystemRandom::new(),
        }
    }

    pub(crate) fn seal(&self, id: TransferId, secrets: &Secrets) -> Vec<u8> {
        self.seal_within(id.as_uuid().as_bytes(), secrets)
    }

    pub(crate) fn unseal(&self, id: TransferId, sealed: &[u8]) -> Result<Secrets, Unsealable> {
        self.unseal_within(id.as_uuid().as_bytes(), sealed)
    }

    /// Seals the values of a credential, which open with the same `head` only.
    pub(crate) fn seal_credential(&self, head: &[u8], options: &Options) -> Vec<u8> {
        self.seal_within(&[CREDENTIAL_BOUND, head].concat(), options)
    }

    pub(crate) fn unseal_credential(&self, head: &[u8], sealed: &[u8]) -> Result<Options, Unsealable> {
        self.unseal_within(&[CREDENTIAL_BOUND, head].concat(), sealed)
    }

    fn seal_within(&self, bound: &[u8], secrets: &impl Serialize) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).expect("the kernel's random numbers are always there after boot");
        let mut text = serde_json::to_vec(secrets).expect("secrets are strings");
        self.sealing
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(bound), &mut text)
            .expect("secrets are far shorter than the cipher's bound");
        [&[FORM][..], &nonce, &text].concat()
    }

    fn unseal_within<T: DeserializeOwned>(&self, bound: &[u8], sealed: &[u8]) -> Result<T, Unsealable> {
        let (form, rest) = sealed.split_first().ok_or(Unsealable)?;
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(Unsealable)?;
        if *form != FORM {
            return Err(Unsealable);
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unsealable)?;
        let mut text = text.to_vec();
        let plain = self.sealing.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| Unsealable)?;
        serde_json::from_slice(plain).map_err(|_| Unsealable)
    }

    /// A secret of its own for `purpose`, the same as long as the key is.
    pub(crate) fn derived(&self, purpose: &str) -> [u8; SECRET_BYTES] {
        let tag = hmac::sign(&self.digesting, &[b"derived ", purpose.as_bytes()].concat());
        tag.as_ref().try_into().expect("an HMAC of SHA-256 has 32 bytes")
    }

    /// A digest that only this key makes; `parts` are kept apart.
    pub(crate) fn digest(&self, purpose: &str, parts: &[impl AsRef<[u8]>]) -> String {
        let mut context = hmac::Context::with_key(&self.digesting);
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().map(AsRef::as_ref)) {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        let digest = context.sign().as_ref()[..16].try_into().expect("an HMAC of SHA-256 has 32 bytes");
        format!("{:032x}", u128::from_be_bytes(digest))
    }
}

fn read_secret(file: File, path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()));
    if file.metadata()?.mode() & 0o077 != 0 {
        return Err(invalid("others may read this key file; run chmod 600 on it"));
    }
    let mut secret = Vec::with_capacity(SECRET_BYTES);
    (&file).take(SECRET_BYTES as u64 + 1).read_to_end(&mut secret)?;
    secret.try_into().map_err(|_| invalid("this is no key file: it must have 32 bytes"))
}

/// Writes a new secret beside `path`, syncs it and links it there, so that a crash leaves a whole key or none; whoever
/// was first wins.
fn create_secret(path: &Path) -> io::Result<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut secret).map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let aside = path.with_extension(format!("new-{}", std::process::id()));
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return read_secret(File::open(path)?, path),
        Err(error) => return Err(error),
    }
    File::open(folder)?.sync_all()?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use std::os::unix::fs::PermissionsExt;

    fn secrets() -> Secrets {
        Secrets {
            source_options: [("header.authorization".into(), "Bearer s3cr3t".into())].into(),
            ..Secrets::default()
        }
    }

    #[test]
    fn opens_with_the_same_key_and_id_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let id = TransferId::following(None, Timestamp::from_millis(1), 1);
        let sealed = Seal::open(&path).unwrap().seal(id, &secrets());
        assert!(!sealed.windows(6).any(|window| window == b"s3cr3t"));
        let again = Seal::open(&path).unwrap();
        assert_eq!(again.unseal(id, &sealed), Ok(secrets()));
        let other = TransferId::following(Some(id), Timestamp::from_millis(1), 1);
        assert_eq!(again.unseal(other, &sealed), Err(Unsealable));
        assert_eq!(Seal::ephemeral().unseal(id, &sealed), Err(Unsealable));
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert_eq!(again.unseal(id, &damaged), Err(Unsealable), "byte {at}");
            assert_eq!(again.unseal(id, &sealed[..at]), Err(Unsealable));
        }
    }

    #[test]
    fn the_key_file_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        Seal::open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Seal::open(&path).is_err(), "others may read it");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(Seal::open(&path).is_err());
    }

    #[test]
    fn digests_keep_their_parts_apart() {
        let seal = Seal::ephemeral();
        assert_ne!(seal.digest("key", &["ab", "c"]), seal.digest("key", &["a", "bc"]));
        assert_ne!(seal.digest("key", &["a"]), seal.digest("body", &["a"]));
        assert_eq!(seal.digest("key", &["a"]), seal.digest("key", &["a"]));
    }
}
