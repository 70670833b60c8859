//! The cryptography of every connection that speaks TLS.

use rustls::{CipherSuite, crypto::CryptoProvider};

/// ring's, with AES-128 before AES-256 and ChaCha20, as browsers have it: as good for what can be foreseen, and bulk data
/// crosses for a fifth less CPU at both ends (servers mostly follow the client's order). It is passed where it is wanted,
/// not installed: the process-wide default belongs to the binary.
pub fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.sort_by_key(|suite| !is_aes_128(suite.suite()));
    provider
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_comes_first_and_none_is_missing() {
        let suites: Vec<_> = provider().cipher_suites.iter().map(|suite| suite.suite()).collect();
        assert_eq!(suites[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(suites.len(), rustls::crypto::ring::default_provider().cipher_suites.len());
        assert!(suites.iter().take(3).all(|suite| is_aes_128(*suite)), "{suites:?}");
    }
}
