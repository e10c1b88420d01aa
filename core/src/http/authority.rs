//! The authority of a URI: a host and a port.

use std::net::Ipv6Addr;

/// `host[:port]`, as in a `Host` header, an origin and a URL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Authority<'a> {
    /// A name, an IPv4 address, or an IPv6 address without brackets.
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads an authority. Refuses user names, percent-encoded names and everything else that no browser
    /// sends in a `Host` header.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(text) => {
                let (host, rest) = text.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, rest)
            }
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if host.is_empty() || !(text.starts_with('[') || host.bytes().all(is_name)) {
            return None;
        }
        let port = match rest.strip_prefix(':') {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
            None if rest.is_empty() => None,
            _ => return None,
        };
        Some(Self { host, port })
    }

    /// Whether the two are the same place. A missing port counts as `default`.
    pub(crate) fn is_same(self, other: Authority<'_>, default: Option<u16>) -> bool {
        let ipv6 = |host: &str| host.parse::<Ipv6Addr>().ok();
        let same_host = self.host.eq_ignore_ascii_case(other.host)
            || ipv6(self.host).is_some_and(|address| ipv6(other.host) == Some(address));
        same_host && self.port.or(default) == other.port.or(default)
    }
}

/// The default port of a scheme.
pub(crate) fn default_port(scheme: &str) -> Option<u16> {
    const PORTS: [(&str, u16); 4] = [("http", 80), ("ws", 80), ("https", 443), ("wss", 443)];
    PORTS.iter().find(|(name, _)| name.eq_ignore_ascii_case(scheme)).map(|&(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_host_and_perhaps_a_port() {
        let good = [
            ("example.com", "example.com", None),
            ("my_service:8080", "my_service", Some(8080)),
            ("127.0.0.1:0", "127.0.0.1", Some(0)),
            ("[::1]", "::1", None),
            ("[::ffff:1.2.3.4]:65535", "::ffff:1.2.3.4", Some(65535)),
        ];
        for (text, host, port) in good {
            let authority = Authority::parse(text).unwrap();
            assert_eq!((authority.host, authority.port), (host, port), "{text}");
        }
        let bad = [
            "",
            ":80",
            "a:",
            "a:65536",
            "a:+8",
            "a:8a",
            "a:b:80",
            "a b",
            "a,b",
            "a/b",
            "u@a",
            "[]",
            "[::1",
            "::1",
            "[::1]80",
            "[::1]:",
            "[a]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[[::1]]",
            "a%2e",
            "ü",
            "*",
        ];
        for text in bad {
            assert!(Authority::parse(text).is_none(), "{text:?}");
        }
    }
}
