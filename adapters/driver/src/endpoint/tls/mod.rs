//! TLS for servers and clients: [`ServerTls`], [`ClientTls`].
//!
//! The work is done by [`rustls`], with the cryptography of `ring`: TLS 1.3 and 1.2. Whoever wants another
//! provider, or anything that has no setter here, makes a configuration of rustls and uses `from_config`.

mod client;
mod error;
mod identity;
mod key;
mod pem;
mod provider;
mod server;

pub use client::{ClientTls, ClientTlsBuilder};
pub use error::TlsSetupError;
pub use identity::Identity;
pub use rustls;
pub use server::{ClientCertificates, ServerTls, ServerTlsBuilder};
