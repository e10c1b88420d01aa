//! [`Site`]: the paths of a ws or wss URL.

use getty_driver::core::websocket::{Accept, Request, Response, Verdict};

/// The paths of a WebSocket port: sessions at one, and at `/` a page that opens a session.
#[derive(Debug)]
pub struct Site {
    path: String,
    page: Response,
    /// The response to OPTIONS.
    methods: Response,
    other_method: Response,
    upgrade: Response,
    not_found: Response,
}

/// Methods accepted for the page.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// The page, with placeholders for the path and the sub-protocols.
const PAGE: &str = include_str!("page.html");

/// Allows the page's own style and script, by hash, and connections to its server; nothing else.
const POLICY: &str = "default-src 'none'; connect-src 'self'; img-src data:; \
    style-src 'sha256-bcKQXOgKlb0tOPkphsLacASJbKjTbrwdT/f+nRe4P3U='; script-src 'sha256-TPw56kc++gXl+vPtDSPM5Oaw+q2MUF7bGpdXhAXWd/g='; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

impl Site {
    /// Makes a site with sessions at `path` and a page that offers `protocols`.
    pub fn new(path: &str, protocols: &[String]) -> anyhow::Result<Self> {
        // The order matters: a path may contain braces, a sub-protocol's name may not.
        let page = PAGE.replace("{{protocols}}", &escape(&protocols.join(", ")));
        let page = page.replace("{{path}}", &escape(path));
        let page = Response::new(200)?
            .header("Content-Type", "text/html; charset=utf-8")?
            .header("Content-Security-Policy", POLICY)?
            .header("X-Content-Type-Options", "nosniff")?
            .header("Cache-Control", "no-store")?
            .body(page);
        Self::with(path, page, &format!("WebSocket sessions are at {path}; a page to try them is at /\n"))
    }

    /// Makes a site with RPC at `path`, and a page that only says so.
    pub fn of_rpc(path: &str) -> anyhow::Result<Self> {
        let place = format!("RPC over WebSocket is at {path}\n");
        Self::with(path, text(200, &place)?, &place)
    }

    /// Makes a site. `place` says where sessions are.
    fn with(path: &str, page: Response, place: &str) -> anyhow::Result<Self> {
        Ok(Site {
            path: path.to_owned(),
            page,
            methods: Response::new(200)?.header("Allow", METHODS)?,
            other_method: text(405, &format!("the page accepts only {METHODS}\n"))?
                .header("Allow", METHODS)?,
            upgrade: text(426, place)?,
            not_found: text(404, place)?,
        })
    }

    /// Decides on a request. Clients may open sessions at the path. Plain requests get the page at `/`, 426
    /// at the path, and 404 elsewhere.
    pub fn answer(&self, request: &Request) -> Verdict {
        let response = match (request.is_upgrade(), request.path(), request.method()) {
            (true, path, _) if path == self.path => return Verdict::Accept(Accept::new()),
            (false, "/", "GET" | "HEAD") => &self.page,
            (false, "/" | "*", "OPTIONS") => &self.methods,
            (false, "/", _) => &self.other_method,
            (false, path, _) if path == self.path => &self.upgrade,
            _ => &self.not_found,
        };
        Verdict::Respond(response.clone())
    }
}

/// A page of plain text.
fn text(status: u16, text: &str) -> anyhow::Result<Response> {
    let response = Response::new(status)?.header("Content-Type", "text/plain; charset=utf-8")?;
    Ok(response.header("X-Content-Type-Options", "nosniff")?.body(text.to_owned()))
}

/// Escapes text for a quoted attribute.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_stays_in_its_attribute() {
        assert_eq!(escape(r#"/a"><script>&amp;'"#), "/a&quot;>&lt;script>&amp;amp;'");
    }

    /// The browser runs only code with these hashes: update them after changing the page.
    #[test]
    fn the_policy_is_that_of_the_page() {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;
        use sha2::{Digest, Sha256};

        for (element, directive) in [("style", "style-src"), ("script", "script-src")] {
            let (_, rest) = PAGE.split_once(&format!("<{element}>")).unwrap();
            let (text, rest) = rest.split_once(&format!("</{element}>")).unwrap();
            assert!(!rest.contains(&format!("<{element}")) && !text.contains("{{"));
            let expected = format!("{directive} 'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
            assert!(POLICY.contains(&expected), "expected {expected}");
        }
    }
}
