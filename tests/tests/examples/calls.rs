//! The RPC server on mio, with a client on a blocking socket.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use getty_core::rpc::{
    Body, CallId, Code, CodecName, Config, Event, Executed, Frames, ItemError, Peer, Reply, Request, Side,
};
use getty_core::{Close, Event as SessionEvent, Framed, Session, Timestamp};

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../core/examples/mio_rpc.rs"]
mod mio_rpc;

/// The longest that a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    waker: mio::Waker,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

impl Server {
    fn start(config: Arc<Config>) -> Self {
        let poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio_rpc::STOP).unwrap();
        let listener = mio::net::TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let thread = Some(thread::spawn(move || mio_rpc::serve(poll, listener, config)));
        Server { address, waker, thread }
    }

    fn join(&mut self) {
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.waker.wake().unwrap();
            self.join();
        }
    }
}

struct Client {
    stream: TcpStream,
    session: Session<Framed<Frames>>,
    peer: Peer,
    origin: Instant,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let limits = getty_core::Config::builder().max_frame(16 << 20).build().unwrap();
        let session = Session::new(Framed::new(Frames::new()), limits, Timestamp::ORIGIN);
        let peer = Peer::new(Arc::default(), Side::Connecting, Timestamp::ORIGIN);
        Client { stream, session, peer, origin: Instant::now() }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_origin(self.origin.elapsed())
    }

    fn call(&mut self, method: &'static str, body: impl Into<Body>, more: bool) -> CallId {
        let request = Request { more, ..Request::new(method, CodecName::Raw, body) };
        let now = self.now();
        self.peer.call(now, request, None).unwrap()
    }

    /// The events of one turn.
    fn turn(&mut self) -> Vec<Event> {
        let now = self.now();
        assert!(now.since_origin() < PATIENCE, "waited in vain");
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Message(frame) => self.peer.handle_frame(now, frame).unwrap(),
                SessionEvent::Eof => self.session.close(now, Close::graceful()),
                SessionEvent::Closed(reason) => {
                    let progress = self.session.stats().progress;
                    self.peer.handle_closed(now, &reason, &progress);
                }
                _ => {}
            }
        }
        self.session.end_reply();
        while self.session.is_open() && self.session.is_writable() {
            let Some(frame) = self.peer.poll_frame(now) else { break };
            let accepted = self.session.send(frame).unwrap();
            self.peer.frame_sent(accepted);
        }
        let mut outbound = self.session.outbound(now);
        let waiting = outbound.remaining();
        let bytes = outbound.copy_to_bytes(waiting);
        drop(outbound);
        self.stream.write_all(&bytes).unwrap();
        if self.session.wants_shutdown() {
            self.stream.shutdown(std::net::Shutdown::Write).unwrap();
            self.session.handle_shutdown(now);
        }
        if self.session.wants_read() {
            let mut buffer = [0; 64 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.session.handle_eof(now),
                Ok(n) => self.session.handle_input(now, &buffer[..n]),
                Err(error) => assert!([ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind())),
            }
        }
        std::iter::from_fn(|| self.peer.poll_event()).collect()
    }

    /// How the next call ends that does.
    fn ended(&mut self) -> (CallId, Result<Reply, getty_core::rpc::Status>) {
        loop {
            for event in self.turn() {
                match event {
                    Event::Ended(id, result) => return (id, result),
                    Event::Hello(_) | Event::Rtt(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn calls_are_answered_and_others_refused() {
    let server = Server::start(Arc::default());
    let mut client = Client::connect(&server);
    let id = client.call("echo.Echo/Unary", "hello", false);
    let (ended, result) = client.ended();
    assert_eq!((ended, &result.unwrap().body.bytes[..]), (id, &b"hello"[..]));
    client.call("echo.Echo/Nothing", "hello", false);
    let status = client.ended().1.unwrap_err();
    assert_eq!((status.code(), status.executed()), (Code::Unimplemented, Executed::No));
}

#[test]
fn a_stream_larger_than_its_window_is_echoed_in_order() {
    const ITEMS: usize = 2000;
    let server = Server::start(Arc::default());
    let mut client = Client::connect(&server);
    let id = client.call("echo.Echo/Stream", "", true);
    let (mut sent, mut received, mut over) = (0_usize, 0_usize, false);
    while !over {
        while sent < ITEMS {
            let item = Bytes::from([&sent.to_le_bytes()[..], &[7; 1000]].concat());
            match client.peer.send_item(id, item.into()) {
                Ok(()) => sent += 1,
                Err(ItemError::Blocked(_)) => break,
                Err(error) => panic!("{error}"),
            }
        }
        if sent == ITEMS {
            client.peer.finish(id);
        }
        for event in client.turn() {
            match event {
                Event::Item(of, item) => {
                    assert_eq!((of, &item.bytes[..8]), (id, &received.to_le_bytes()[..]));
                    received += 1;
                    client.peer.consumed(id, item.bytes.len());
                }
                Event::Ended(of, result) => over = of == id && result.is_ok(),
                Event::Hello(_) | Event::Room(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((sent, received), (ITEMS, ITEMS));
}

/// Both ends know how a stop ends: the call under way finishes, a later one is refused.
#[test]
fn a_stop_lets_calls_finish() {
    let mut server = Server::start(Arc::default());
    let mut client = Client::connect(&server);
    let id = client.call("echo.Echo/Stream", "", true);
    while !client.turn().iter().any(|event| matches!(event, Event::Hello(_))) {}
    server.waker.wake().unwrap();
    while !client.turn().iter().any(|event| matches!(event, Event::GoAway(_))) {}
    assert!(client.peer.is_leaving());
    client.peer.send_item(id, Bytes::from("last").into()).unwrap();
    client.peer.finish(id);
    let mut seen = Vec::new();
    while !client.session.is_closed() {
        seen.extend(client.turn());
    }
    let expected =
        [Event::Item(id, Bytes::from("last").into()), Event::Ended(id, Ok(Reply::default())), Event::Drained];
    assert_eq!(seen, expected);
    server.join();
}
