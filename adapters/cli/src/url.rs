//! [`Url`]: an address to listen on or connect to.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
#[cfg(unix)]
use std::path::Path;
use std::str::FromStr;

use getty_driver::core::websocket::ClientRequest;

/// A built-in transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    Tcp,
    #[cfg(unix)]
    Unix,
    Udp,
    WebSocket,
    /// Messages in a stream like over TCP, protected by TLS.
    Tls,
    /// WebSocket over TLS.
    SecureWebSocket,
}

impl Transport {
    pub const ALL: &[Transport] = &[
        Transport::Tcp,
        #[cfg(unix)]
        Transport::Unix,
        Transport::Udp,
        Transport::WebSocket,
        Transport::Tls,
        Transport::SecureWebSocket,
    ];

    /// The scheme of its URLs.
    pub fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            #[cfg(unix)]
            Transport::Unix => "unix",
            Transport::Udp => "udp",
            Transport::WebSocket => "ws",
            Transport::Tls => "tls",
            Transport::SecureWebSocket => "wss",
        }
    }

    /// Whether the transport preserves message boundaries.
    pub fn has_messages(self) -> bool {
        self == Transport::Udp || self.is_websocket()
    }

    /// Whether it is WebSocket, with TLS or without.
    pub fn is_websocket(self) -> bool {
        matches!(self, Transport::WebSocket | Transport::SecureWebSocket)
    }

    /// Whether it uses TLS.
    pub fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::SecureWebSocket)
    }

    /// Whether it runs over TCP.
    pub fn is_over_tcp(self) -> bool {
        match self {
            Transport::Tcp | Transport::Tls | Transport::WebSocket | Transport::SecureWebSocket => true,
            #[cfg(unix)]
            Transport::Unix => false,
            Transport::Udp => false,
        }
    }

    /// Whether its URLs have a port.
    pub fn has_port(self) -> bool {
        self == Transport::Udp || self.is_over_tcp()
    }

    /// The default port of its URLs, if any.
    fn default_port(self) -> Option<u16> {
        match self {
            Transport::WebSocket => Some(80),
            Transport::SecureWebSocket => Some(443),
            _ => None,
        }
    }
}

/// The URL formats, for errors.
const ANY: &str = "expected tcp://HOST:PORT, unix:///PATH, udp://HOST:PORT, ws://HOST:PORT/PATH, \
    tls://HOST:PORT or wss://HOST:PORT/PATH";

/// `tcp://HOST:PORT`, `unix:///PATH`, `udp://HOST:PORT`, `tls://HOST:PORT`, or
/// `ws://HOST[:PORT][/PATH][?QUERY]`, also with `wss`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    pub transport: Transport,
    /// `HOST:PORT`, with an IPv6 host in brackets; for unix, the path of the socket.
    address: String,
    /// For ws and wss, the path and the query, from the slash on. Empty otherwise.
    target: String,
}

impl Url {
    /// The URL of a server for this process only.
    pub fn local(transport: Transport) -> Self {
        let address = match transport {
            #[cfg(unix)]
            Transport::Unix => {
                let name = format!("getty-{}.sock", std::process::id());
                std::env::temp_dir().join(name).display().to_string()
            }
            _ => "127.0.0.1:0".to_owned(),
        };
        let target = if transport.is_websocket() { "/" } else { "" };
        Url { transport, address, target: target.to_owned() }
    }

    /// The same URL at a server's actual address. Keeps the name of a zone.
    pub fn at(&self, address: SocketAddr) -> Self {
        match self.has_zone() {
            true => self.with_port(address.port()),
            false => Url { address: address.to_string(), ..self.clone() },
        }
    }

    /// The same URL with another port.
    pub fn with_port(&self, port: u16) -> Self {
        let host = self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host);
        Url { address: format!("{host}:{port}"), ..self.clone() }
    }

    /// `HOST:PORT`, with an IPv6 host in brackets and its zone unencoded; for unix, the path of the socket.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the host is an address, not a name.
    pub fn has_literal_host(&self) -> bool {
        self.has_zone() || self.host().parse::<IpAddr>().is_ok()
    }

    fn has_zone(&self) -> bool {
        self.transport.has_port() && self.address.contains('%')
    }

    /// The host and the port, as the standard library resolves them, including zones by name or number.
    pub fn host_and_port(&self) -> (&str, u16) {
        (self.host(), self.address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0))
    }

    /// The host as in a certificate: without a zone, which has a meaning only on this machine.
    pub fn certified_host(&self) -> &str {
        let host = self.host();
        host.split_once('%').map_or(host, |(address, _)| address)
    }

    /// The host, without the brackets of an IPv6 address. Meaningless for unix.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Checks that the URL can be connected to.
    pub fn check_target(&self) -> Result<(), String> {
        match self.address.rsplit_once(':') {
            Some((_, port)) if self.transport.has_port() && port.parse() == Ok(0_u16) => Err(format!(
                "{self} has port 0: give the server's port (0 is for serve, and picks a free port)"
            )),
            _ => Ok(()),
        }
    }

    /// For ws and wss, the part before the query: at least a slash.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// For ws and wss, the part after the first question mark.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url { transport, address, target } = self;
        match address.split_once("%25") {
            // Without these two digits it would be read as the percent sign of a zone.
            Some((before, zone)) if self.has_zone() && !zone.starts_with(']') => {
                write!(f, "{}://{before}%2525{zone}{target}", transport.name())
            }
            _ => write!(f, "{}://{address}{target}", transport.name()),
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("a URL begins with its transport: {ANY}"));
        };
        let Some(transport) = Transport::ALL.iter().copied().find(|t| t.name() == scheme) else {
            return Err(if cfg!(not(unix)) && scheme == "unix" {
                "this system has no Unix sockets".to_owned()
            } else {
                format!("unknown transport {scheme}: {ANY}")
            });
        };
        match transport {
            Transport::Tcp | Transport::Udp | Transport::Tls => {
                let address = rest.strip_suffix('/').unwrap_or(rest);
                Ok(Url { transport, address: complete(address, transport)?, target: String::new() })
            }
            #[cfg(unix)]
            Transport::Unix => {
                if !Path::new(rest).is_absolute() {
                    return Err(format!("{rest:?} is not an absolute path: expected unix:///PATH"));
                }
                Ok(Url { transport, address: rest.to_owned(), target: String::new() })
            }
            Transport::WebSocket | Transport::SecureWebSocket => {
                let (address, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let slash = if target.starts_with('/') { "" } else { "/" };
                let address = complete(address, transport)?;
                let url = Url { transport, address, target: format!("{slash}{target}") };
                ClientRequest::new(&url.to_string()).map_err(|error| error.to_string())?;
                Ok(url)
            }
        }
    }
}

/// Checks for `HOST:PORT`, so that a mistake is not reported as a name that can't be resolved, and adds the
/// default port if there is one.
fn complete(address: &str, transport: Transport) -> Result<String, String> {
    let scheme = transport.name();
    if let Some(at) = address.find(['/', '?', '#', '@']) {
        let rest = &address[at..];
        return Err(format!("unexpected {rest:?} in a {scheme} URL: expected {scheme}://HOST:PORT"));
    }
    let mut decoded = None;
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let Some((host, port)) = rest.split_once(']') else {
                return Err(format!(
                    "the bracket around the IPv6 address is not closed: expected {scheme}://[::1]:PORT"
                ));
            };
            if host.contains('%') {
                // With or without percent-encoding, as in WebSocket URLs.
                let request = ClientRequest::new(&format!("ws://[{host}]/")).map_err(|_| {
                    format!(
                        "{host:?} in brackets is not an IPv6 address with a zone: expected \
                        {scheme}://[fe80::1%eth0]:PORT"
                    )
                })?;
                decoded = Some(format!("[{}]{port}", request.host()));
            } else if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!(
                    "{host:?} in brackets is not an IPv6 address: expected {scheme}://[::1]:PORT"
                ));
            }
            match port.strip_prefix(':') {
                None if !port.is_empty() => {
                    return Err(format!("the port is missing: expected {scheme}://[::1]:PORT"));
                }
                port => (host, port),
            }
        }
        None => match address.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(format!("an IPv6 address must be in brackets: expected {scheme}://[::1]:PORT"));
            }
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    if host.is_empty() {
        return Err(format!(
            "the host is missing: expected {scheme}://HOST:PORT; 0.0.0.0 or [::] listens on all addresses"
        ));
    }
    let address = decoded.as_deref().unwrap_or(address);
    match (port, transport.default_port()) {
        (None, Some(port)) => Ok(format!("{address}:{port}")),
        (None | Some(""), _) => Err(format!("the port is missing: expected {scheme}://HOST:PORT")),
        (Some(port), _) if port.parse::<u16>().is_err() || port.starts_with('+') => {
            Err(format!("{port:?} is not a port: expected a number from 0 to 65535"))
        }
        (Some(_), _) => Ok(address.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_urls_that_are_good() {
        for (text, address) in [
            ("tcp://127.0.0.1:0", "127.0.0.1:0"),
            ("tcp://localhost:65535/", "localhost:65535"),
            ("tcp://[::1]:7000", "[::1]:7000"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.transport, url.address()), (Transport::Tcp, address));
            assert_eq!(url.to_string(), text.trim_end_matches('/'));
            assert!(["127.0.0.1", "localhost", "::1"].contains(&url.host()), "{}", url.host());
            for (scheme, transport) in [("udp", Transport::Udp), ("tls", Transport::Tls)] {
                let other: Url = text.replace("tcp", scheme).parse().unwrap();
                assert_eq!((other.transport, other.address()), (transport, address));
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn unix_urls() {
        let url: Url = "unix:///run/a b?c.sock".parse().unwrap();
        assert_eq!((url.transport, url.address()), (Transport::Unix, "/run/a b?c.sock"));
        assert_eq!((url.query(), url.to_string().as_str()), (None, "unix:///run/a b?c.sock"));
        for text in ["unix://", "unix://run/socket", "unix://./socket"] {
            assert!(
                text.parse::<Url>().unwrap_err().contains("is not an absolute path: expected unix:///PATH")
            );
        }
    }

    #[test]
    fn ws_urls_that_are_good() {
        for (text, address, path, query) in [
            ("ws://127.0.0.1:0", "127.0.0.1:0", "/", None),
            ("ws://localhost:1/", "localhost:1", "/", None),
            ("ws://[::1]:7000/a/b", "[::1]:7000", "/a/b", None),
            ("ws://h/", "h:80", "/", None),
            ("ws://[::1]/x", "[::1]:80", "/x", None),
            ("ws://h:1?", "h:1", "/", Some("")),
            ("ws://h:1/run?case=1&agent=a?b/c@d", "h:1", "/run", Some("case=1&agent=a?b/c@d")),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.transport, url.address()), (Transport::WebSocket, address));
            assert_eq!((url.path(), url.query()), (path, query));
            assert_eq!(url.to_string().parse(), Ok(url));
            let secure: Url = text.replace("ws:", "wss:").parse().unwrap();
            let address = address.replace(":80", ":443");
            assert_eq!((secure.transport, secure.address()), (Transport::SecureWebSocket, &*address));
            assert_eq!((secure.path(), secure.query()), (path, query));
        }
        let url: Url = "ws://localhost:0/echo".parse().unwrap();
        assert_eq!(url.at("[::1]:99".parse().unwrap()).to_string(), "ws://[::1]:99/echo");
        assert_eq!(url.with_port(7).to_string(), "ws://localhost:7/echo");
        for &transport in Transport::ALL {
            let url = Url::local(transport);
            assert_eq!((url.transport, url.to_string().parse()), (transport, Ok(url)));
        }
    }

    #[test]
    fn zones() {
        for (text, address, told) in [
            ("tcp://[fe80::1%eth0]:7", "[fe80::1%eth0]:7", "tcp://[fe80::1%eth0]:7"),
            ("udp://[fe80::1%25eth0]:7", "[fe80::1%eth0]:7", "udp://[fe80::1%eth0]:7"),
            ("tls://[fe80::1%3]:7", "[fe80::1%3]:7", "tls://[fe80::1%3]:7"),
            ("ws://[fe80::1%25en%2d1]/x", "[fe80::1%en-1]:80", "ws://[fe80::1%en-1]:80/x"),
            ("wss://[fe80::1%br-lan.2]:7/%25", "[fe80::1%br-lan.2]:7", "wss://[fe80::1%br-lan.2]:7/%25"),
            ("ws://[fe80::1%2525]:7/", "[fe80::1%25]:7", "ws://[fe80::1%25]:7/"),
            ("ws://[fe80::1%2525a]:7/", "[fe80::1%25a]:7", "ws://[fe80::1%2525a]:7/"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.address(), url.to_string().as_str()), (address, told));
            assert_eq!(told.parse(), Ok(url.clone()));
            assert_eq!((url.certified_host(), url.has_literal_host()), ("fe80::1", true));
            assert_eq!(url.host_and_port().0, url.host());
            let found = url.at("[fe80::1%9]:99".parse().unwrap());
            assert_eq!((found.host(), found.host_and_port().1), (url.host(), 99));
            if url.transport.is_websocket() {
                assert_eq!(ClientRequest::new(told).unwrap().host(), url.host());
            }
        }
        let name: Url = "tcp://name:7".parse().unwrap();
        assert_eq!((name.has_literal_host(), name.certified_host()), (false, "name"));
        #[cfg(unix)]
        assert_eq!("unix:///a%25b:7".parse::<Url>().unwrap().to_string(), "unix:///a%25b:7");
        for zone in ["fe80::1%", "%eth0", "fe80::1%a b", "name%eth0", "fe80::1%25%zz"] {
            for scheme in ["tcp", "ws"] {
                let error = format!("{scheme}://[{zone}]:7").parse::<Url>().unwrap_err();
                assert!(error.contains("is not an IPv6 address with a zone"), "{error}");
            }
        }
    }

    #[test]
    fn urls_that_are_not() {
        for (text, problem) in [
            ("", "begins with its transport"),
            ("127.0.0.1:80", "begins with its transport"),
            ("tls://h", "port is missing: expected tls://HOST:PORT"),
            ("tls://h:1/path", "unexpected \"/path\" in a tls URL"),
            ("wss:///path", "host is missing: expected wss://HOST:PORT"),
            ("http://h:1", "unknown transport http"),
            ("TCP://h:1", "unknown transport TCP"),
            ("tcp://", "host is missing"),
            ("tcp://:80", "host is missing"),
            ("tcp://h", "port is missing"),
            ("tcp://h:", "port is missing"),
            ("tcp://[::1]", "port is missing"),
            ("tcp://[::1]80", "port is missing"),
            ("tcp://h:65536", "\"65536\" is not a port"),
            ("tcp://h:+1", "\"+1\" is not a port"),
            ("tcp://h:-1", "\"-1\" is not a port"),
            ("tcp://::1:80", "must be in brackets"),
            ("tcp://[::1:80", "not closed"),
            ("tcp://[h]:80", "not an IPv6 address"),
            ("tcp://h:1/path", "unexpected \"/path\""),
            ("tcp://me@h:1", "unexpected \"@h:1\""),
            ("ws://", "host is missing: expected ws://HOST:PORT"),
            ("ws:///path", "host is missing"),
            ("ws://h:/", "port is missing"),
            ("ws://[::1]80/", "port is missing"),
            ("ws://h:65536/", "\"65536\" is not a port"),
            ("ws://::1:80/", "must be in brackets: expected ws://[::1]:PORT"),
            ("ws://me@h:1/", "unexpected \"@h:1\" in a ws URL"),
            ("ws://h:1#part", "unexpected \"#part\" in a ws URL"),
            ("ws://h:1/path#part", "have a fragment"),
            ("ws://h:1/a b", "percent-encode"),
            ("ws://h*:1/", "is not a valid host"),
        ] {
            let error = text.parse::<Url>().unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }
}
