//! Addresses of a URL to serve. A name may have several, and all of them are listened on.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use anyhow::Context as _;

use crate::diagnostics;
use crate::runtime::BuiltIn;
use crate::url::{Transport, Url};

/// Further ports to try when any port will do, and one free at the first address is taken at another.
const TRIES: usize = 64;

/// The places where a URL is served.
pub struct Places {
    /// One URL for each address, at least one.
    pub urls: Vec<Url>,
    /// The URL with their common port, if there are several addresses.
    pub name: Option<Url>,
}

/// Finds where `url` is served. Addresses that can't be used are reported and left out, unless none is left.
pub async fn find<R: BuiltIn>(url: &Url) -> anyhow::Result<Places> {
    let one = Places { urls: vec![url.clone()], name: None };
    if !url.transport.has_port() || url.has_literal_host() {
        return Ok(one);
    }
    let context = || format!("can't listen on {}", url.address());
    let mut addresses = Vec::new();
    for address in R::resolve(url.address()).await.with_context(context)? {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() < 2 {
        return Ok(one);
    }
    // Servers that share their port within this program would not notice that it is taken.
    let tried = match url.transport {
        Transport::Udp => free(&addresses, |address| {
            let socket = UdpSocket::bind(address)?;
            Ok((socket.local_addr()?, socket))
        }),
        _ => free(&addresses, |address| {
            let listener = TcpListener::bind(address)?;
            Ok((listener.local_addr()?, listener))
        }),
    };
    let Free { addresses, others } = tried.map_err(|(address, error)| {
        anyhow::Error::new(error).context(format!("can't listen on {address}"))
    })?;
    for (address, error) in others {
        diagnostics::report(format_args!("{url}: can't listen on {address}: {error}"));
    }
    let name = (addresses.len() > 1).then(|| url.with_port(addresses[0].port()));
    Ok(Places { urls: addresses.into_iter().map(|address| url.at(address)).collect(), name })
}

/// Addresses to listen on.
#[derive(Debug)]
struct Free {
    /// All with the same port.
    addresses: Vec<SocketAddr>,
    /// Unusable addresses, with the error.
    others: Vec<(SocketAddr, io::Error)>,
}

/// Finds a port that is free at all usable `addresses`: their own, or any if that is 0. `bind` holds an
/// address as long as its result is kept.
fn free<T>(
    addresses: &[SocketAddr],
    mut bind: impl FnMut(SocketAddr) -> io::Result<(SocketAddr, T)>,
) -> Result<Free, (SocketAddr, io::Error)> {
    let mut tries = TRIES;
    'port: loop {
        let (mut bound, mut others) = (Vec::<(SocketAddr, T)>::new(), Vec::new());
        for &address in addresses {
            let mut wanted = address;
            if let Some((first, _)) = bound.first() {
                wanted.set_port(first.port());
            }
            match bind(wanted) {
                Ok(taken) => bound.push(taken),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    if address.port() != 0 || bound.is_empty() || tries == 0 {
                        return Err((wanted, error));
                    }
                    tries -= 1;
                    continue 'port;
                }
                // Missing permission affects all addresses.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err((wanted, error)),
                Err(error) => others.push((wanted, error)),
            }
        }
        return match (bound.is_empty(), others.pop()) {
            (true, Some(last)) => Err(last),
            (_, last) => {
                others.extend(last);
                Ok(Free { addresses: bound.into_iter().map(|(address, _)| address).collect(), others })
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split(' ').map(|address| address.parse().unwrap()).collect()
    }

    fn fails<T>(kind: io::ErrorKind) -> io::Result<T> {
        Err(kind.into())
    }

    #[test]
    fn all_have_the_same_port() {
        let mut next = 100;
        let bind = |mut address: SocketAddr| {
            if address.port() == 0 {
                next += 1;
                address.set_port(next);
            }
            match (address.port(), address.is_ipv6()) {
                (101 | 102, true) => fails(io::ErrorKind::AddrInUse),
                _ => Ok((address, ())),
            }
        };
        let found = free(&addresses("127.0.0.1:0 [::1]:0 127.0.0.2:0"), bind).unwrap();
        assert_eq!(found.addresses, addresses("127.0.0.1:103 [::1]:103 127.0.0.2:103"));
        assert!(found.others.is_empty());
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_and_tried_but_so_often() {
        let mut tried = 0;
        let bind = |mut address: SocketAddr| {
            tried += 1;
            if address.port() == 0 {
                address.set_port(7);
            }
            if address.is_ipv6() { fails(io::ErrorKind::AddrInUse) } else { Ok((address, ())) }
        };
        let (address, error) = free(&addresses("127.0.0.1:9 [::1]:9"), bind).unwrap_err();
        assert_eq!((address.to_string().as_str(), error.kind()), ("[::1]:9", io::ErrorKind::AddrInUse));
        assert_eq!(tried, 2);
        let bind = |mut address: SocketAddr| {
            tried += 1;
            address.set_port(7);
            if address.is_ipv6() { fails(io::ErrorKind::AddrInUse) } else { Ok((address, ())) }
        };
        assert_eq!(free(&addresses("127.0.0.1:0 [::1]:0"), bind).unwrap_err().0.port(), 7);
        assert_eq!(tried, 2 + 2 * (TRIES + 1));
    }

    #[test]
    fn an_address_that_can_not_be_had_is_left_out() {
        let bind = |address: SocketAddr| match address.is_ipv6() {
            true => fails(io::ErrorKind::AddrNotAvailable),
            false => Ok((address, ())),
        };
        let found = free(&addresses("[::1]:9 127.0.0.1:9"), bind).unwrap();
        assert_eq!(found.addresses, addresses("127.0.0.1:9"));
        assert_eq!(found.others[0].0, addresses("[::1]:9")[0]);
        let (address, error) = free(&addresses("[::1]:9 [::2]:9"), bind).unwrap_err();
        assert_eq!(
            (address.to_string().as_str(), error.kind()),
            ("[::2]:9", io::ErrorKind::AddrNotAvailable)
        );
        let bind = |_| fails::<(SocketAddr, ())>(io::ErrorKind::PermissionDenied);
        assert!(free(&addresses("[::1]:9 [::2]:9"), bind).is_err());
    }
}
