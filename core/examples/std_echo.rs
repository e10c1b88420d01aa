//! An echo server on the standard library's blocking sockets, with a thread per session. Each message has a
//! 4-byte length prefix.
//!
//! ```sh
//! cargo run --release -p getty-core --example std_echo -- 127.0.0.1:7000
//! ```
#![allow(clippy::disallowed_methods, reason = "the embedder provides the clock and the threads")]

use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Buf;
use getty_core::codec::LengthDelimited;
use getty_core::{Close, CloseReason, Config, Event, Framed, Session, Timestamp};

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address)?;
    println!("listening tcp://{}", listener.local_addr()?);
    serve(&listener, &Config::builder().idle_both(Duration::from_secs(300)).build()?);
    Ok(())
}

/// Pause after accepting has failed.
const REST: Duration = Duration::from_millis(20);
/// The longest time that a write blocks. After it the thread checks the session's deadlines.
const WRITE_STEP: Duration = Duration::from_millis(500);

/// Serves forever.
pub fn serve(listener: &TcpListener, config: &Arc<Config>) {
    loop {
        let started = listener.accept().and_then(|(stream, _)| {
            let config = config.clone();
            // If no thread can be started, the connection is dropped.
            thread::Builder::new().spawn(move || converse(&stream, config))
        });
        match started.map_err(|error| error.kind()) {
            Ok(_) | Err(ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            // Usually too many open files or threads: an immediate retry would be a busy loop.
            Err(_) => thread::sleep(REST),
        }
    }
}

/// Runs one session from its beginning to its end.
fn converse(stream: &TcpStream, config: Arc<Config>) -> io::Result<CloseReason> {
    stream.set_nodelay(true)?; // writes are whole batches already
    stream.set_write_timeout(Some(WRITE_STEP))?;
    let origin = Instant::now();
    let now = || Timestamp::from_origin(origin.elapsed());
    let mut session = Session::new(Framed::new(LengthDelimited::new()), config, now());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(message) => drop(session.send(message)), // a reply is never refused
                Event::Eof | Event::Idle(_) => session.close(now(), Close::graceful()),
                Event::Closed(reason) => return Ok(*reason),
                _ => {}
            }
        }
        // Each of these may block and bring new events. So do one, then poll events again. Nothing pauses
        // this session: with nothing to write, it wants to read.
        let begun = now();
        let result = if session.wants_write() {
            write(&mut session, stream, begun)
        } else if session.wants_shutdown() {
            let _ = stream.shutdown(Shutdown::Write); // if that fails, reading fails too
            session.handle_shutdown(now());
            Ok(())
        } else {
            read(&mut session, stream, &mut buffer, &now)
        };
        if let Err(error) = result {
            match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                _ => session.handle_io_error(now(), error),
            }
        }
        session.handle_timeout(begun); // after reading: data that came in time counts, however late this is
    }
}

type Conversation = Session<Framed<LengthDelimited>>;

/// Writes once. What the peer does not take in time stays queued, and `write_stall_timeout` starts.
fn write(session: &mut Conversation, mut stream: &TcpStream, now: Timestamp) -> io::Result<()> {
    let mut outbound = session.outbound(now);
    let mut pieces = [IoSlice::new(&[]); 16];
    let filled = outbound.chunks_vectored(&mut pieces);
    let n = stream.write_vectored(&pieces[..filled])?;
    outbound.advance(n);
    Ok(())
}

/// Reads once, at most until the next deadline.
fn read(
    session: &mut Conversation,
    mut stream: &TcpStream,
    buffer: &mut [u8],
    now: &impl Fn() -> Timestamp,
) -> io::Result<()> {
    let due = session.poll_timeout();
    let wait = due.map(|at| at.saturating_duration_since(now()).max(Duration::from_millis(1)));
    stream.set_read_timeout(wait)?; // which must not be zero
    match stream.read(buffer)? {
        0 => session.handle_eof(now()),
        n => session.handle_input(now(), &buffer[..n]),
    }
    Ok(())
}
