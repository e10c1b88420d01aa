//! Certificates made for a test, and configurations that use them.
#![allow(dead_code)]

use std::sync::Arc;

use getty_core::Protocol;
use getty_core::layer::tls::Tls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

/// An authority that signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, each in PEM.
#[derive(Clone)]
pub struct Signed {
    pub certificate: String,
    pub key: String,
    der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        Arc::new(roots)
    }

    /// Its own certificate, as if it were a server's.
    pub fn itself(&self) -> Signed {
        Signed {
            certificate: self.0.pem(),
            key: self.0.key().serialize_pem(),
            der: self.0.der().clone(),
            key_der: self.0.key().serialize_der(),
        }
    }

    pub fn sign(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |_| {})
    }

    pub fn sign_expired(&self, names: &[&str]) -> Signed {
        self.sign_with(names, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    fn sign_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Signed {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().clone(),
            key_der: key.serialize_der(),
        }
    }
}

impl Signed {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.der.clone()]
    }

    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key_der.clone()).unwrap()
    }
}

/// An authority, and the certificates that it signed for a server at `localhost` and for a client.
pub struct World {
    pub authority: Authority,
    pub server: Signed,
    pub client: Signed,
}

impl World {
    pub fn new() -> Self {
        let authority = Authority::new("the authority of this test");
        let server = authority.sign(&["localhost"]);
        let client = authority.sign(&["a client"]);
        World { authority, server, client }
    }

    pub fn server_config(&self) -> ServerConfig {
        server_config(&self.server, &rustls::version::TLS13)
    }

    pub fn client_config(&self) -> ClientConfig {
        client_config(&self.authority, &rustls::version::TLS13)
    }

    /// A configuration that requires a certificate from clients.
    pub fn strict_server_config(&self) -> ServerConfig {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(self.authority.roots(), provider.clone())
            .build()
            .unwrap();
        ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.server.chain(), self.server.key())
            .unwrap()
    }

    pub fn client_config_with_certificate(&self, signed: &Signed) -> ClientConfig {
        ClientConfig::builder_with_provider(ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.authority.roots())
            .with_client_auth_cert(signed.chain(), signed.key())
            .unwrap()
    }
}

pub fn server_config(signed: &Signed, version: &'static SupportedProtocolVersion) -> ServerConfig {
    ServerConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(signed.chain(), signed.key())
        .unwrap()
}

pub fn client_config(trusted: &Authority, version: &'static SupportedProtocolVersion) -> ClientConfig {
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(trusted.roots())
        .with_no_client_auth()
}

/// The client's end of `protocol`, for a server at `localhost`.
pub fn client<P: Protocol>(config: ClientConfig, protocol: P) -> P::Under<Tls> {
    client_of("localhost", Arc::new(config), protocol)
}

pub fn client_of<P: Protocol>(name: &'static str, config: Arc<ClientConfig>, protocol: P) -> P::Under<Tls> {
    protocol.under(Tls::client(config, ServerName::try_from(name).unwrap()).unwrap())
}

pub fn server<P: Protocol>(config: ServerConfig, protocol: P) -> P::Under<Tls> {
    server_of(&Arc::new(config), protocol)
}

pub fn server_of<P: Protocol>(config: &Arc<ServerConfig>, protocol: P) -> P::Under<Tls> {
    protocol.under(Tls::server(config).unwrap())
}
