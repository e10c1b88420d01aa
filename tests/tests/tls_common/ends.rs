//! The two ends of TLS, with the certificates of a [`World`].

use getty_driver::tls::{ClientTls, Identity, ServerTls};

use crate::tls_common::{Signed, World};

pub fn identity(signed: &Signed) -> Identity {
    Identity::from_pem(signed.certificate.as_bytes(), signed.key.as_bytes()).unwrap()
}

pub fn server_tls(world: &World) -> ServerTls {
    ServerTls::new(identity(&world.server)).unwrap()
}

/// A client that trusts the world's authority. The servers of these tests have addresses, but a certificate
/// for `localhost`.
pub fn client_tls(world: &World) -> ClientTls {
    ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost").build().unwrap()
}
