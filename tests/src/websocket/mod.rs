//! Open WebSocket sessions, frames made and read by code independent of getty's, and any bytes against a
//! session's guarantees.

pub mod deflate;
pub mod differential;
pub mod frames;
pub mod handshakes;
pub mod peers;
pub mod script;
pub mod streams;

use std::sync::Arc;

use bytes::Buf;
use getty_core::websocket::{Accept, ClientRequest, ServerOptions, Verdict, WebSocket};
use getty_core::{Config, Event, Protocol, Session, Timestamp};

use crate::Rng;

/// Makes masks and keys from `seed`. A real client's must be unpredictable.
pub fn random(seed: u64) -> impl FnMut(&mut [u8]) + Send + 'static {
    let mut rng = Rng::new(seed);
    move |bytes| {
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&rng.next_u64().to_le_bytes()[..piece.len()]);
        }
    }
}

/// Makes an open client and an open server.
pub fn opened(config: &Arc<Config>, now: Timestamp) -> (Session<WebSocket>, Session<WebSocket>) {
    let request = ClientRequest::new("ws://example.com/").expect("valid");
    let client = WebSocket::client(request, random(1));
    open(client, WebSocket::server(ServerOptions::new()), config, now)
}

/// Opens sessions of `client` and `server` with each other.
///
/// # Panics
/// If their handshake fails.
pub fn open<C, S>(client: C, server: S, config: &Arc<Config>, now: Timestamp) -> (Session<C>, Session<S>)
where
    C: Protocol,
    S: Protocol,
{
    let mut client = Session::new(client, config.clone(), now);
    let mut server = Session::new(server, config.clone(), now);
    let request = written(&mut client, now);
    server.handle_input(now, &request);
    assert!(matches!(server.poll_event(), Some(Event::Request(_))));
    server.respond(now, Verdict::Accept(Accept::new())).expect("a request waits");
    let answer = written(&mut server, now);
    client.handle_input(now, &answer);
    assert!(matches!(client.poll_event(), Some(Event::Open(_))));
    assert!(matches!(server.poll_event(), Some(Event::Open(_))));
    (client, server)
}

/// Takes the session's output.
pub fn written<P: Protocol>(session: &mut Session<P>, now: Timestamp) -> Vec<u8> {
    let mut out = session.outbound(now);
    let mut bytes = vec![0; out.remaining()];
    out.copy_to_slice(&mut bytes);
    bytes
}
