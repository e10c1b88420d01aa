//! Resolves `HOST:PORT`, and extracts the host from it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use crate::runtime::Runtime;

/// Resolves `HOST:PORT` to its addresses. An IPv6 address may have a zone, by number or by name
/// (`[fe80::1%eth0]:7000`): the interface that leads to it, which the system needs for link-local addresses.
pub(crate) async fn resolve<R: Runtime>(address: &str) -> io::Result<Vec<SocketAddr>> {
    match address.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        // The system's resolver accepts interface names, but no brackets.
        Some((host, port)) if zone(host).is_some() => R::resolve(&format!("{host}:{port}")).await,
        _ => R::resolve(address).await,
    }
}

/// The two parts of an IPv6 address with a zone.
pub(crate) fn zone(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (address, zone) = host.split_once('%')?;
    Some((address.parse().ok()?, zone))
}

/// The host in `HOST:PORT`, as it appears in a certificate: an address has no brackets, and no zone, which is
/// meaningful only on this machine.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    zone(host).map_or(host, |(_, zone)| &host[..host.len() - zone.len() - 1])
}

/// Makes attempts with a name's addresses in order. Returns the first success, or the last error.
pub(crate) fn first_good<T>(
    addresses: &[SocketAddr],
    mut attempt: impl FnMut(SocketAddr) -> io::Result<T>,
) -> io::Result<T> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for &address in addresses {
        match attempt(address) {
            Ok(good) => return Ok(good),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}
