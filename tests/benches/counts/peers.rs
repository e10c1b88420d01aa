//! [`Peer`]: the other end of a session. Nothing here is counted.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use testkit::websocket::peers::REQUEST;

use crate::tls_common::World;

/// Gives bytes to the session, lets it take a turn, and returns its output.
pub type Exchange<'a> = &'a mut dyn FnMut(&[u8]) -> Vec<u8>;

/// The other end of a session.
pub trait Peer {
    /// Opens the session.
    fn open(&mut self, exchange: Exchange<'_>);

    /// Appends the messages of a turn to `to`.
    fn send(&mut self, to: &mut Vec<u8>);

    /// Checks the replies.
    fn receive(&mut self, output: &[u8]);
}

/// A peer that sends the same bytes each time.
pub struct Plain {
    sent: Vec<u8>,
    replies: Vec<u8>,
}

impl Plain {
    pub fn new(depth: usize, sent: &[u8], reply: &[u8]) -> Self {
        Plain { sent: sent.repeat(depth), replies: reply.repeat(depth) }
    }

    /// A peer whose messages differ from one another.
    pub fn of(sent: Vec<u8>, replies: Vec<u8>) -> Self {
        Plain { sent, replies }
    }
}

impl Peer for Plain {
    fn open(&mut self, exchange: Exchange<'_>) {
        exchange(b"");
    }

    fn send(&mut self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.sent);
    }

    fn receive(&mut self, output: &[u8]) {
        assert_eq!(output, self.replies);
    }
}

/// The same, after a WebSocket handshake.
pub struct Upgrading(pub Plain);

impl Peer for Upgrading {
    fn open(&mut self, exchange: Exchange<'_>) {
        let answer = exchange(format!("{REQUEST}\r\n").as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", answer.escape_ascii());
    }

    fn send(&mut self, to: &mut Vec<u8>) {
        self.0.send(to);
    }

    fn receive(&mut self, output: &[u8]) {
        self.0.receive(output);
    }
}

/// A peer that encrypts: rustls, used directly. It sends `messages` in one record.
pub struct Secure {
    client: ClientConnection,
    messages: Vec<u8>,
}

impl Secure {
    pub fn new(world: &World, messages: Vec<u8>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        Secure { client: ClientConnection::new(Arc::new(world.client_config()), name).unwrap(), messages }
    }

    fn take_input(&mut self, mut output: &[u8]) {
        while !output.is_empty() {
            self.client.read_tls(&mut output).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }
}

impl Peer for Secure {
    fn open(&mut self, exchange: Exchange<'_>) {
        while self.client.wants_write() {
            let mut input = Vec::new();
            while self.client.wants_write() {
                self.client.write_tls(&mut input).unwrap();
            }
            self.take_input(&exchange(&input));
        }
        assert!(!self.client.is_handshaking());
    }

    fn send(&mut self, to: &mut Vec<u8>) {
        self.client.writer().write_all(&self.messages).unwrap();
        while self.client.wants_write() {
            self.client.write_tls(to).unwrap();
        }
    }

    fn receive(&mut self, output: &[u8]) {
        self.take_input(output);
        let mut replies = vec![0; self.messages.len()];
        self.client.reader().read_exact(&mut replies).unwrap();
        assert_eq!(replies, self.messages);
    }
}
