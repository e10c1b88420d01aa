//! [`ServerTls`]: TLS for servers.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use getty_core::Protocol;
use getty_core::layer::tls::Tls;
use rustls::crypto::ring::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{KeyLogFile, ServerConfig};

use super::error::TlsSetupError;
use super::identity::{Identity, read};
use super::pem::roots;
use super::provider::provider;
use crate::endpoint::security::Security;

/// A server's certificate, and the certificates it requires from clients. For
/// [`ServerBuilder::tls`](crate::ServerBuilder::tls).
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    current: Option<(Arc<Current>, Arc<Tickets>)>,
}

impl ServerTls {
    /// Presents `identity`, and requests no certificates from clients.
    ///
    /// # Errors
    /// The key does not belong to the certificate, or is of an unsupported type.
    pub fn new(identity: Identity) -> Result<Self, TlsSetupError> {
        ServerTls::builder(identity).build()
    }

    /// Returns a builder with the defaults of [`new`](Self::new).
    pub fn builder(identity: Identity) -> ServerTlsBuilder {
        ServerTlsBuilder { identity, clients: ClientCertificates::None, alpn: Vec::new(), key_log: false }
    }

    /// Uses a configuration of rustls as it is.
    ///
    /// # Errors
    /// The configuration cannot be used; see [`TlsConfigError`](getty_core::layer::tls::TlsConfigError).
    pub fn from_config(config: Arc<ServerConfig>) -> Result<Self, TlsSetupError> {
        Tls::server(&config)?; // errors show now, not when a client connects
        Ok(ServerTls { config, current: None })
    }

    /// Presents `identity` to clients that connect from now on. Existing sessions go on, but no earlier TLS
    /// session can be resumed by a ticket.
    ///
    /// # Errors
    /// The key does not belong to the certificate or is of an unsupported type, or this was made by
    /// [`from_config`](Self::from_config).
    pub fn replace_identity(&self, identity: Identity) -> Result<(), TlsSetupError> {
        let Some((current, tickets)) = &self.current else { return Err(TlsSetupError::NotReplaceable) };
        let (certified, ticketer) = (identity.certified()?, Ticketer::new()?);
        *current.0.write().unwrap_or_else(PoisonError::into_inner) = certified;
        *tickets.0.write().unwrap_or_else(PoisonError::into_inner) = ticketer;
        Ok(())
    }
}

impl Security for ServerTls {
    type Layer = Tls;
    type Wrapped<P: Protocol> = P::Under<Tls>;

    fn is_secure(&self) -> bool {
        true
    }

    fn layer(&self, _host: &str) -> io::Result<Tls> {
        Tls::server(&self.config).map_err(io::Error::other)
    }

    fn wrap<P: Protocol>(layer: Tls, protocol: P) -> P::Under<Tls> {
        protocol.under(layer)
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("alpn", &self.config.alpn_protocols).finish_non_exhaustive()
    }
}

/// Certificates required from clients.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// None is requested, and none is looked at.
    #[default]
    None,
    /// A certificate signed by one of these authorities (PEM), or none: see
    /// [`TlsFacts::peer_certificates`](getty_core::layer::tls::TlsFacts::peer_certificates).
    Optional(Vec<u8>),
    /// A certificate signed by one of these authorities (PEM). Other clients are refused.
    Required(Vec<u8>),
}

impl ClientCertificates {
    /// [`Required`](Self::Required), with the authorities in a PEM file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn required_by_file(path: impl AsRef<Path>) -> Result<Self, TlsSetupError> {
        read(path.as_ref()).map(ClientCertificates::Required)
    }

    fn verifier(&self) -> Result<Arc<dyn ClientCertVerifier>, TlsSetupError> {
        Ok(match self {
            ClientCertificates::None => Arc::new(NoClientAuth),
            ClientCertificates::Optional(pem) => {
                WebPkiClientVerifier::builder_with_provider(roots(pem)?, provider())
                    .allow_unauthenticated()
                    .build()?
            }
            ClientCertificates::Required(pem) => {
                WebPkiClientVerifier::builder_with_provider(roots(pem)?, provider()).build()?
            }
        })
    }
}

/// Builds a [`ServerTls`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ServerTlsBuilder {
    identity: Identity,
    clients: ClientCertificates,
    alpn: Vec<Vec<u8>>,
    key_log: bool,
}

impl ServerTlsBuilder {
    /// Sets the certificates required from clients. Default none.
    pub fn client_certificates(mut self, clients: ClientCertificates) -> Self {
        self.clients = clients;
        self
    }

    /// Sets the application protocols, the preferred one first (ALPN, RFC 7301). A client that offers only
    /// others is refused. Default none.
    pub fn alpn<T: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = T>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Sets whether the secrets of all connections are written to the file that the environment variable
    /// `SSLKEYLOGFILE` names, for analysis of recorded traffic. Default off; not for production.
    pub fn key_log(mut self, on: bool) -> Self {
        self.key_log = on;
        self
    }

    /// Builds the [`ServerTls`].
    ///
    /// # Errors
    /// The key does not belong to the certificate or is of an unsupported type, or the list of client
    /// authorities is empty or invalid.
    pub fn build(self) -> Result<ServerTls, TlsSetupError> {
        let current = Arc::new(Current(RwLock::new(self.identity.certified()?)));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(self.clients.verifier()?)
            .with_cert_resolver(current.clone());
        config.alpn_protocols = self.alpn;
        // Tickets contain the session, so there is no table that clients could fill.
        let tickets = Arc::new(Tickets(RwLock::new(Ticketer::new()?)));
        config.ticketer = tickets.clone();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.key_log {
            config.key_log = Arc::new(KeyLogFile::new());
        }
        let tls = ServerTls::from_config(Arc::new(config))?;
        Ok(ServerTls { current: Some((current, tickets)), ..tls })
    }
}

/// The certificate presented to clients.
#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// The tickets with which clients resume TLS sessions. Those of an earlier identity are not accepted.
struct Tickets(RwLock<Arc<dyn ProducesTickets>>);

impl Tickets {
    fn current(&self) -> Arc<dyn ProducesTickets> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.current().enabled()
    }

    fn lifetime(&self) -> u32 {
        self.current().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.current().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.current().decrypt(cipher)
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").finish_non_exhaustive()
    }
}
