//! Measures decoding and encoding of WebSocket frames in memory, beside tungstenite and fastwebsockets.
//!
//! `cargo bench -p getty-tests --bench websocket` prints nanoseconds per frame, the best of several rounds in
//! which the libraries take turns. Each library reads from one slice and writes to one buffer, so that all
//! figures include one copy of every byte, as they would with a socket. Getty works as its driver does: in
//! lent memory, 128 KiB a read, and each frame is polled as an event. Each library makes its masks as usual;
//! getty has no source of randomness of its own and is given a cheap one.

use std::hint::black_box;
use std::io::{self, IoSlice, Read, Write};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes};
use fastwebsockets::{Frame, Payload};
use getty_core::websocket::{Message, WebSocket};
use getty_core::{Config, Event, Memory, Session, Timestamp};
use testkit::websocket::opened;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::WebSocketConfig;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Data, OpCode};

const SIZES: [usize; 5] = [16, 128, 1024, 16 * 1024, 1 << 20];
const ROUNDS: u32 = 9;
const ROUND: Duration = Duration::from_millis(12);
const NOW: Timestamp = Timestamp::ORIGIN;
/// The most bytes that a socket gives or takes at a time.
const SOCKET: usize = 128 * 1024;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Server,
    Client,
}

/// Handles one batch of frames and returns their number.
type Batch = Box<dyn FnMut() -> usize>;

/// Makes a library's batch of frames of one size.
type Library = fn(size: usize, role: Role) -> Batch;

fn main() {
    let decoding: [(&str, Library); 3] =
        [("getty", getty_decode), ("tungstenite", tungstenite_decode), ("fastwebsockets", fast_decode)];
    let encoding: [(&str, Library); 3] =
        [("getty", getty_encode), ("tungstenite", tungstenite_encode), ("fastwebsockets", fast_encode)];
    table("decode as server (masked)", &decoding, Role::Server);
    table("decode as client", &decoding, Role::Client);
    table("encode as server", &encoding, Role::Server);
    table("encode as client (masked)", &encoding, Role::Client);
}

fn table(title: &str, libraries: &[(&str, Library)], role: Role) {
    println!("\n{title}: ns per frame (GB/s of payload)\n");
    println!("{:16}{:>17}{:>17}{:>17}{:>17}{:>17}", "", "16 B", "128 B", "1 KiB", "16 KiB", "1 MiB");
    let mut best = vec![[f64::MAX; SIZES.len()]; libraries.len()];
    for (column, size) in SIZES.into_iter().enumerate() {
        let mut batches: Vec<Batch> = libraries.iter().map(|(_, library)| library(size, role)).collect();
        for _ in 0..ROUNDS {
            for (batch, best) in batches.iter_mut().zip(&mut best) {
                best[column] = best[column].min(nanoseconds(batch));
            }
        }
    }
    for ((name, _), row) in libraries.iter().zip(best) {
        print!("{name:16}");
        for (ns, size) in row.into_iter().zip(SIZES) {
            print!("{:>17}", format!("{ns:.1} ({:.1})", size as f64 / ns));
        }
        println!();
    }
}

/// Runs one round. Returns nanoseconds per frame.
fn nanoseconds(batch: &mut Batch) -> f64 {
    let (start, mut frames) = (Instant::now(), 0);
    while start.elapsed() < ROUND {
        frames += batch();
    }
    start.elapsed().as_nanos() as f64 / frames as f64
}

/// Number of frames in a batch: as many as fit into the socket, at least one.
fn count(size: usize) -> usize {
    (SOCKET / (size + 14)).clamp(1, 1000)
}

fn payload(size: usize) -> Bytes {
    (0..size).map(|i| i as u8).collect()
}

/// One batch of frames from the peer of `role`.
fn wire(size: usize, role: Role) -> Vec<u8> {
    let mask = (role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    let header = FrameHeader { opcode: OpCode::Data(Data::Binary), mask, ..FrameHeader::default() };
    let mut bytes = Vec::new();
    header.format(size as u64, &mut bytes).unwrap();
    bytes.extend_from_slice(&payload(size)); // the mask turns it into other bytes, which do not matter
    bytes.repeat(count(size))
}

fn getty_decode(size: usize, role: Role) -> Batch {
    let (wire, mut session, mut memory) = (wire(size, role), getty(role), Some(Memory::new()));
    Box::new(move || {
        let (mut rest, mut frames) = (&wire[..], 0);
        session.lend(memory.take().unwrap());
        while !rest.is_empty() {
            let mut room = session.recv_buf();
            let (read, unread) = rest.split_at(room.remaining_mut().min(rest.len()));
            room.put_slice(read);
            rest = unread;
            session.handle_read(NOW);
            while let Some(event) = session.poll_event() {
                if let Event::Message(message) = event {
                    black_box(&message);
                    frames += 1;
                }
            }
        }
        memory = Some(session.take_back());
        assert_eq!(frames, count(size));
        frames
    })
}

fn getty_encode(size: usize, role: Role) -> Batch {
    let (payload, mut session, mut memory) = (payload(size), getty(role), Some(Memory::new()));
    let mut socket = vec![0; SOCKET];
    Box::new(move || {
        session.lend(memory.take().unwrap());
        for _ in 0..count(size) {
            session.send(Message::binary(payload.clone())).unwrap();
        }
        loop {
            let mut out = session.outbound(NOW);
            let mut slices = [IoSlice::new(&[]); 16];
            let filled = out.chunks_vectored(&mut slices);
            let (mut taken, mut room) = (0, &mut socket[..]);
            for slice in &slices[..filled] {
                let n = slice.len().min(room.len());
                room.put_slice(&slice[..n]);
                taken += n;
            }
            if taken == 0 {
                break;
            }
            out.advance(taken);
        }
        black_box(&socket);
        memory = Some(session.take_back());
        count(size)
    })
}

/// An open session of `role`.
fn getty(role: Role) -> Session<WebSocket> {
    let config = Config::builder().watermarks(SOCKET, 2 * SOCKET).max_queued(4 << 20).build().unwrap();
    let (client, server) = opened(&config, NOW);
    if role == Role::Server { server } else { client }
}

fn tungstenite_decode(size: usize, role: Role) -> Batch {
    let mut socket = tungstenite(role, wire(size, role));
    Box::new(move || {
        socket.get_mut().read = 0;
        for _ in 0..count(size) {
            black_box(socket.read().unwrap());
        }
        count(size)
    })
}

fn tungstenite_encode(size: usize, role: Role) -> Batch {
    let (payload, mut socket) = (payload(size), tungstenite(role, Vec::new()));
    Box::new(move || {
        for _ in 0..count(size) {
            socket.write(tungstenite::Message::Binary(payload.clone())).unwrap();
        }
        socket.flush().unwrap();
        count(size)
    })
}

fn tungstenite(role: Role, wire: Vec<u8>) -> tungstenite::WebSocket<Pipe> {
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    tungstenite::WebSocket::from_raw_socket(Pipe::new(wire), role, Some(WebSocketConfig::default()))
}

fn fast_decode(size: usize, role: Role) -> Batch {
    let mut socket = fast(role, wire(size, role));
    // Its reader can't be taken out and rewound, so the pipe repeats itself. The bytes that the reader has
    // read ahead belong to the same frames.
    Box::new(move || {
        for _ in 0..count(size) {
            black_box(at_once(socket.read_frame()).unwrap().payload.len());
        }
        count(size)
    })
}

fn fast_encode(size: usize, role: Role) -> Batch {
    let (payload, mut socket) = (payload(size), fast(role, Vec::new()));
    Box::new(move || {
        for _ in 0..count(size) {
            at_once(socket.write_frame(Frame::binary(Payload::Borrowed(&payload)))).unwrap();
        }
        count(size)
    })
}

fn fast(role: Role, wire: Vec<u8>) -> fastwebsockets::WebSocket<Pipe> {
    let role = match role {
        Role::Server => fastwebsockets::Role::Server,
        Role::Client => fastwebsockets::Role::Client,
    };
    fastwebsockets::WebSocket::after_handshake(Pipe { repeats: true, ..Pipe::new(wire) }, role)
}

/// The result of a future that never has to wait.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("memory is always ready"),
    }
}

/// A socket that gives `wire` and takes everything.
struct Pipe {
    wire: Vec<u8>,
    read: usize,
    /// Start again after the last byte.
    repeats: bool,
    socket: Vec<u8>,
}

impl Pipe {
    fn new(wire: Vec<u8>) -> Self {
        Pipe { wire, read: 0, repeats: false, socket: vec![0; SOCKET] }
    }

    fn next(&mut self, room: usize) -> &[u8] {
        if self.repeats && self.read == self.wire.len() {
            self.read = 0;
        }
        let from = self.read;
        self.read += room.min(self.wire.len() - from);
        &self.wire[from..self.read]
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.next(buffer.len());
        buffer[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(self.socket.len());
        self.socket[..n].copy_from_slice(&bytes[..n]);
        black_box(&self.socket);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, room: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let n = room.remaining();
        room.put_slice(self.get_mut().next(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.get_mut().write(bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
