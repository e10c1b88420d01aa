//! SIGUSR1 lists the sessions.

use std::io::Write;
use std::net::TcpStream;

use rustix::process::Signal;

use crate::support::*;
use crate::ws;

/// Asks `server` for its sessions. Returns the lines after the first, which has the number of sessions.
fn who(server: &mut Server) -> Vec<String> {
    server.running.signal(Signal::USR1);
    let err = server.running.err.as_mut().unwrap();
    let first = line(err);
    let count = first.strip_prefix("getty: ").and_then(|rest| rest.strip_suffix(" sessions\n"));
    let count: usize = count.unwrap_or_else(|| panic!("{first:?}")).parse().unwrap();
    let lines = if count > 1000 { 1001 } else { count };
    (0..lines).map(|_| line(err).trim_end().to_owned()).collect()
}

fn echo(client: &mut TcpStream) {
    client.write_all(&frame(b"hello")).unwrap();
    assert_eq!(read_frame(client).unwrap(), b"hello");
}

#[test]
fn a_signal_tells_who_is_there() {
    for (runtime, options) in [
        ("tokio", &["--threads", "2"][..]),
        ("smol", &[]),
        ("async-std", &[]),
        ("tokio", &["--per-core", "--threads", "3"]),
        ("smol", &["--per-core", "--threads", "3"]),
    ] {
        let mut server = Server::start(&[&["--runtime", runtime], options].concat());
        assert!(who(&mut server).is_empty());
        let (mut first, mut second) = (server.connect(), server.connect());
        echo(&mut first);
        (0..2).for_each(|_| echo(&mut second));
        let lines = who(&mut server);
        for (client, messages) in [(&first, 1), (&second, 2)] {
            let ends = format!(": {} from {}, open, for ", server.authority(), client.local_addr().unwrap());
            let told = lines.iter().find(|line| line.contains(&ends)).unwrap_or_else(|| panic!("{lines:?}"));
            assert!(told.starts_with("session ") && told.contains(" s, last active "), "{told}");
            let did = format!(" s ago, queued 0 B, messages in {messages} out {messages}");
            assert!(told.ends_with(&did), "{told}");
        }
        assert_eq!(lines.len(), 2);
        echo(&mut first);
        drop((first, second));
        server.running.signal(Signal::TERM);
        server.running.finish().succeeded();
    }
}

#[test]
fn of_many_the_first_are_told_and_the_others_counted() {
    let mut server = Server::start(&[]);
    let mut clients: Vec<_> = (0..1003).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(echo);
    let lines = who(&mut server);
    let numbers: Vec<u64> = lines[..1000]
        .iter()
        .map(|line| line.strip_prefix("session ").unwrap().split(':').next().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted());
    assert_eq!(lines[1000], "and 3 more");
}

#[test]
fn sessions_without_addresses_and_before_they_open() {
    let dir = std::env::temp_dir().join(format!("getty-who-{}", std::process::id()));
    let url = format!("unix://{}", dir.display());
    let mut server = Server::start_on(&url, &["--codec", "lines"]);
    let mut client = Running::start(&["connect", "--codec", "lines", &url]);
    client.child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    client.line();
    assert!(who(&mut server)[0].contains(": - from -, open, for "));

    let mut server = Server::start_on("ws://127.0.0.1:0", &[]);
    let _open = ws::open(&server);
    let _shakes_hands = server.connect();
    let lines = std::iter::repeat_with(|| who(&mut server)).find(|lines| lines.len() == 2).unwrap();
    assert_eq!(lines.iter().filter(|line| line.contains(", not open, for ")).count(), 1, "{lines:?}");
}

#[test]
fn while_sessions_are_closed_they_are_not_told() {
    let mut server = Server::start(&["--grace", "1000"]);
    let mut client = server.connect();
    echo(&mut client);
    server.running.signal(Signal::TERM);
    assert_eq!(rest(&mut client), b"", "the server closes its side");
    server.running.signal(Signal::USR1);
    assert_eq!(line(server.running.err.as_mut().unwrap()), "getty: the sessions are being closed\n");
    server.running.signal(Signal::TERM);
    assert_eq!(server.running.finish().code, Some(143));
}
