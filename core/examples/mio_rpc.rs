//! An RPC server on mio: one thread, many connections. The loop is that of `mio_echo`; the chapters
//! `embedding` and `rpc::embedding` of the crate's documentation explain the two halves. It answers a call of
//! `echo.Echo/Unary` with its request, and echoes the items of `echo.Echo/Stream`.
//!
//! ```sh
//! cargo run --release -p getty-core --features rpc --example mio_rpc -- 127.0.0.1:7000
//! ```
#![allow(clippy::disallowed_methods, reason = "the embedder provides the clock")]

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Buf;
use getty_core::rpc::{
    self, Body, CallId, Executed, Frames, GoAwayCode, ItemError, Peer, PeerFault, Reply, Side, Status,
};
use getty_core::{Close, Config, Event, Framed, Memory, Session, Timestamp};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address.parse()?)?;
    println!("listening tcp://{}", listener.local_addr()?);
    Ok(serve(Poll::new()?, listener, rpc::Config::builder().build()?)?)
}

/// Waking a [`mio::Waker`] with this token ends the server: calls under way may finish first.
pub const STOP: Token = Token(usize::MAX - 1);
const LISTENER: Token = Token(usize::MAX - 2);
/// Connections accepted before the sessions run.
const ACCEPTS: usize = 64;
/// Pause after accepting has failed.
const REST: Duration = Duration::from_millis(20);
/// Size of the read buffer.
const READ: usize = 64 * 1024;
/// Time for calls under way once the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// Rounds of a session per turn, and events per round.
const ROUNDS: usize = 16;
const EVENTS: usize = 1024;

/// Serves until the selector fails or [`STOP`] comes.
pub fn serve(poll: Poll, mut listener: TcpListener, rpc: Arc<rpc::Config>) -> io::Result<()> {
    let frame = rpc.max_frame() as usize + 12; // with its header
    let config = Config::builder().max_frame(frame).build().map_err(io::Error::other)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let server = Server {
        poll,
        listener,
        accept_at: None,
        stop_at: None,
        rpc,
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
    /// The end of the grace, once the server stops.
    stop_at: Option<Timestamp>,
    rpc: Arc<rpc::Config>,
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
    session: Session<Framed<Frames>>,
    peer: Peer,
    /// The streams that are echoed.
    streams: HashMap<CallId, Echo>,
    /// Whether there may be something to read.
    readable: bool,
    /// Whether the selector has reported the end of the stream.
    ended: bool,
    /// Whether it is in `Server::ready`.
    queued: bool,
    /// Its entry in `Server::deadlines`.
    armed: Option<Timestamp>,
}

/// A stream that is echoed.
#[derive(Default)]
struct Echo {
    /// Items that wait for room. The caller sends no more than its window until they are gone.
    items: VecDeque<Body>,
    ended: bool,
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
                    STOP => self.stop(now),
                    LISTENER => self.accept_at = self.accept_at.or(Some(now)),
                    Token(key) => self.wake(key, |connection| {
                        connection.ended |= event.is_read_closed() || event.is_error();
                        connection.readable |= event.is_readable() || connection.ended;
                    }),
                }
            }
            if self.stop_at.is_some_and(|at| self.connections.is_empty() || at <= now) {
                return Ok(());
            }
            if self.stop_at.is_none() && self.accept_at.is_some_and(|at| at <= now) {
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
                    connection.expire(now);
                });
            }
        }
    }

    /// Time to wait for events.
    fn wait(&self) -> Option<Duration> {
        if !self.ready.is_empty() || self.stop_at.is_some() && self.connections.is_empty() {
            return Some(Duration::ZERO);
        }
        let deadline = self.deadlines.first().map(|(at, _)| *at);
        let next = deadline.into_iter().chain(self.stop_at.or(self.accept_at)).min()?;
        Some(next.saturating_duration_since(self.now()))
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_origin(self.origin.elapsed())
    }

    /// Goes away on every connection.
    fn stop(&mut self, now: Timestamp) {
        self.stop_at = Some(now + GRACE);
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.wake(key, |connection| {
                connection.peer.go_away(now, GoAwayCode::Shutdown, "the server stops");
            });
        }
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
        entry.insert(Connection {
            stream,
            session: Session::new(Framed::new(Frames::new()), self.config.clone(), now),
            peer: Peer::new(self.rpc.clone(), Side::Accepting, now),
            streams: HashMap::new(),
            readable: false,
            ended: false,
            queued: false,
            armed: None,
        });
        Ok(())
    }

    fn turn(&mut self, key: usize, now: Timestamp) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.queued = false;
        connection.session.lend(self.memory.take().unwrap_or_default());
        let done = connection.turn(now, &mut self.buffer);
        self.memory = Some(connection.session.take_back());

        let (armed, due) = (connection.armed, connection.next());
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
    /// Takes all frames, answers, writes once and reads once, until nothing more happens or the turn is over.
    /// Returns whether everything is done.
    fn turn(&mut self, now: Timestamp, buffer: &mut [u8]) -> bool {
        for _ in 0..ROUNDS {
            let received = self.receive(now);
            let served = self.serve(now);
            let sent = self.send(now);
            let written = self.write(now);
            let read = self.read(now, buffer); // last: allowed only once all events were polled
            if !(received || served || sent || written || read) {
                return true;
            }
        }
        false
    }

    fn receive(&mut self, now: Timestamp) -> bool {
        for received in 0..EVENTS {
            let Some(event) = self.session.poll_event() else { return received > 0 };
            match event {
                Event::Message(frame) => {
                    if let Err(fault) = self.peer.handle_frame(now, frame) {
                        self.fail_peer(now, fault);
                    }
                }
                Event::Eof => self.session.close(now, Close::graceful()),
                Event::Closed(reason) => {
                    let progress = self.session.stats().progress;
                    self.peer.handle_closed(now, &reason, &progress);
                }
                _ => {}
            }
        }
        true
    }

    /// Answers the calls.
    fn serve(&mut self, now: Timestamp) -> bool {
        let mut served = false;
        while let Some(event) = self.peer.poll_event() {
            match event {
                rpc::Event::Request(id, request) => match request.method.as_str() {
                    "echo.Echo/Unary" => {
                        self.peer.respond(id, Ok(Reply { body: request.body, ..Reply::default() }));
                    }
                    "echo.Echo/Stream" if request.more => {
                        self.streams.insert(id, Echo::default());
                    }
                    _ => {
                        let status = Status::unimplemented("there is no such method");
                        self.peer.respond(id, Err(status.with_executed(Executed::No)));
                    }
                },
                rpc::Event::Item(id, item) => self.echo(id, |echo| echo.items.push_back(item)),
                rpc::Event::End(id) => self.echo(id, |echo| echo.ended = true),
                rpc::Event::Room(id) => self.echo(id, |_| {}),
                rpc::Event::Cancelled(id, _) => {
                    self.streams.remove(&id);
                    self.peer.release(id);
                }
                rpc::Event::Drained => self.session.close(now, Close::graceful()),
                _ => {}
            }
            served = true;
        }
        served
    }

    /// Sends items back while there is room. The caller may send more for those that are gone.
    fn echo(&mut self, id: CallId, note: impl FnOnce(&mut Echo)) {
        let Some(echo) = self.streams.get_mut(&id) else { return };
        note(echo);
        while let Some(item) = echo.items.pop_front() {
            let bytes = item.bytes.len();
            match self.peer.send_item(id, item) {
                Ok(()) => self.peer.consumed(id, bytes),
                Err(ItemError::Blocked(item)) => return echo.items.push_front(item), // until `Room`
                Err(error) => {
                    self.streams.remove(&id);
                    return self.peer.respond(id, Err(Status::resource_exhausted(error.to_string())));
                }
            }
        }
        if echo.ended {
            self.streams.remove(&id);
            self.peer.respond(id, Ok(Reply::default()));
        }
    }

    /// Sends frames while there is room for them. They are no replies to the session, which goes on reading.
    fn send(&mut self, now: Timestamp) -> bool {
        self.session.end_reply();
        let mut sent = false;
        while self.session.is_open() && self.session.is_writable() {
            let Some(frame) = self.peer.poll_frame(now) else { break };
            match self.session.send(frame) {
                Ok(accepted) => self.peer.frame_sent(accepted),
                Err(error) => self.peer.frame_refused(error),
            }
            sent = true;
        }
        sent
    }

    fn expire(&mut self, now: Timestamp) {
        self.session.handle_timeout(now);
        self.peer.handle_alive(self.session.last_active());
        if let Err(fault) = self.peer.handle_timeout(now) {
            self.fail_peer(now, fault);
        }
    }

    /// Ends a connection whose peer broke a rule. The last frame says which.
    fn fail_peer(&mut self, now: Timestamp, fault: PeerFault) {
        self.send(now);
        self.session.close(now, Close::fault(Arc::new(fault)));
    }

    /// The next deadline.
    fn next(&self) -> Option<Timestamp> {
        self.session.poll_timeout().into_iter().chain(self.peer.poll_timeout()).min()
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
