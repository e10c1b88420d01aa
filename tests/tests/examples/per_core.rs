//! The example whose threads share nothing. The clients are sockets of the standard library.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

#[expect(dead_code, reason = "its `main` is for the command line")]
#[path = "../../../adapters/tokio/examples/per_core.rs"]
mod example;

/// The longest that a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Connects, sends a message, and checks its echo.
fn echo(address: SocketAddr) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"\0\0\0\x02hi").unwrap();
    let mut echoed = [0; 6];
    stream.read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"\0\0\0\x02hi");
}

/// Number of sockets that listen on the port of `address`.
fn listening(address: SocketAddr) -> usize {
    let port = format!(":{:04X}", address.port());
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
    };
    fs::read_to_string("/proc/net/tcp").unwrap().lines().filter(is_one).count()
}

#[test]
fn each_thread_serves_its_share() {
    const CLIENTS: u64 = 200;
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(); // free at this moment
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let threads = [(); 2].map(|()| {
        let stopped = stopped.clone();
        thread::spawn(move || example::serve(address, stopped))
    });
    let patience = Instant::now() + PATIENCE;
    while listening(address) < 2 {
        assert!(Instant::now() < patience, "not all threads listen");
        thread::yield_now();
    }
    (0..CLIENTS).for_each(|_| echo(address));
    stop.send_replace(true);
    let answered = threads.map(|thread| thread.join().unwrap().unwrap());
    assert_eq!(answered.iter().sum::<u64>(), CLIENTS, "{answered:?}");
    assert!(answered.iter().all(|&answered| answered > 0), "{answered:?}");
}
