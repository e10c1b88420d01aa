//! What `HOST:PORT` means: the addresses behind it, and the name in it.

use std::io;
use std::net::{Ipv6Addr, SocketAddr};

use crate::runtime::Runtime;

/// The addresses behind `HOST:PORT`. An IPv6 address may have a zone, by number or by name
/// (`[fe80::1%eth0]:7000`): it says which interface leads there, which the system must know of link-local
/// addresses.
pub(crate) async fn resolve<R: Runtime>(address: &str) -> io::Result<Vec<SocketAddr>> {
    match address.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        // The system's resolver knows names of interfaces, and no brackets.
        Some((host, port)) if zone(host).is_some() => R::resolve(&format!("{host}:{port}")).await,
        _ => R::resolve(address).await,
    }
}

/// The parts of an IPv6 address with a zone.
pub(crate) fn zone(host: &str) -> Option<(Ipv6Addr, &str)> {
    let (address, zone) = host.split_once('%')?;
    Some((address.parse().ok()?, zone))
}

/// The host in `HOST:PORT`, as a certificate has it: of an address, no brackets and no zone, which means
/// something on this machine only.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    zone(host).map_or(host, |(_, zone)| &host[..host.len() - zone.len() - 1])
}

/// What `attempt` makes of the first of a name's addresses that is good for it.
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
