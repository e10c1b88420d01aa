//! Options on WebSocket, in TLS or not.

use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use getty_driver::core::websocket::{ClientRequest, Deflate, OriginPolicy, ServerOptions};

use crate::units;
use crate::url::Url;

/// Options on sessions of ws and wss URLs.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "WebSocket options")]
pub struct WebSocketOptions {
    /// Compresses messages if the peer is willing to (permessage-deflate)
    #[arg(long)]
    deflate: bool,

    /// Sends a ping so often; a peer that does not answer one within 10 s is disconnected
    #[arg(long, value_name = "SECS", value_parser = units::period)]
    pub ping: Option<Duration>,

    /// A sub-protocol: a client offers it, a server agrees to it if it is offered. Several are in order of preference
    #[arg(long, value_name = "NAME", value_parser = subprotocol)]
    pub subprotocol: Vec<String>,
}

impl WebSocketOptions {
    /// Checks that these options have something to act on.
    pub fn check<'a>(&self, urls: impl IntoIterator<Item = &'a Url>) -> Result<(), String> {
        let WebSocketOptions { deflate, ping, subprotocol } = self;
        let given =
            [("--deflate", *deflate), ("--ping", ping.is_some()), ("--subprotocol", !subprotocol.is_empty())];
        match given.into_iter().find(|(_, given)| *given) {
            Some((name, _)) => check_used(name, urls).and_then(|()| self.check_names()),
            None => Ok(()),
        }
    }

    /// Checks that no sub-protocol is named twice.
    pub fn check_names(&self) -> Result<(), String> {
        let names = &self.subprotocol;
        match names.iter().enumerate().find(|(index, name)| names[..*index].contains(name)) {
            Some((_, name)) => Err(format!("--subprotocol {name} is given twice")),
            None => Ok(()),
        }
    }

    /// What a client asks for.
    pub fn request(&self, url: &Url) -> anyhow::Result<ClientRequest> {
        let mut request = ClientRequest::new(&url.to_string())?;
        for name in &self.subprotocol {
            request = request.protocol(name).context("--subprotocol")?;
        }
        Ok(if self.deflate { request.deflate(Deflate::new()) } else { request })
    }

    /// Whom a server lets in.
    pub fn server(&self, origin: OriginPolicy) -> ServerOptions {
        let mut options = ServerOptions::new().origin(origin).plain_requests(true);
        for name in &self.subprotocol {
            options = options.protocol(name);
        }
        if self.deflate { options.deflate(Deflate::new()) } else { options }
    }
}

/// Checks that there is a ws or wss URL for the option `name`.
pub fn check_used<'a>(name: &str, urls: impl IntoIterator<Item = &'a Url>) -> Result<(), String> {
    if urls.into_iter().any(|url| url.transport.is_websocket()) {
        return Ok(());
    }
    Err(format!("{name} is for ws and wss URLs, and there is none"))
}

fn subprotocol(name: &str) -> Result<String, String> {
    let request = ClientRequest::new("ws://localhost").map_err(|error| error.to_string())?;
    request.protocol(name).map_err(|error| error.to_string())?;
    Ok(name.to_owned())
}

/// Which web pages may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Same,
    Any,
    Page(String),
}

impl Origin {
    /// The policy that several of these make.
    ///
    /// # Errors
    /// `same` or `any` beside others.
    pub fn policy(origins: &[Origin]) -> Result<OriginPolicy, String> {
        match origins {
            [] | [Origin::Same] => return Ok(OriginPolicy::Same),
            [Origin::Any] => return Ok(OriginPolicy::Any),
            _ => {}
        }
        let pages = origins.iter().map(|origin| match origin {
            Origin::Page(url) => Ok(url.clone()),
            _ => Err("--origin same and --origin any can't be combined with others".to_owned()),
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
        // As a browser writes it: with a scheme, and nothing after the host and the port.
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
