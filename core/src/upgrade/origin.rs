//! [`OriginPolicy`]: the web pages that may connect.

use super::error::HandshakeError;
use super::request::Request;
use crate::http::authority::{Authority, default_port};
use crate::http::excerpt;

/// The web pages that may open a connection, according to the `Origin` header (RFC 6455 section 10.2).
///
/// Browsers let any page connect to any server, with the user's cookies. They send the page's origin, and the
/// server has to refuse unwanted ones. A request without `Origin` does not come from a browser and is always
/// allowed. Other requests are refused with 403 if the policy does not allow them.
///
/// Names are compared without regard to case, IPv6 addresses by value. The default ports 80 (`http`, `ws`)
/// and 443 (`https`, `wss`) equal a missing port.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OriginPolicy {
    /// Allows `http` and `https` pages from the host and port that the request is for, according to its
    /// `Host` header. The default. A server behind a proxy that changes `Host` needs a list.
    ///
    /// This does not stop *DNS rebinding*: the owner of a name can make it resolve to this server's address,
    /// even to `127.0.0.1`, after a browser has loaded a page from that name. Then both headers have that
    /// name. A server without TLS that trusts its network should use [`Hosts`](Self::Hosts) or
    /// [`List`](Self::List).
    #[default]
    Same,
    /// Allows the same as [`Same`](Self::Same), but only if the host is one of these names of the server:
    /// `example.com`, `localhost:8080`, `[::1]`. A name without a port matches any port.
    Hosts(Vec<String>),
    /// Allows any page. For servers where neither a cookie nor a place in the network gives any rights.
    Any,
    /// Allows pages of these origins, as browsers write them: `https://example.com` or `http://[::1]:8080`,
    /// without a path or a final slash. There are no patterns. `null`, the origin of sandboxed pages and
    /// local files, can be listed but should not be: any page can obtain it.
    List(Vec<String>),
}

impl OriginPolicy {
    /// Checks that the origin of `request` is allowed.
    pub(crate) fn check(&self, request: &Request) -> Result<(), HandshakeError> {
        let Some(origin) = request.origin() else { return Ok(()) };
        let allowed = match self {
            OriginPolicy::Same => is_same_host(origin, request.host()),
            OriginPolicy::Hosts(hosts) => {
                is_same_host(origin, request.host())
                    && hosts.iter().any(|listed| is_listed(listed, origin, request.host()))
            }
            OriginPolicy::Any => true,
            OriginPolicy::List(origins) => origins.iter().any(|listed| is_same_origin(listed, origin)),
        };
        if allowed {
            return Ok(());
        }
        Err(HandshakeError::Origin {
            origin: excerpt(origin.as_bytes()),
            host: excerpt(request.host().as_bytes()),
        })
    }
}

fn is_same_host(origin: &str, host: &str) -> bool {
    let (Some((scheme, authority)), Some(host)) = (parse(origin), Authority::parse(host)) else {
        return false;
    };
    let is_web = ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    is_web && authority.is_same(host, default_port(scheme))
}

/// Whether `host`, the host of `origin`, is `listed`.
fn is_listed(listed: &str, origin: &str, host: &str) -> bool {
    let (Some((scheme, _)), Some(host), Some(listed)) =
        (parse(origin), Authority::parse(host), Authority::parse(listed))
    else {
        return false;
    };
    let port = listed.port.or(host.port);
    Authority { port, ..listed }.is_same(host, default_port(scheme))
}

fn is_same_origin(listed: &str, origin: &str) -> bool {
    match (parse(listed), parse(origin)) {
        (Some((scheme, authority)), Some((other_scheme, other))) => {
            scheme.eq_ignore_ascii_case(other_scheme) && authority.is_same(other, default_port(scheme))
        }
        // `null`, and origins with a browser's own schemes.
        _ => listed.eq_ignore_ascii_case(origin),
    }
}

/// The scheme and the authority of an origin.
fn parse(origin: &str) -> Option<(&str, Authority<'_>)> {
    let (scheme, authority) = origin.split_once("://")?;
    Some((scheme, Authority::parse(authority)?))
}

#[cfg(test)]
mod tests {
    use super::super::request::parse_request;
    use super::super::response::Response;
    use super::*;

    fn check(policy: &OriginPolicy, host: &str, origin: Option<&str>) -> bool {
        let origin = origin.map(|origin| format!("Origin: {origin}\r\n")).unwrap_or_default();
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\n{origin}\r\n");
        match policy.check(&parse_request(head.as_bytes()).unwrap()) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(Response::refusal(&error).status(), 403, "{error}");
                false
            }
        }
    }

    #[test]
    fn pages_of_the_same_host_and_port_are_allowed() {
        let table = [
            ("example.com", None, true),
            ("example.com", Some("http://example.com"), true),
            ("example.com", Some("https://example.com"), true),
            ("Example.COM", Some("HTTPS://eXample.com"), true),
            ("example.com", Some("http://example.com:80"), true),
            ("example.com:80", Some("http://example.com"), true),
            ("example.com:443", Some("https://example.com"), true),
            ("example.com", Some("https://example.com:443"), true),
            ("example.com:8080", Some("http://example.com:8080"), true),
            ("[::1]:8080", Some("http://[::1]:8080"), true),
            ("[0:0:0:0:0:0:0:1]", Some("http://[::1]"), true),
            ("127.0.0.1:9000", Some("http://127.0.0.1:9000"), true),
            ("example.com:443", Some("http://example.com"), false),
            ("example.com:80", Some("https://example.com"), false),
            ("example.com:8080", Some("http://example.com"), false),
            ("example.com", Some("http://example.com:8080"), false),
            ("example.com", Some("http://evil.com"), false),
            ("example.com", Some("http://example.com.evil.com"), false),
            ("example.com", Some("http://sub.example.com"), false),
            ("example.com", Some("http://evil.com#example.com"), false),
            ("example.com", Some("http://example.com@evil.com"), false),
            ("example.com", Some("http://example.com/"), false),
            ("example.com", Some("http://example.com http://evil.com"), false),
            ("example.com", Some("example.com"), false),
            ("example.com", Some("chrome-extension://example.com"), false),
            ("example.com", Some("null"), false),
            ("null", Some("null"), false),
            ("example.com", Some(""), false),
            ("[::1]", Some("http://[::2]"), false),
        ];
        for (host, origin, allowed) in table {
            assert_eq!(check(&OriginPolicy::Same, host, origin), allowed, "{origin:?} at {host}");
            assert!(check(&OriginPolicy::Any, host, origin));
        }
    }

    /// DNS rebinding: the page and the request name the same host, which resolves to this server.
    #[test]
    fn a_host_that_is_not_listed_is_not_the_servers_whatever_it_resolves_to() {
        let listed =
            ["Example.com", "localhost:8080", "[::1]", "b.org:443", "not a host", "https://c.org", ""];
        let policy = OriginPolicy::Hosts(listed.map(str::to_owned).to_vec());
        let table = [
            ("example.com", None, true),
            ("evil.com", None, true),
            ("example.com", Some("http://example.com"), true),
            ("EXAMPLE.com:9000", Some("http://example.COM:9000"), true),
            ("localhost:8080", Some("http://localhost:8080"), true),
            ("[0::1]:8080", Some("http://[::1]:8080"), true),
            ("b.org", Some("https://b.org"), true),
            ("b.org:443", Some("https://b.org"), true),
            ("localhost", Some("http://localhost"), false),
            ("localhost:8081", Some("http://localhost:8081"), false),
            ("b.org", Some("http://b.org"), false),
            ("evil.com", Some("http://evil.com"), false),
            ("evil.com:8080", Some("http://evil.com:8080"), false),
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080"), false),
            ("example.com.", Some("http://example.com."), false),
            ("sub.example.com", Some("http://sub.example.com"), false),
            ("c.org", Some("https://c.org"), false),
            // The host is listed, but the page is from another one.
            ("example.com", Some("http://evil.com"), false),
            ("example.com", Some("http://example.com:9000"), false),
            ("example.com", Some("null"), false),
            ("example.com", Some(""), false),
        ];
        for (host, origin, allowed) in table {
            assert_eq!(check(&policy, host, origin), allowed, "{origin:?} at {host}");
        }
        assert!(!check(&OriginPolicy::Hosts(Vec::new()), "here.org", Some("http://here.org")));
        // The default policy would allow it.
        assert!(check(&OriginPolicy::Same, "evil.com:8080", Some("http://evil.com:8080")));
    }

    #[test]
    fn pages_of_listed_origins_are_allowed() {
        let listed = [
            "https://example.com",
            "http://[::1]:8080",
            "chrome-extension://abc",
            "https://b.org:443",
            "nul",
        ];
        let policy = OriginPolicy::List(listed.map(str::to_owned).to_vec());
        let table = [
            (None, true),
            (Some("https://example.com"), true),
            (Some("https://EXAMPLE.com:443"), true),
            (Some("https://b.org"), true),
            (Some("http://[0::1]:8080"), true),
            (Some("chrome-extension://abc"), true),
            (Some("http://example.com"), false),
            (Some("https://example.com:80"), false),
            (Some("https://example.com:8443"), false),
            (Some("https://www.example.com"), false),
            (Some("https://example.com/"), false),
            (Some("http://[::1]"), false),
            // The request's host, which is not listed.
            (Some("http://here.org"), false),
            (Some("null"), false),
            (Some(""), false),
        ];
        for (origin, allowed) in table {
            assert_eq!(check(&policy, "here.org", origin), allowed, "{origin:?}");
        }
        assert!(check(&OriginPolicy::List(vec!["null".to_owned()]), "here.org", Some("null")));
        assert!(!check(&OriginPolicy::List(Vec::new()), "here.org", Some("http://here.org")));
    }
}
