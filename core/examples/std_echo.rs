//! An echo server (4-byte length, then the payload) on blocking sockets of the standard library: a thread per session.
//!
//! ```sh
//! cargo run --release -p getty-core --example std_echo -- 127.0.0.1:7000
//! ```
#![allow(clippy::disallowed_methods, reason = "whoever embeds the core brings the clock and the threads")]

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

/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(20);
/// How long one write may block. Only then does its thread look at the session's deadlines again.
const WRITE_STEP: Duration = Duration::from_millis(500);

/// Serves for ever.
pub fn serve(listener: &TcpListener, config: &Arc<Config>) {
    loop {
        let started = listener.accept().and_then(|(stream, _)| {
            let config = config.clone();
            // Without a thread for it, the connection is dropped.
            thread::Builder::new().spawn(move || converse(&stream, config))
        });
        match started.map_err(|error| error.kind()) {
            Ok(_) | Err(ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            // Too many open files or threads, as a rule: to try again at once would be a busy loop.
            Err(_) => thread::sleep(REST),
        }
    }
}

/// One session, from its beginning to its end.
fn converse(stream: &TcpStream, config: Arc<Config>) -> io::Result<CloseReason> {
    stream.set_nodelay(true)?; // every write is a whole batch
    stream.set_write_timeout(Some(WRITE_STEP))?;
    let origin = Instant::now();
    let now = || Timestamp::from_origin(origin.elapsed());
    let mut session = Session::new(Framed::new(LengthDelimited::new()), config, now());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        while let Some(event) = session.poll_event() {
            match event {
                Event::Message(message) => drop(session.send(message)), // an answer is never refused
                Event::ReadEnd | Event::Idle(_) => session.close(now(), Close::graceful()),
                Event::Closed(reason) => return Ok(*reason),
                _ => {}
            }
        }
        // Each of these may block, and bring news: so only one of them, then the events again. Nothing is paused here, so
        // that a session which has nothing to write wants to read.
        let begun = now();
        let result = if session.wants_write() {
            write(&mut session, stream, begun)
        } else if session.wants_shutdown() {
            let _ = stream.shutdown(Shutdown::Write); // if that fails, so will reading
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
        session.handle_timeout(begun); // what came in time counts, however late this is
    }
}

type Conversation = Session<Framed<LengthDelimited>>;

/// Writes once. What the peer does not take in time stays queued, and from then on the session gives it
/// `Config::write_stall_timeout`.
fn write(session: &mut Conversation, mut stream: &TcpStream, now: Timestamp) -> io::Result<()> {
    let mut outbound = session.outbound(now);
    let mut pieces = [IoSlice::new(&[]); 16];
    let filled = outbound.chunks_vectored(&mut pieces);
    let n = stream.write_vectored(&pieces[..filled])?;
    outbound.advance(n);
    Ok(())
}

/// Reads once, and no longer than until the next deadline.
fn read(
    session: &mut Conversation,
    mut stream: &TcpStream,
    buffer: &mut [u8],
    now: &impl Fn() -> Timestamp,
) -> io::Result<()> {
    let due = session.poll_timeout();
    let wait = due.map(|at| at.saturating_duration_since(now()).max(Duration::from_millis(1)));
    stream.set_read_timeout(wait)?; // of which zero is an error
    match stream.read(buffer)? {
        0 => session.handle_eof(now()),
        n => session.handle_input(now(), &buffer[..n]),
    }
    Ok(())
}
