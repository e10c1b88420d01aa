//! [`Url`]: what to listen on or connect to.

use std::fmt;
use std::str::FromStr;

/// A transport that is built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
}

impl Transport {
    pub const ALL: [Transport; 1] = [Transport::Tcp];

    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
        }
    }
}

/// Schemes that are known and not built in yet.
const LATER: [&str; 5] = ["tls", "udp", "ws", "wss", "unix"];

/// `tcp://HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub transport: Transport,
    /// `HOST:PORT`, an IPv6 host in brackets.
    pub address: String,
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport.name(), self.address)
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err("a URL begins with its transport: expected tcp://HOST:PORT".to_owned());
        };
        let Some(transport) = Transport::ALL.into_iter().find(|t| t.name() == scheme) else {
            return Err(if LATER.contains(&scheme) {
                format!("the transport {scheme} is not built in yet: expected tcp://HOST:PORT")
            } else {
                format!("unknown transport {scheme}: expected tcp://HOST:PORT")
            });
        };
        let address = rest.strip_suffix('/').unwrap_or(rest);
        check_address(address)?;
        Ok(Url { transport, address: address.to_owned() })
    }
}

/// Checks for `HOST:PORT`, so that a mistake is told as what it is and not as a name that can't be resolved.
fn check_address(address: &str) -> Result<(), String> {
    if let Some(at) = address.find(['/', '?', '#', '@']) {
        return Err(format!("{:?} has no place in a tcp URL: expected tcp://HOST:PORT", &address[at..]));
    }
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return Err(
                    "the bracket around the IPv6 address is not closed: expected tcp://[::1]:PORT".to_owned()
                );
            };
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(format!("{host:?} in brackets is no IPv6 address: expected tcp://[::1]:PORT"));
            }
            (host, port.strip_prefix(':'))
        }
        None => match address.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err("an IPv6 address goes in brackets: expected tcp://[::1]:PORT".to_owned());
            }
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err(
            "the host is missing: expected tcp://HOST:PORT; 0.0.0.0 or [::] listens on all addresses"
                .to_owned(),
        );
    }
    match port {
        None | Some("") => Err("the port is missing: expected tcp://HOST:PORT".to_owned()),
        Some(port) if port.parse::<u16>().is_err() || port.starts_with('+') => {
            Err(format!("{port:?} is no port: expected a number from 0 to 65535"))
        }
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_good() {
        for (text, address) in [
            ("tcp://127.0.0.1:0", "127.0.0.1:0"),
            ("tcp://localhost:65535/", "localhost:65535"),
            ("tcp://[::1]:7000", "[::1]:7000"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.transport, url.address.as_str()), (Transport::Tcp, address));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn urls_that_are_not() {
        for (text, problem) in [
            ("", "begins with its transport"),
            ("127.0.0.1:80", "begins with its transport"),
            ("tls://h:1", "tls is not built in yet"),
            ("udp://h:1", "udp is not built in yet"),
            ("ws://h:1/path", "ws is not built in yet"),
            ("wss://h:1", "wss is not built in yet"),
            ("unix:///run/socket", "unix is not built in yet"),
            ("http://h:1", "unknown transport http"),
            ("TCP://h:1", "unknown transport TCP"),
            ("tcp://", "host is missing"),
            ("tcp://:80", "host is missing"),
            ("tcp://h", "port is missing"),
            ("tcp://h:", "port is missing"),
            ("tcp://[::1]", "port is missing"),
            ("tcp://[::1]80", "port is missing"),
            ("tcp://h:65536", "\"65536\" is no port"),
            ("tcp://h:+1", "\"+1\" is no port"),
            ("tcp://h:-1", "\"-1\" is no port"),
            ("tcp://::1:80", "goes in brackets"),
            ("tcp://[::1:80", "not closed"),
            ("tcp://[h]:80", "no IPv6 address"),
            ("tcp://h:1/path", "\"/path\" has no place"),
            ("tcp://me@h:1", "\"@h:1\" has no place"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
