//! Many clients at once: more than the server accepts, more than it has descriptors for, and a shutdown with
//! all of them connected.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use rustix::process::Signal;

use crate::support::*;
use crate::ws::{self, BINARY, CLOSE, FIN};

/// Whether the server serves the connection rather than closing it at once.
fn is_served(stream: &mut TcpStream) -> bool {
    let sent = frame(b"hello");
    let mut echoed = vec![0; sent.len()];
    // If it is closed at once, either the write or the read may fail.
    stream.write_all(&sent).is_ok() && stream.read_exact(&mut echoed).is_ok() && echoed == sent
}

#[test]
fn those_beyond_the_limit_are_refused_at_once_and_cost_no_memory() {
    for runtime in RUNTIMES {
        let mut server = Server::start(&["--max-sessions", "1000", "--stats", "--runtime", runtime]);
        let mut served = Vec::new();
        for _ in 0..1000 {
            let mut stream = server.connect();
            assert!(is_served(&mut stream));
            served.push(stream);
        }
        let before = server.running.peak_memory();
        let attempts: u32 = std::env::var("GETTY_ATTEMPTS").map_or(2000, |n| n.parse().unwrap());
        for _ in 0..attempts {
            assert!(!is_served(&mut server.connect()));
        }
        let grown = server.running.peak_memory() - before;
        assert!(grown < 1 << 20, "{grown} bytes more on {runtime}");
        assert!(served.iter_mut().all(is_served), "earlier sessions are still served");
        server.wait_for_stats(&format!("refused {attempts}, errors 0"));
        // A client that leaves makes room.
        drop(served.pop());
        server.wait_for_stats("sessions 999");
        assert!(is_served(&mut server.connect()));
    }
}

#[test]
fn a_server_without_descriptors_recovers() {
    for runtime in RUNTIMES {
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -n 64 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_getty")])
            .args(["serve", "tcp://127.0.0.1:0", "--threads", "1", "--runtime", runtime])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
        let running = Running { child, out: None, err: None };
        let url = line(&mut out);
        let address = url.trim_end().strip_prefix("listening tcp://").unwrap();
        // All of them connect, since the system accepts for the server; those beyond the descriptors wait
        // their turn.
        let mut streams: Vec<_> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
        let mut last = streams.pop().unwrap();
        assert!(is_served(&mut streams[0]));
        drop(streams);
        assert!(is_served(&mut last), "it is accepted once there are descriptors again");
        drop(running);
    }
}

/// Sends without end and reads the echoes. Returns the number of bytes sent, the number that came back, and
/// whether the end was clean.
fn busy(mut stream: TcpStream, started: &AtomicBool) -> (usize, usize, bool) {
    let mut reader = stream.try_clone().unwrap();
    let message = frame(&[7; 1000]);
    let writer = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        let mut sent = 0;
        loop {
            match stream.write(&message[sent % message.len()..]) {
                Ok(n) => sent += n,
                Err(_) => return sent,
            }
        }
    });
    let (mut came, mut buffer) = (0, [0; 16 * 1024]);
    let clean = loop {
        match reader.read(&mut buffer) {
            Ok(0) => break true,
            Ok(n) => {
                let expected = frame(&[7; 1000]);
                assert!(
                    buffer[..n]
                        .iter()
                        .enumerate()
                        .all(|(at, &b)| b == expected[(came + at) % expected.len()])
                );
                came += n;
                started.store(true, Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break false,
        }
    };
    let _ = reader.shutdown(Shutdown::Both);
    (writer.unwrap().join().unwrap(), came, clean)
}

/// Runs `work` on `clients` connections, and asks the server to end once each client has received something.
/// Returns the results.
fn busy_until_shutdown<T: Send>(
    server: &Server,
    clients: usize,
    connect: impl Fn(&Server) -> TcpStream,
    work: fn(TcpStream, &AtomicBool) -> T,
) -> Vec<T> {
    let streams: Vec<_> = (0..clients).map(|_| connect(server)).collect();
    let started: Vec<_> = (0..clients).map(|_| AtomicBool::new(false)).collect();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (stream, started) in streams.into_iter().zip(&started) {
            let builder = thread::Builder::new().stack_size(128 * 1024);
            threads.push(builder.spawn_scoped(scope, move || work(stream, started)).unwrap());
        }
        while !started.iter().all(|started| started.load(Ordering::Relaxed)) {
            thread::yield_now();
        }
        server.running.signal(Signal::TERM);
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Each client gets the echoes of what it sent first, all of them whole, and then the end of the stream, not
/// a reset.
#[test]
fn a_shutdown_of_busy_sessions_is_clean_for_each() {
    let clients: usize = std::env::var("GETTY_CLIENTS").map_or(200, |n| n.parse().unwrap());
    for runtime in RUNTIMES {
        let server = Server::start(&["--grace", "30", "--runtime", runtime]);
        for (sent, came, clean) in busy_until_shutdown(&server, clients, Server::connect, busy) {
            assert!(clean, "a reset after {came} bytes on {runtime}");
            assert!(came <= sent && came % frame(&[7; 1000]).len() == 0, "{came} of {sent} on {runtime}");
        }
        server.running.finish().succeeded();
    }
}

/// Number of messages that a WebSocket session keeps under way.
const UNDER_WAY: usize = 32;

/// A message of a WebSocket session: its number and some padding.
fn numbered(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[7; 992]].concat()
}

/// Keeps messages under way over WebSocket and checks the echoes up to the close frame, which it answers.
/// Returns the number of messages sent, the number that came back, and whether the end was clean.
fn busy_socket(mut stream: TcpStream, started: &AtomicBool) -> (u64, u64, bool) {
    let mut writer = stream.try_clone().unwrap();
    let (room, has_room) = mpsc::channel();
    (0..UNDER_WAY).for_each(|_| room.send(()).unwrap());
    let writing = thread::Builder::new().stack_size(64 * 1024).spawn(move || {
        let mut sent = 0;
        // After the close frame has come, this uses up the room that is left.
        while has_room.recv().is_ok() {
            writer.write_all(&ws::masked(FIN | BINARY, &numbered(sent)))?;
            sent += 1;
        }
        writer.write_all(&ws::masked(FIN | CLOSE, &ws::close(1001, "")))?;
        std::io::Result::Ok(sent)
    });
    let mut came = 0;
    loop {
        let (first, payload) = ws::read_frame(&mut stream);
        if first == FIN | CLOSE {
            assert_eq!(payload[..2], 1001u16.to_be_bytes());
            break;
        }
        assert!(first == FIN | BINARY && payload == numbered(came), "echoes come whole and in order");
        came += 1;
        started.store(true, Ordering::Relaxed);
        let _ = room.send(()); // a writer that has failed reports that itself
    }
    drop(room);
    let sent = writing.unwrap().join().unwrap().expect("messages sent late are read too");
    (sent, came, rest(&mut stream).is_empty())
}

/// Each client gets the echoes of what it sent first, then a close frame, and then the end of the stream, not
/// a reset.
#[test]
fn a_shutdown_of_busy_web_sockets_is_clean_for_each() {
    let clients: usize = std::env::var("GETTY_CLIENTS").map_or(200, |n| n.parse().unwrap());
    for runtime in RUNTIMES {
        let server = Server::start_on("ws://127.0.0.1:0", &["--grace", "30", "--runtime", runtime]);
        let ends = busy_until_shutdown(&server, clients, ws::open, busy_socket);
        for (sent, came, clean) in ends {
            assert!(clean && came <= sent, "{came} of {sent} on {runtime}");
        }
        server.running.finish().succeeded();
    }
}

#[test]
fn threads_that_share_nothing_share_a_port() {
    for runtime in ["tokio", "smol"] {
        let args = ["--per-core", "--threads", "3", "--grace", "10", "--runtime", runtime];
        let server = Server::start(&args);
        let cores = || server.running.threads_named("core ");
        wait_until("each of the three threads has its name", || cores() == 3);
        let mut streams: Vec<_> = (0..60).map(|_| server.connect()).collect();
        assert!(streams.iter_mut().all(is_served));
        assert_eq!(cores(), 3, "{runtime}");
        server.running.signal(Signal::TERM);
        for mut stream in streams {
            assert_eq!(rest(&mut stream), b"", "a clean end");
        }
        server.running.finish().succeeded();
    }

    let taken = Server::start(&[]);
    for runtime in ["tokio", "smol"] {
        run(&["serve", "--per-core", "--runtime", runtime, &taken.url], "")
            .failed(1, "can't listen on 127.0.0.1:");
    }
    run(&["serve", "--per-core", "udp://127.0.0.1:0"], "").failed(2, "remove udp://");
    run(&["serve", "--per-core", "--runtime", "async-std", "tcp://127.0.0.1:0"], "")
        .failed(2, "--per-core needs --runtime tokio or smol");
}
