//! A deployment's CA, for tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{serve::ControlTime, tls::Identity};

/// A deployment's CA, and the control plane's clock.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root: CertificateDer<'static>,
    pub now_ms: Arc<AtomicU64>,
}

/// Days since 1970 on which certificates begin to be valid, and the last such day.
pub const DAYS: (i64, i64) = (20_000, 20_030);
pub const DAY_MS: u64 = 86_400_000;

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        let now_ms = Arc::new(AtomicU64::new(20_010 * DAY_MS));
        Self { issuer: Issuer::new(params, key), root, now_ms }
    }

    pub fn issue(&self, host: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let day = |day: i64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(day as u64 * 86_400);
        (params.not_before, params.not_after) = (day(DAYS.0), day(DAYS.1));
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        (vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
    }

    pub fn identity(&self, host: &str) -> Identity {
        let (chain, key) = self.issue(host);
        self.identity_with(chain, key)
    }

    pub fn identity_with(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Identity {
        let clock = self.now_ms.clone();
        let time: ControlTime = Box::new(move || clock.load(Ordering::Relaxed));
        Identity::new(chain, key, std::slice::from_ref(&self.root), Arc::new(time)).unwrap()
    }
}
