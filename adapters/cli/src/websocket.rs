//! WebSocket options, with TLS or without.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use getty_driver::core::websocket::{ClientRequest, Deflate, OriginPolicy, ServerOptions};

use crate::units;
use crate::url::Url;

/// Options for sessions of ws and wss URLs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "WebSocket options")]
pub struct WebSocketOptions {
    /// Compresses messages if the peer supports it (permessage-deflate)
    #[arg(long)]
    deflate: bool,

    /// Interval of pings; a peer that does not answer one within 10 s is disconnected
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    pub ping: Option<Duration>,

    /// A sub-protocol to offer, or to accept if offered. May be repeated, in order of preference
    #[arg(long, value_name = "NAME", value_parser = subprotocol)]
    pub subprotocol: Vec<String>,
}

impl WebSocketOptions {
    /// Checks that the URLs use these options.
    pub fn check<'a>(&self, urls: impl IntoIterator<Item = &'a Url>) -> Result<(), String> {
        let WebSocketOptions { deflate, ping, subprotocol } = self;
        let given =
            [("--deflate", *deflate), ("--ping", ping.is_some()), ("--subprotocol", !subprotocol.is_empty())];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => check_used(name, urls).and_then(|()| self.check_names()),
            None => Ok(()),
        }
    }

    /// Checks that no sub-protocol is given twice.
    pub fn check_names(&self) -> Result<(), String> {
        let names = &self.subprotocol;
        match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            Some((_, name)) => Err(format!("--subprotocol {name} is given twice")),
            None => Ok(()),
        }
    }

    /// Makes a client's request.
    pub fn request(&self, url: &Url) -> anyhow::Result<ClientRequest> {
        let mut request = ClientRequest::new(&url.to_string())?;
        for name in &self.subprotocol {
            request = request.protocol(name).context("--subprotocol")?;
        }
        Ok(if self.deflate { request.deflate(Deflate::new()) } else { request })
    }

    /// Makes a server's options.
    pub fn server(&self, origin: OriginPolicy) -> ServerOptions {
        let mut options = ServerOptions::new().origin(origin).plain_requests(true);
        for name in &self.subprotocol {
            options = options.protocol(name);
        }
        if self.deflate { options.deflate(Deflate::new()) } else { options }
    }
}

/// Checks for a ws or wss URL that the option `name` applies to.
pub fn check_used<'a>(name: &str, urls: impl IntoIterator<Item = &'a Url>) -> Result<(), String> {
    if urls.into_iter().any(|url| url.transport.is_websocket()) {
        return Ok(());
    }
    Err(format!("{name} needs a ws or wss URL"))
}

fn subprotocol(name: &str) -> Result<String, String> {
    let request = ClientRequest::new("ws://localhost").map_err(|error| error.to_string())?;
    request.protocol(name).map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}

/// Web pages that may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Same,
    Any,
    Page(String),
}

impl Origin {
    /// Makes the policy from the given origins.
    ///
    /// # Errors
    /// `same` or `any` together with others.
    pub fn policy(origins: &[Origin]) -> Result<OriginPolicy, String> {
        match origins {
            [] | [Origin::Same] => return Ok(OriginPolicy::Same),
            [Origin::Any] => return Ok(OriginPolicy::Any),
            _ => {}
        }
        let pages = origins.iter().map(|origin| match origin {
            Origin::Page(url) => Ok(url.clone()),
            _ => Err("--origin same and --origin any can't be combined with other origins".to_owned()),
        });
        pages.collect::<Result<_, _>>().map(OriginPolicy::List)
    }
}

impl std::str::FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "same" => return Ok(Origin::Same),
            "any" => return Ok(Origin::Any),
            _ => {}
        }
        // Browsers write the scheme, the host and the port, and nothing after that.
        let host = text.split_once("://").map_or("", |(_, host)| host);
        if host.is_empty()
            || host.contains(['/', '?', '#', '@'])
            || !text.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(
                "expected same, any, or an origin such as https://example.com, without a path".to_owned()
            );
        }
        Ok(Origin::Page(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(texts: &[&str]) -> Result<OriginPolicy, String> {
        let origins: Result<Vec<Origin>, String> = texts.iter().map(|text| text.parse()).collect();
        Origin::policy(&origins?)
    }

    #[test]
    fn origins_make_a_policy() {
        assert_eq!(policy(&[]), Ok(OriginPolicy::Same));
        assert_eq!(policy(&["same"]), Ok(OriginPolicy::Same));
        assert_eq!(policy(&["any"]), Ok(OriginPolicy::Any));
        let list = ["https://example.com", "http://[::1]:8080"];
        assert_eq!(policy(&list), Ok(OriginPolicy::List(list.map(str::to_owned).to_vec())));
        assert!(policy(&["same", "https://a.b"]).unwrap_err().contains("can't be combined"));
        assert!(policy(&["any", "any"]).unwrap_err().contains("can't be combined"));
        for bad in ["", "null", "*", "example.com", "https://", "https://a/", "https://a?b", "https://a b"] {
            assert!(policy(&[bad]).unwrap_err().contains("without a path"), "{bad}");
        }
    }
}
