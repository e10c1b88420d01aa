//! TLS for servers and clients: [`ServerTls`], [`ClientTls`].
//!
//! TLS 1.3 and 1.2 by [`rustls`], with the cryptography of `ring`. For another provider, or for a setting
//! that has no setter here, make a configuration of rustls and use `from_config`.

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
