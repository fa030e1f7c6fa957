//! A certificate authority that only its network knows.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// The name of a studio that only a proxy leads to.
pub(super) const FAR: &str = "studio.test";

/// How many there were.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// An authority, and what a studio on loopback says by it.
pub(super) struct Authority {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
    pub(super) server: Arc<ServerConfig>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        // Two with the same name would be taken for one whose signatures are wrong.
        let name = format!("Conformance test authority {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();

        let names = ["localhost", "127.0.0.1", "::1", FAR].map(String::from);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "Conformance test studio");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &issuer).unwrap();

        let server = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::from(key))
            .unwrap();
        Self { certificate: issuer.der().clone(), pem: issuer.pem(), server: Arc::new(server) }
    }
}
