//! An executor's membership in a deployment: its key, its certificate, and what it was told when it enrolled, in a folder
//! that only one executor uses at a time. The key is made once; the certificate is renewed before it ends.

use std::{
    fs, io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    time::Duration,
};

use data_encoding::HEXLOWER_PERMISSIVE;
use rcgen::{CertificateParams, KeyPair};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde::{Deserialize, Serialize};
use staccato_dataplane::transport::tls::{self, key_digest};

use super::{
    client::{CallError, Client},
    clock::ControlClock,
    contract::{Enrol, Enrolled},
    door::Shown,
};
use crate::{
    folder,
    ledger::write_key,
    model::HostName,
    pki::{PkiError, write_anew},
};

/// How often it is looked whether the certificate is to be renewed.
const LOOK: Duration = Duration::from_secs(1);
/// Wait after the service did not vouch.
const RETRY: Duration = Duration::from_secs(2);

/// See the module.
pub struct Membership {
    folder: PathBuf,
    key: KeyPair,
    /// What the service said when it vouched last.
    enrolled: Option<Enrolled>,
    /// What the certificate is shown as, to the service and to other executors.
    shown: Shown,
    identity: Option<tls::Identity>,
    clock: ControlClock,
    _lock: OwnedFd,
}

/// What is kept of [`Enrolled`] beside the certificates.
#[derive(Serialize, Deserialize)]
struct Kept {
    name: HostName,
    ticket_key: String,
    renew_after_ms: u64,
}

/// A folder that cannot be used, or holds what cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub struct MembershipError {
    path: PathBuf,
    why: String,
}

impl Membership {
    /// The membership in a folder, which is made where there is none: with a key, and nobody who vouches for it yet.
    pub fn open(folder: &Path, clock: ControlClock) -> Result<Self, MembershipError> {
        let failed =
            |path: &Path, why: &dyn std::fmt::Display| MembershipError { path: path.into(), why: why.to_string() };
        folder::create(folder).map_err(|error| failed(folder, &error))?;
        let lock_path = folder.join("lock");
        let lock = rustix::fs::open(&lock_path, OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, Mode::from(0o600))
            .map_err(|error| failed(&lock_path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| failed(folder, &"another executor uses this folder; give each its own (--data-dir)"))?;
        let key_path = folder.join("key.pem");
        let key = match fs::read_to_string(&key_path) {
            Ok(text) => KeyPair::from_pem(&text).map_err(|error| failed(&key_path, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = KeyPair::generate().map_err(|error| failed(&key_path, &error))?;
                write_anew(&key_path, &key.serialize_pem(), 0o600).map_err(|error| failed(&key_path, &error))?;
                key
            }
            Err(error) => return Err(failed(&key_path, &error)),
        };
        let mut membership = Self {
            folder: folder.into(),
            key,
            enrolled: None,
            shown: Shown::default(),
            identity: None,
            clock,
            _lock: lock,
        };
        if let Some(enrolled) = membership.read().map_err(|error| failed(folder, &error))? {
            membership.take(enrolled)?;
        }
        Ok(membership)
    }

    /// What the service said when it vouched last; none when it has not.
    pub fn enrolled(&self) -> Option<&Enrolled> {
        self.enrolled.as_ref()
    }

    /// What is shown to the service.
    pub fn shown(&self) -> Shown {
        self.shown.clone()
    }

    /// Who the executor is to others; none before it has enrolled.
    pub fn identity(&self) -> Option<tls::Identity> {
        self.identity.clone()
    }

    /// The digest of its key, in hex; none before it has enrolled.
    pub fn key(&self) -> Option<String> {
        self.identity.as_ref().map(|identity| write_key(&identity.key_digest()))
    }

    /// What verifies tickets; none before it has enrolled.
    pub fn ticket_key(&self) -> Option<Vec<u8>> {
        HEXLOWER_PERMISSIVE.decode(self.enrolled.as_ref()?.ticket_key.as_bytes()).ok()
    }

    /// Lets the service vouch for the key: with an invitation, or again.
    pub async fn enrol(
        &mut self,
        client: &Client,
        name: Option<HostName>,
        invitation: Option<&str>,
    ) -> Result<(), CallError> {
        let defect = |why: &dyn std::fmt::Display| CallError::Defect(why.to_string());
        let params = CertificateParams::new(Vec::new()).map_err(|error| defect(&error))?;
        let request = params.serialize_request(&self.key).and_then(|request| request.pem());
        let message = Enrol { name, request: request.map_err(|error| defect(&error))? };
        let enrolled = client.call_showing(&message, invitation).await?;
        self.clock.set(enrolled.control_time_ms);
        self.write(&enrolled).map_err(|error| defect(&error))?;
        self.take(enrolled).map_err(|error| defect(&error))
    }

    /// Renews the certificate whenever it is time to. Never ends.
    pub async fn keep_current(&mut self, client: &Client) {
        loop {
            tokio::time::sleep(LOOK).await;
            let due = self.enrolled.as_ref().is_some_and(|enrolled| self.clock.now_ms() >= enrolled.renew_after_ms);
            if !due {
                continue;
            }
            match self.enrol(client, None, None).await {
                Ok(()) => tracing::info!("the certificate was renewed"),
                Err(error) => {
                    tracing::warn!(%error, "the certificate could not be renewed; it will be tried again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn take(&mut self, enrolled: Enrolled) -> Result<(), MembershipError> {
        let failed = |why: &dyn std::fmt::Display| MembershipError { path: self.folder.clone(), why: why.to_string() };
        let certificates = |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>();
        let chain = certificates(&enrolled.certificate).map_err(|error| failed(&error))?;
        let ca = certificates(&enrolled.ca).map_err(|error| failed(&error))?;
        let key = || PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let leaf = chain.first().ok_or_else(|| failed(&"there is no certificate in it"))?;
        key_digest(leaf).map_err(|error| failed(&error))?;
        self.shown.show(chain.clone(), key()).map_err(|error| failed(&error))?;
        match &self.identity {
            Some(identity) => identity.renew(chain, key()).map_err(|error| failed(&error))?,
            None => {
                let time = std::sync::Arc::new(self.clock.control_time());
                let identity = tls::Identity::new(chain, key(), &ca, time).map_err(|error| failed(&error))?;
                self.identity = Some(identity);
            }
        }
        self.enrolled = Some(enrolled);
        Ok(())
    }

    fn read(&self) -> io::Result<Option<Enrolled>> {
        let read = |name: &str| match fs::read_to_string(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        };
        let (Some(kept), Some(certificate), Some(ca)) = (read("enrolled.json")?, read("cert.pem")?, read("ca.pem")?)
        else {
            return Ok(None);
        };
        let Kept { name, ticket_key, renew_after_ms } = serde_json::from_str(&kept)?;
        Ok(Some(Enrolled { name, certificate, ca, ticket_key, renew_after_ms, control_time_ms: 0 }))
    }

    /// The certificate last: it counts only with the others.
    fn write(&self, enrolled: &Enrolled) -> Result<(), PkiError> {
        let Enrolled { name, ticket_key, renew_after_ms, .. } = enrolled.clone();
        let kept = serde_json::to_string(&Kept { name, ticket_key, renew_after_ms }).expect("strings and numbers");
        write_anew(&self.folder.join("enrolled.json"), &kept, 0o600)?;
        write_anew(&self.folder.join("ca.pem"), &enrolled.ca, 0o644)?;
        write_anew(&self.folder.join("cert.pem"), &enrolled.certificate, 0o644)
    }
}
