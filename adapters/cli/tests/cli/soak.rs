//! A server under mixed load for some time: what it holds does not grow.
//!
//! Three seconds, on all runtimes at once; `GETTY_SOAK=300` makes it five minutes. With `--nocapture` it
//! prints what was held.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::support::*;
use crate::ws::{self, BINARY, CLOSE, FIN};

/// Memory in bytes and number of descriptors that a process holds.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory: u64,
    descriptors: usize,
}

fn held(server: &Running) -> Held {
    let process = format!("/proc/{}", server.child.id());
    let status = std::fs::read_to_string(format!("{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory = line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024;
    Held { memory, descriptors: std::fs::read_dir(format!("{process}/fd")).unwrap().count() }
}

/// One short connection of kind `n`: perhaps echoes, then one way of ending.
fn converse([tcp, websocket]: &[Server; 2], n: u64) {
    let mut stream = tcp.connect();
    let large = vec![7; if n % 50 == 0 { 200_000 } else { 100 }];
    let message = frame(&large);
    match n % 8 {
        // Echoes, then a half-close.
        0 | 1 => {
            for _ in 0..3 {
                stream.write_all(&message).unwrap();
                assert_eq!(read_frame(&mut stream).unwrap(), large);
            }
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut stream), b"");
        }
        // A half-close right after the message.
        2 => {
            stream.write_all(&message).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            assert_eq!(rest(&mut stream), message);
        }
        // A reset, perhaps in the middle of a frame.
        3 | 4 => {
            stream.write_all(&message[..message.len() / (n % 3 + 1) as usize]).unwrap();
            set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        }
        // Nothing or part of a frame, then the end.
        5 => stream.write_all(&message[..(n % 7) as usize]).unwrap(),
        // WebSocket, with or without a close.
        _ => {
            let mut stream = ws::open(websocket);
            stream.write_all(&ws::masked(FIN | BINARY, &large)).unwrap();
            assert_eq!(ws::read_frame(&mut stream), (FIN | BINARY, large));
            if n % 2 == 0 {
                stream.write_all(&ws::masked(FIN | CLOSE, &ws::close(1000, ""))).unwrap();
                let mut end = Vec::new();
                match stream.read_to_end(&mut end) {
                    Ok(_) => assert!(!end.is_empty(), "a close frame"),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
                }
            }
        }
    }
}

#[test]
fn what_a_server_holds_does_not_grow() {
    let time = Duration::from_secs(std::env::var("GETTY_SOAK").map_or(3, |n| n.parse().unwrap()));
    thread::scope(|scope| {
        for runtime in RUNTIMES {
            scope.spawn(move || holds_what_it_held(runtime, time));
        }
    });
}

fn holds_what_it_held(runtime: &str, time: Duration) {
    let servers = ["tcp", "ws"]
        .map(|scheme| Server::start_on(&format!("{scheme}://127.0.0.1:0"), &["--runtime", runtime]));
    let held = || servers.each_ref().map(|server| held(&server.running));
    let (done, begin) = (AtomicU64::new(0), Instant::now());
    let is_over = || begin.elapsed() >= time;
    let (mut early, quiet) = (None, held());
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !is_over() {
                    converse(&servers, done.fetch_add(1, Ordering::Relaxed));
                }
            });
        }
        while !is_over() {
            thread::sleep(Duration::from_millis(10)); // between two samples
            if early.is_none() && begin.elapsed() >= time * 2 / 5 {
                early = Some(held());
            }
        }
    });
    let (early, late) = (early.unwrap_or_else(held), held());
    println!("{runtime}: {} connections; early {early:?}, late {late:?}", done.into_inner());
    for (early, late) in early.iter().zip(late) {
        let most = early.memory + early.memory / 20 + (1 << 20);
        assert!(late.memory <= most, "{} bytes, {} before, on {runtime}", late.memory, early.memory);
    }
    let deadline = Instant::now() + DEADLINE;
    while held().iter().zip(&quiet).any(|(now, quiet)| now.descriptors > quiet.descriptors) {
        assert!(Instant::now() < deadline, "{:?}, {quiet:?} before, on {runtime}", held());
        thread::sleep(Duration::from_millis(10)); // between two samples
    }
}
