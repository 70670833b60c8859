//! How an executor of another host finds the service and knows it: TLS, with a certificate of its own once it has one.

use std::{
    fmt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::clock::ControlClock;

/// What an executor shows the service; nothing before it has enrolled. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Shown(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl Shown {
    /// Shows this certificate from now on.
    pub fn show(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<(), TlsError> {
        let certified = CertifiedKey::from_der(chain, key, &ring::default_provider())?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(certified));
        Ok(())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn has_certs(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shown").field("has_certs", &self.has_certs()).finish()
    }
}

/// The certificates (PEM) in `ca`, or without it the operating system's, and those of the deployment, where they are known.
pub fn trusted(ca: Option<&Path>, deployment: Option<&str>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let unusable = |why: &dyn fmt::Display| format!("the certificates in {} cannot be used: {why}", path.display());
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        for certificate in read.map_err(|error| unusable(&error))? {
            roots.add(certificate).map_err(|error| unusable(&error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = deployment {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem.as_bytes()).flatten());
        }
    }
    if roots.is_empty() {
        return Err("there are no certificates to know the service by; name those of its authority (--ca FILE)".into());
    }
    Ok(roots)
}

/// How to speak TLS with the service.
pub fn client(roots: RootCertStore, shown: Shown, clock: ControlClock) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.build().map_err(|error| error.to_string())?;
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(clock.clone()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(WhateverTheClock { verifier, clock }))
        .with_client_cert_resolver(Arc::new(shown));
    // A session that is resumed is whose it was when it began: nobody's before the executor had enrolled.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Believes what [`WebPkiServerVerifier`] believes. But before the service has told its time, the period in which its
/// certificate is valid is not judged: this host's clock may be wrong, and the service is whom one would ask. What is given
/// up is small: whoever has the key of a certificate of the service that is over could play the service to an executor that
/// has just started.
#[derive(Debug)]
struct WhateverTheClock {
    verifier: Arc<WebPkiServerVerifier>,
    clock: ControlClock,
}

impl ServerCertVerifier for WhateverTheClock {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified = self.verifier.verify_server_cert(leaf, intermediates, name, ocsp, now);
        let moment = Duration::from_secs(1);
        let within = |time: &UnixTime, after: bool| {
            let time = Duration::from_secs(time.as_secs());
            UnixTime::since_unix_epoch(if after { time + moment } else { time.saturating_sub(moment) })
        };
        let valid_at = match &verified {
            _ if self.clock.is_known() => return verified,
            Err(TlsError::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
                within(not_after, false)
            }
            Err(TlsError::InvalidCertificate(CertificateError::NotValidYetContext { not_before, .. })) => {
                within(not_before, true)
            }
            _ => return verified,
        };
        tracing::warn!("the service's certificate is not valid by this host's clock; the service's time will be used");
        self.verifier.verify_server_cert(leaf, intermediates, name, ocsp, valid_at)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair};

    use super::*;

    const DAY_S: u64 = 86_400;

    /// A certificate for `service`, valid from day 20,000 to 20,030 since 1970, and its authority's.
    fn service() -> (CertificateDer<'static>, RootCertStore) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(vec!["service".to_owned()]).unwrap();
        let day = |day: u64| rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(day * DAY_S);
        (params.not_before, params.not_after) = (day(20_000), day(20_030));
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        (leaf, roots)
    }

    #[test]
    fn a_clock_that_is_wrong_hinders_nobody_before_the_service_has_told_its_time_and_nothing_else_is_let_pass() {
        let ((leaf, roots), (_, foreign)) = (service(), service());
        let verifier = |roots: RootCertStore, clock: &ControlClock| {
            let provider = Arc::new(ring::default_provider());
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            WhateverTheClock { verifier, clock: clock.clone() }
        };
        let verify = |verifier: &WhateverTheClock, name: &'static str, day: u64| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(day * DAY_S));
            verifier.verify_server_cert(&leaf, &[], &ServerName::try_from(name).unwrap(), &[], now).is_ok()
        };
        let clock = ControlClock::default();
        let own = verifier(roots.clone(), &clock);
        for day in [20_010, 100, 40_000] {
            assert!(verify(&own, "service", day), "day {day}");
            assert!(!verify(&own, "another", day), "day {day}");
            assert!(!verify(&verifier(foreign.clone(), &clock), "service", day), "day {day}");
        }
        clock.set(40_000 * DAY_S * 1000);
        assert!(verify(&own, "service", 20_010) && !verify(&own, "service", 40_000));
    }
}
