//! An echo server on mio: one thread, many sessions. Each message has a 4-byte length prefix. The chapter
//! `embedding` of the crate's documentation explains it step by step.
//!
//! ```sh
//! cargo run --release -p getty-core --example mio_echo -- 127.0.0.1:7000
//! ```
#![allow(clippy::disallowed_methods, reason = "the embedder provides the clock")]

use std::collections::{BTreeSet, VecDeque};
use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Config, Event, Framed, Memory, Session, Timestamp};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address.parse()?)?;
    println!("listening tcp://{}", listener.local_addr()?);
    let config = Config::builder().idle_both(Duration::from_secs(300)).build()?;
    Ok(serve(Poll::new()?, listener, config)?)
}

/// Waking a [`mio::Waker`] with this token ends the server.
pub const STOP: Token = Token(usize::MAX - 1);
const LISTENER: Token = Token(usize::MAX - 2);
/// Connections accepted before the sessions run.
const ACCEPTS: usize = 64;
/// Pause after accepting has failed.
const REST: Duration = Duration::from_millis(20);
/// Size of the read buffer.
const READ: usize = 64 * 1024;
/// Rounds of a session per turn, and events per round.
const ROUNDS: usize = 16;
const EVENTS: usize = 1024;

/// Serves until the selector fails or [`STOP`] comes.
pub fn serve(poll: Poll, mut listener: TcpListener, config: Arc<Config>) -> io::Result<()> {
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let server = Server {
        poll,
        listener,
        accept_at: None,
        config,
        origin: Instant::now(),
        connections: Slab::new(),
        ready: VecDeque::new(),
        deadlines: BTreeSet::new(),
        memory: None,
        buffer: vec![0; READ],
    };
    server.run()
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    /// Time from which accepting may succeed; `None` until the selector reports the listener ready.
    accept_at: Option<Timestamp>,
    config: Arc<Config>,
    /// The origin of every `Timestamp`.
    origin: Instant,
    connections: Slab<Connection>,
    /// Sessions with something to do, each listed once.
    ready: VecDeque<usize>,
    /// The next deadline of each session that has one.
    deadlines: BTreeSet<(Timestamp, usize)>,
    /// Working memory, lent to one session at a time.
    memory: Option<Memory>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    session: Session<Framed<LengthDelimited>>,
    /// Whether there may be something to read.
    readable: bool,
    /// Whether the selector has reported the end of the stream.
    ended: bool,
    /// Whether it is in `Server::ready`.
    queued: bool,
    /// Its entry in `Server::deadlines`.
    armed: Option<Timestamp>,
}

impl Server {
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        loop {
            match self.poll.poll(&mut events, self.wait()) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            let now = self.now();
            for event in &events {
                match event.token() {
                    STOP => return Ok(()),
                    LISTENER => self.accept_at = self.accept_at.or(Some(now)),
                    Token(key) => self.wake(key, |connection| {
                        connection.ended |= event.is_read_closed() || event.is_error();
                        connection.readable |= event.is_readable() || connection.ended;
                    }),
                }
            }
            if self.accept_at.is_some_and(|at| at <= now) {
                self.accept(now);
            }
            // A session that is not done runs again after all others and after new events.
            for _ in 0..self.ready.len() {
                let Some(key) = self.ready.pop_front() else { break };
                self.turn(key, now);
            }
            // Deadlines come after that: data that came in time counts, however late this turn is.
            while let Some((_, key)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
                self.deadlines.pop_first();
                self.wake(key, |connection| {
                    connection.armed = None;
                    connection.session.handle_timeout(now);
                });
            }
        }
    }

    /// Time to wait for events.
    fn wait(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let next = deadline.into_iter().chain(self.accept_at).min()?;
        Some(next.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_origin(self.origin.elapsed())
    }

    fn wake(&mut self, key: usize, note: impl FnOnce(&mut Connection)) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        note(connection);
        if !std::mem::replace(&mut connection.queued, true) {
            self.ready.push_back(key);
        }
    }

    fn accept(&mut self, now: Timestamp) {
        for _ in 0..ACCEPTS {
            let accepted = self.listener.accept().and_then(|(stream, _)| self.begin(stream, now));
            match accepted.map_err(|error| error.kind()) {
                Ok(()) | Err(ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
                Err(ErrorKind::WouldBlock) => return self.accept_at = None,
                // Usually too many open files: a retry now would fail, and no event says when to retry.
                Err(_) => return self.accept_at = Some(now + REST),
            }
        }
    }

    /// A new socket is writable, so the session's first event, and with it its first turn, comes at once.
    fn begin(&mut self, mut stream: TcpStream, now: Timestamp) -> io::Result<()> {
        let _ = stream.set_nodelay(true); // writes are whole batches already
        let entry = self.connections.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(entry.key()), interest)?;
        let session = Session::new(Framed::new(LengthDelimited::new()), self.config.clone(), now);
        let armed = None;
        entry.insert(Connection { stream, session, readable: false, ended: false, queued: false, armed });
        Ok(())
    }

    fn turn(&mut self, key: usize, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.queued = false;
        connection.session.lend(self.memory.take().unwrap_or_default());
        let done = connection.turn(now, &mut self.buffer);
        self.memory = Some(connection.session.take_back());

        let (armed, due) = (connection.armed, connection.session.poll_timeout());
        if armed != due {
            connection.armed = due;
            if let Some(at) = armed {
                self.deadlines.remove(&(at, key));
            }
            self.deadlines.extend(due.map(|at| (at, key)));
        }
        if connection.session.is_closed() {
            self.connections.remove(key); // closes the socket
        } else if !done {
            self.wake(key, |_| {});
        }
    }
}

impl Connection {
    /// Handles all events, writes once and reads once, until nothing more happens or the turn is over.
    /// Returns whether everything is done.
    fn turn(&mut self, now: Timestamp, buffer: &mut [u8]) -> bool {
        for _ in 0..ROUNDS {
            let delivered = self.deliver(now);
            let written = self.write(now);
            let read = self.read(now, buffer); // last: allowed only once all events were polled
            if !(delivered || written || read) {
                return true;
            }
        }
        false
    }

    fn deliver(&mut self, now: Timestamp) -> bool {
        for delivered in 0..EVENTS {
            // Messages come by `poll_event` too, but this is faster.
            if let Some(message) = self.session.poll_message() {
                self.echo(message);
                continue;
            }
            let Some(event) = self.session.poll_event() else { return delivered > 0 };
            match event {
                Event::Message(message) => self.echo(message),
                Event::Eof | Event::Idle(_) => self.session.close(now, Close::graceful()),
                _ => {}
            }
        }
        true
    }

    fn echo(&mut self, message: Bytes) {
        let _ = self.session.send(message); // a reply is never refused
    }

    fn write(&mut self, now: Timestamp) -> bool {
        let mut written = false;
        while self.session.wants_write() {
            let mut outbound = self.session.outbound(now);
            let result = if outbound.chunk().len() == outbound.remaining() {
                self.stream.write(outbound.chunk()) // cheaper than a vectored write of one slice
            } else {
                let mut pieces = [IoSlice::new(&[]); 16];
                let filled = outbound.chunks_vectored(&mut pieces);
                self.stream.write_vectored(&pieces[..filled])
            };
            match result {
                Ok(n) => outbound.advance(n),
                Err(error) => {
                    drop(outbound);
                    return self.fail(now, &error) || written;
                }
            }
            written = true;
        }
        if self.session.wants_shutdown() {
            let _ = self.stream.shutdown(Shutdown::Write); // if that fails, reading fails too
            self.session.handle_shutdown(now);
            written = true;
        }
        written
    }

    fn read(&mut self, now: Timestamp, buffer: &mut [u8]) -> bool {
        if !self.readable || !self.session.wants_read() {
            return false;
        }
        match self.stream.read(buffer) {
            Ok(0) => self.session.handle_eof(now),
            Ok(n) => {
                self.session.handle_input(now, &buffer[..n]);
                // With epoll, a short read has emptied the socket, and later data is a new event. But the end
                // of the stream is reported only once.
                self.readable = n == buffer.len() || self.ended || cfg!(not(target_os = "linux"));
            }
            Err(error) => {
                self.readable = error.kind() != ErrorKind::WouldBlock;
                return self.fail(now, &error);
            }
        }
        true
    }

    /// Reports an error to the session, unless it asks for a retry. Returns whether to do another round.
    fn fail(&mut self, now: Timestamp, error: &io::Error) -> bool {
        match error.kind() {
            ErrorKind::WouldBlock => return false,
            ErrorKind::Interrupted => {}
            _ => self.session.handle_io_error(now, error),
        }
        true
    }
}
