//! [`ClientTls`]: TLS for clients.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use getty_core::Protocol;
use getty_core::layer::tls::Tls;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, KeyLogFile, SignatureScheme};
use rustls_platform_verifier::Verifier;

use super::error::TlsSetupError;
use super::identity::{Identity, read};
use super::pem::roots;
use super::provider::provider;
use crate::endpoint::security::Security;

/// A client's trusted roots and own certificate. For [`ClientBuilder::tls`](crate::ClientBuilder::tls).
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

impl ClientTls {
    /// Trusts the system's trusted authorities.
    ///
    /// # Errors
    /// The system's trusted authorities cannot be found.
    pub fn new() -> Result<Self, TlsSetupError> {
        ClientTls::builder().build()
    }

    /// Returns a builder with the defaults of [`new`](Self::new).
    pub fn builder() -> ClientTlsBuilder {
        ClientTlsBuilder {
            trust: Trust::System,
            identity: None,
            alpn: Vec::new(),
            server_name: None,
            key_log: false,
        }
    }

    /// Uses a configuration of rustls as it is.
    pub fn from_config(config: Arc<ClientConfig>) -> Self {
        ClientTls { config, server_name: None }
    }

    /// Sets another name or address for which the server's certificate must be valid, instead of the host in
    /// the address. A name is also sent to the server (SNI).
    ///
    /// # Errors
    /// No certificate can be valid for it.
    pub fn with_server_name(mut self, name: impl Into<String>) -> Result<Self, TlsSetupError> {
        let name = name.into();
        self.server_name = Some(server_name(&name).map_err(|_| TlsSetupError::ServerName(name))?);
        Ok(self)
    }
}

impl Security for ClientTls {
    type Layer = Tls;
    type Wrapped<P: Protocol> = P::Under<Tls>;

    fn is_secure(&self) -> bool {
        true
    }

    fn layer(&self, host: &str) -> io::Result<Tls> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host)?,
        };
        Tls::client(self.config.clone(), name).map_err(io::Error::other)
    }

    fn wrap<P: Protocol>(layer: Tls, protocol: P) -> P::Under<Tls> {
        protocol.under(layer)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("server_name", &self.server_name)
            .field("alpn", &self.config.alpn_protocols)
            .finish_non_exhaustive()
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let text = format!(
            "no certificate can be valid for {host:?}: set the server's name (ClientTls::with_server_name)"
        );
        io::Error::new(io::ErrorKind::InvalidInput, text)
    })
}

/// Builds a [`ClientTls`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ClientTlsBuilder {
    trust: Trust,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    server_name: Option<String>,
    key_log: bool,
}

/// How a server's certificate is verified.
#[derive(Debug)]
enum Trust {
    System,
    Roots(Vec<u8>),
    Anybody,
}

impl ClientTlsBuilder {
    /// Trusts the authorities in `pem` instead of the system's.
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.trust = Trust::Roots(pem.into());
        self
    }

    /// Trusts the authorities in a PEM file instead of the system's.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn roots_file(self, path: impl AsRef<Path>) -> Result<Self, TlsSetupError> {
        let pem = read(path.as_ref())?;
        Ok(self.roots_pem(pem))
    }

    /// **Accepts any certificate**: anyone between this client and the server can read and change everything.
    /// Only for experiments on your own machine.
    pub fn dangerously_trust_anybody(mut self) -> Self {
        self.trust = Trust::Anybody;
        self
    }

    /// Presents this certificate to servers that request one.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Sets the application protocols, the preferred one first (ALPN, RFC 7301). Default none.
    pub fn alpn<T: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = T>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the name or address for which the server's certificate must be valid. A name is also sent to the
    /// server (SNI). Default: the host in the address.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets whether the secrets of all connections are written to the file that the environment variable
    /// `SSLKEYLOGFILE` names, for analysis of recorded traffic. Default off; not for production.
    pub fn key_log(mut self, on: bool) -> Self {
        self.key_log = on;
        self
    }

    /// Builds the [`ClientTls`].
    ///
    /// # Errors
    /// The trusted authorities are missing or invalid, the identity's key does not belong to its certificate
    /// or is of an unsupported type, or the server's name is invalid.
    pub fn build(self) -> Result<ClientTls, TlsSetupError> {
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = match self.trust {
            Trust::System => Arc::new(Verifier::new(provider.clone()).map_err(TlsSetupError::Platform)?),
            Trust::Roots(pem) => {
                WebPkiServerVerifier::builder_with_provider(roots(&pem)?, provider.clone()).build()?
            }
            Trust::Anybody => Arc::new(Anybody(provider.clone())),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let certified = SingleCertAndKey::from(identity.certified()?);
                builder.with_client_cert_resolver(Arc::new(certified))
            }
        };
        config.alpn_protocols = self.alpn;
        if self.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        let tls = ClientTls::from_config(Arc::new(config));
        match self.server_name {
            None => Ok(tls),
            Some(name) => tls.with_server_name(name),
        }
    }
}

/// Accepts every certificate, but still checks that the server has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
