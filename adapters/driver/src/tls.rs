//! TLS for servers and clients: [`ServerTls`], [`ClientTls`].
//!
//! The work is done by [`rustls`], with the cryptography of `ring`: TLS 1.3 and 1.2. Whoever wants another provider, or
//! anything that has no setter here, makes a configuration of rustls and uses `from_config`.

mod client;
mod identity;
mod key;
mod pem;
mod server;

pub use client::{ClientTls, ClientTlsBuilder};
pub use identity::{Identity, TlsSetupError};
pub use rustls;
pub use server::{ClientCertificates, ServerTls, ServerTlsBuilder};

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;

/// The cryptography: `ring`.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The certificates in `pem`, as those of authorities that are trusted.
fn roots(pem: &[u8]) -> Result<Arc<RootCertStore>, TlsSetupError> {
    let mut roots = RootCertStore::empty();
    pem::certificates(pem, |certificate| roots.add(certificate))?;
    Ok(Arc::new(roots))
}
