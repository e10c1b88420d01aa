//! [`Load`]: connections that keep messages in flight, in a closed loop, and check every reply.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use crate::kind::Framing;

/// A server that sends nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// Echoes to wait for, at least, for each message in flight: a measurement has more than its two ends.
const ECHOES: u64 = 3;

/// Bytes taken with one read.
const BUFFER: usize = 64 << 10;

const MASK: [u8; 4] = [0x1d, 0xc3, 0x58, 0xa7];

/// Traffic with messages of one size.
pub struct Traffic {
    framing: Framing,
    /// A message as the client sends it.
    request: Vec<u8>,
    /// Its echo.
    reply: Vec<u8>,
}

impl Traffic {
    pub fn new(framing: Framing, size: usize) -> Self {
        let payload: Vec<u8> = (1..=size).map(|at| (at * at % 251) as u8).collect();
        let masked: Vec<u8> =
            payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let (request, reply) = match framing {
            Framing::Length => {
                let frame = [&(size as u32).to_be_bytes(), &payload[..]].concat();
                (frame.clone(), frame)
            }
            Framing::WebSocket => {
                ([&head(size, 0x80)[..], &MASK, &masked].concat(), [&head(size, 0)[..], &payload].concat())
            }
        };
        Traffic { framing, request, reply }
    }

    /// A connection that is ready for messages.
    fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address).context("cannot connect to the server")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        if self.framing == Framing::WebSocket {
            stream.write_all(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )?;
            let (mut response, mut byte) = (Vec::new(), [0]);
            while !response.ends_with(b"\r\n\r\n") {
                stream.read_exact(&mut byte).context("the server does not answer the handshake")?;
                response.extend(byte);
            }
            ensure!(response.starts_with(b"HTTP/1.1 101"), "the server refuses the handshake");
        }
        Ok(stream)
    }

    /// A connection after the echo of one message.
    pub fn connect_and_echo(&self, address: SocketAddr) -> Result<TcpStream> {
        let mut stream = self.connect(address)?;
        stream.write_all(&self.request)?;
        let mut echo = vec![0; self.reply.len()];
        stream.read_exact(&mut echo).context("the server does not reply")?;
        ensure!(echo == self.reply, "the reply differs from the message");
        Ok(stream)
    }
}

/// Start of a binary WebSocket frame, up to the length.
fn head(size: usize, mask: u8) -> Vec<u8> {
    match size {
        0..126 => vec![0x82, mask | size as u8],
        126..0x1_0000 => [&[0x82, mask | 126], &(size as u16).to_be_bytes()[..]].concat(),
        _ => [&[0x82, mask | 127], &(size as u64).to_be_bytes()[..]].concat(),
    }
}

/// Connections with messages in flight.
pub struct Load {
    poll: Poll,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    /// Requests one after another, more than are in flight.
    requests: Vec<u8>,
    request: usize,
    /// Replies one after another, more than `buffer` holds.
    replies: Vec<u8>,
    reply: usize,
    in_flight: u64,
}

struct Connection {
    stream: mio::net::TcpStream,
    /// Bytes of requests to be sent, and where in a request they begin.
    unsent: usize,
    sent: usize,
    /// Received bytes of a reply that is not complete.
    received: usize,
}

impl Load {
    /// Opens `connections`, and sends `depth` messages on each.
    pub fn start(address: SocketAddr, traffic: &Traffic, connections: usize, depth: usize) -> Result<Self> {
        let poll = Poll::new()?;
        let mut load = Load {
            poll,
            connections: Vec::new(),
            buffer: vec![0; BUFFER],
            requests: traffic.request.repeat(depth + 1),
            request: traffic.request.len(),
            replies: traffic.reply.repeat(BUFFER / traffic.reply.len() + 2),
            reply: traffic.reply.len(),
            in_flight: (connections * depth) as u64,
        };
        for token in (0..connections).map(Token) {
            let stream = traffic.connect(address)?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            load.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            let unsent = depth * load.request;
            load.connections.push(Connection { stream, unsent, sent: 0, received: 0 });
        }
        Ok(load)
    }

    /// Keeps messages in flight for this long, or longer if few come back. Returns how many came back.
    pub fn run(&mut self, time: Duration) -> Result<u64> {
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        let (mut now, mut latest, mut messages) = (start, start, 0);
        while now - start < time || messages < ECHOES * self.in_flight {
            match self.poll.poll(&mut events, Some(Duration::from_millis(10))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                polled => polled?,
            }
            now = Instant::now();
            for event in &events {
                messages += self.turn(event.token().0)?;
                latest = now;
            }
            ensure!(now - latest < PATIENCE, "the server sends no replies");
        }
        Ok(messages)
    }

    /// Receives what one connection has, and sends a message for each reply. Returns the number of replies.
    fn turn(&mut self, connection: usize) -> Result<u64> {
        let connection = &mut self.connections[connection];
        let mut replies = 0;
        loop {
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => bail!("the server has closed a connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a connection has failed"),
            };
            let expected = &self.replies[connection.received..][..read];
            ensure!(self.buffer[..read] == *expected, "a reply differs from its message");
            connection.received += read;
            replies += connection.received / self.reply;
            connection.received %= self.reply;
            if read < self.buffer.len() {
                break; // the next event comes with more bytes
            }
        }
        connection.unsent += replies * self.request;
        while connection.unsent > 0 {
            match connection.stream.write(&self.requests[connection.sent..][..connection.unsent]) {
                Ok(written) => {
                    connection.unsent -= written;
                    connection.sent = (connection.sent + written) % self.request;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a connection has failed"),
            }
        }
        Ok(replies as u64)
    }
}
