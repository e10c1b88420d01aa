//! `getty serve`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

#[cfg(unix)]
use rustix::process::Signal;

use crate::support::{RUNTIMES, Running, Server, comes_back, frame, line, read_frame, rest, run};

#[test]
fn every_codec_makes_the_round_trip() {
    for threads in ["1", "2"] {
        for codec in ["length", "lines"] {
            let server = Server::start(&["--codec", codec, "--threads", threads]);
            let text = b"hello\n\ncarriage return\r\n\xff not UTF-8\nlast, without an end";
            comes_back(&["--codec", codec, &server.url], *text, &[&text[..], b"\n"].concat());
        }
        let server = Server::start(&["--codec", "raw", "--threads", threads]);
        comes_back(&["--codec", "raw", &server.url], *b"a\n\n\xff\0b", b"a\n\n\xff\0b");
    }
}

#[test]
fn each_url_is_announced_with_its_port() {
    let mut urls = vec!["tcp://127.0.0.1:0", "tcp://localhost:0/"];
    if TcpListener::bind("[::1]:0").is_ok() {
        urls.push("tcp://[::1]:0");
    }
    let mut running = Running::start(&[&["serve"], &urls[..]].concat());
    for _ in urls {
        let line = running.line();
        let url = line.trim_end().strip_prefix("listening ").unwrap();
        assert!(!url.ends_with(":0"));
        comes_back(&[url], "hello", b"hello\n");
    }
}

/// The names have several addresses, in a file that replaces /etc/hosts for the program.
#[cfg(target_os = "linux")]
#[test]
fn every_address_of_a_name_is_served() {
    use std::process::Command;

    let certificates = crate::certificates::Certificates::new("names");
    let hosts = format!("{}/hosts", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(
        &hosts,
        "127.0.0.1 two.test\n127.0.0.2 two.test\n127.0.0.1 one.test\n192.0.2.1 one.test\n",
    )
    .unwrap();
    // In a mount namespace of its own, if that is allowed.
    let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let command = |args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", script, &hosts]).args(args);
        command
    };
    let found = command(&["getent", "ahostsv4", "two.test"]).output();
    if !found.is_ok_and(|found| String::from_utf8_lossy(&found.stdout).contains("127.0.0.2")) {
        let _ = writeln!(std::io::stderr(), "skipped: /etc/hosts can't be replaced");
        return;
    }
    let start = |args: &[&str]| {
        let mut command =
            command(&[&[env!("CARGO_BIN_EXE_getty"), "serve"], args, &certificates.server()].concat());
        let piped = std::process::Stdio::piped;
        Running::of(command.stdin(piped()).stdout(piped()).stderr(piped()))
    };
    let urls = ["tcp://two.test:0", "ws://two.test:0/x", "tls://two.test:0", "udp://two.test:0"];
    for options in
        [&["--runtime", "tokio"][..], &["--runtime", "smol"], &["--runtime", "async-std"], &["--per-core"]]
    {
        let urls = if options == ["--per-core"] { &urls[..3] } else { &urls };
        let mut running = start(&[urls, options].concat());
        for url in urls {
            let line = running.line();
            let told = line.trim_end().strip_prefix("listening ").unwrap();
            assert!(told.starts_with(url.split_once(":0").unwrap().0) && !told.contains(":0"), "{told}");
            for address in ["127.0.0.1", "127.0.0.2"] {
                let url = told.replace("two.test", address);
                let trust: &[&str] = if url.starts_with("tls") { &["--insecure"] } else { &[] };
                let done = run(&[&["connect", "--wait", "0.2", &url], trust].concat(), "hello\n").succeeded();
                assert_eq!(done.text(), "hello\n", "{url}");
            }
        }
        running.signal(Signal::TERM);
        running.finish().succeeded();
    }
    // The addresses share the limit of the URL, rounded up.
    for options in [&["--runtime", "tokio"][..], &["--per-core", "--threads", "1"]] {
        let mut running =
            start(&[&["tcp://two.test:0", "tls://127.0.0.1:0", "--max-sessions", "3"], options].concat());
        let line = running.line();
        let port = line.trim_end().rsplit(':').next().unwrap();
        let mut sessions = Vec::new();
        for address in ["127.0.0.1", "127.0.0.2"] {
            for served in [true, true, false] {
                let mut client =
                    crate::support::with_deadline(TcpStream::connect(format!("{address}:{port}")).unwrap());
                let mut back = [0; 9];
                let sent = client.write_all(&frame(b"hello"));
                let is_served = sent.is_ok() && client.read_exact(&mut back).is_ok();
                assert_eq!(is_served, served, "session {} at {address} {options:?}", sessions.len());
                sessions.push(client);
            }
        }
        running.signal(Signal::TERM);
        drop(sessions);
        running.finish().succeeded();
    }
    let mut running = start(&["udp://two.test:0", "tls://127.0.0.1:0", "--peers=2", "--threads", "2"]);
    let line = running.line();
    let port = line.trim_end().rsplit(':').next().unwrap();
    let clients = ["127.0.0.1", "127.0.0.2", "127.0.0.1", "127.0.0.2"].map(|address| {
        let client = std::net::UdpSocket::bind(format!("{address}:0")).unwrap();
        client.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        client.connect(format!("{address}:{port}")).unwrap();
        client.send(&frame(b"hello")).unwrap();
        client.recv(&mut [0; 9]).unwrap();
        client
    });
    running.signal(Signal::USR1);
    assert_eq!(crate::support::line(running.err.as_mut().unwrap()), "getty: 2 sessions\n");
    drop((clients, running));
    // An address in use is an error; one that this machine does not have is reported.
    let taken = TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
    let _taken = TcpListener::bind(taken).unwrap();
    start(&[&format!("tcp://two.test:{}", taken.port()), "tls://127.0.0.1:0"])
        .finish()
        .failed(1, &format!("can't listen on {taken}: Address already in use"));
    let mut running = start(&["tls://one.test:0"]);
    assert!(running.line().starts_with("listening tls://127.0.0.1:"));
    running.signal(Signal::TERM);
    let done = running.finish();
    assert!(done.err.starts_with("getty: tls://one.test:0: can't listen on 192.0.2.1:"), "{}", done.err);
}

#[test]
fn a_peer_that_ends_its_stream_gets_every_answer() {
    let server = Server::start(&["--codec", "lines", "--cron", "0.001", "--idle", "30"]);
    let mut client = server.connect();
    client.write_all(b"one\r\ntwo").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&mut client), b"one\r\ntwo\n");
}

#[test]
fn idle_sessions_are_closed() {
    let mut server = Server::start(&["--idle", "0.1", "--stats"]);
    let mut client = server.connect();
    client.write_all(&frame(b"hello")).unwrap();
    assert_eq!(read_frame(&mut client).unwrap(), b"hello");
    let start = Instant::now();
    assert_eq!(rest(&mut client), b"");
    assert!(start.elapsed() < Duration::from_secs(4), "closed by the close timeout only");
    drop(client);
    server.wait_for_stats("sessions 0, opened 1, messages/s 0, MB/s 0.00, errors 0");
}

#[test]
fn a_message_over_the_limit_ends_the_session() {
    for (codec, message, limit, told) in [
        (
            "length",
            &[0, 0, 3, 233][..],
            "1000",
            "sent a message of 1001 bytes, over the limit of 1000: raise --max-message",
        ),
        ("lines", b"12345\n", "4", "sent a line over the limit of 4 bytes: raise --max-message"),
    ] {
        let mut server = Server::start(&["--codec", codec, "--max-message", limit, "--stats"]);
        let mut client = server.connect();
        client.write_all(message).unwrap();
        assert_eq!(rest(&mut client), b"");
        drop(client);
        server.wait_for_stats(&format!("errors 1 (last: the peer {told}"));
    }
    // A message of exactly the limit is accepted.
    for codec in ["length", "lines", "raw"] {
        let server = Server::start(&["--codec", codec, "--max-message", "4"]);
        comes_back(&["--codec", codec, "--max-message", "4", &server.url], "1234\n", b"1234\n");
    }
}

#[test]
fn stats_count() {
    let mut server = Server::start(&["--stats"]);
    let mut client = server.connect();
    for _ in 0..10 {
        client.write_all(&frame(b"hello")).unwrap();
        assert_eq!(read_frame(&mut client).unwrap(), b"hello");
    }
    server.wait_for_stats("sessions 1, opened 1, messages/s");
    // Cut off in the middle of a message.
    client.write_all(&[0, 0]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.wait_for_stats("errors 1 (last: closed by the peer: something was cut off)");
}

/// After a stop, the timers are due and the bytes are there: the bytes win.
#[cfg(unix)]
#[test]
fn what_came_while_the_process_was_stopped_counts() {
    let stopped = |runtime| {
        let server = Server::start(&["--threads", "1", "--idle", "4", "--runtime", runtime]);
        let mut clients: Vec<_> = (0..10).map(|_| server.connect()).collect();
        let send = |clients: &mut [TcpStream]| {
            clients.iter_mut().for_each(|client| client.write_all(&frame(b"hello")).unwrap());
        };
        let receive = |clients: &mut [TcpStream]| {
            clients
                .iter_mut()
                .for_each(|client| assert_eq!(read_frame(client).unwrap(), b"hello", "{runtime}"));
        };
        send(&mut clients);
        receive(&mut clients);
        server.running.signal(Signal::STOP);
        send(&mut clients);
        std::thread::sleep(Duration::from_millis(4500)); // longer than the idle limit: the point of this test
        server.running.signal(Signal::CONT);
        receive(&mut clients);
    };
    std::thread::scope(|scope| {
        for runtime in RUNTIMES {
            scope.spawn(move || stopped(runtime));
        }
    });
}

/// Health checks and port scanners do this.
#[cfg(target_os = "linux")]
#[test]
fn who_leaves_before_the_first_byte_is_no_error() {
    use rustix::net::sockopt::set_socket_linger;

    let certificates = crate::certificates::Certificates::new("probes");
    for (scheme, runtime) in ["tcp", "ws", "tls", "wss"].into_iter().zip(RUNTIMES.into_iter().cycle()) {
        let url = format!("{scheme}://127.0.0.1:0");
        let secure = certificates.server();
        let secure = if ["tls", "wss"].contains(&scheme) { &secure[..] } else { &[] };
        let options = ["--stats", "--runtime", runtime, "--threads", "1", "--max-message", "1000"];
        let mut server = Server::start_on(&url, &[&options[..], secure].concat());
        for _ in 0..3 {
            let ends = server.connect();
            ends.shutdown(Shutdown::Write).unwrap();
            rest(&mut &ends);
            let resets = server.connect();
            set_socket_linger(&resets, Some(Duration::ZERO)).unwrap();
        }
        // Then one that is an error.
        let mut bad = server.connect();
        bad.write_all(&[0xff; 8]).unwrap();
        let _ = bad.read(&mut [0; 100]);
        drop(bad); // the server waits for this end
        let err = server.running.err.as_mut().unwrap();
        let told = std::iter::repeat_with(|| line(err)).find(|line| !line.contains("errors 0")).unwrap();
        assert!(told.contains("errors 1 (last: "), "{url} on {runtime}: {told}");
        let told = line(err);
        assert!(told.contains("errors 1"), "{url} on {runtime}: {told}");
    }
    // One byte is enough to make it an error, where the byte is part of something.
    let mut server = Server::start_on("ws://127.0.0.1:0", &["--stats"]);
    let mut client = server.connect();
    client.write_all(b"G").unwrap();
    drop(client);
    server.wait_for_stats("errors 1 (last: ");
}

#[cfg(unix)]
#[test]
fn a_signal_closes_gracefully() {
    for (signal, codec) in [(Signal::TERM, "length"), (Signal::INT, "lines")] {
        let server = Server::start(&["--codec", codec]);
        let idle = server.connect();
        let mut client = server.connect();
        let messages: Vec<u8> = match codec {
            "length" => (0..200u8).flat_map(|n| frame(&[n; 50])).collect(),
            _ => (0..200).flat_map(|n| format!("{n:50}\n").into_bytes()).collect(),
        };
        client.write_all(&messages).unwrap();
        // The first reply shows that the messages have arrived, since they were sent in one write.
        let mut first = [0; 10];
        client.read_exact(&mut first).unwrap();
        server.running.signal(signal);
        let echoes = [&first[..], &rest(&mut client)].concat();
        assert!(echoes == messages, "{} of {} bytes came back", echoes.len(), messages.len());
        drop((client, idle));
        server.running.finish().succeeded();
    }
}

#[cfg(unix)]
#[test]
fn sessions_that_do_not_close_are_aborted() {
    let server = Server::start(&["--grace", "0.1"]);
    let mut client = server.connect();
    client.write_all(&frame(b"hello")).unwrap();
    assert_eq!(read_frame(&mut client).unwrap(), b"hello");
    server.running.signal(Signal::TERM);
    let done = server.running.finish();
    assert_eq!(done.code, Some(0));
    assert_eq!(done.err, "getty: aborted 1 sessions that did not close within 100ms (see --grace)\n");
}

#[cfg(unix)]
#[test]
fn a_second_signal_ends_at_once() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let server = Server::start(&["--grace", "1000"]);
        let mut client = server.connect();
        client.write_all(&frame(b"hello")).unwrap();
        assert_eq!(read_frame(&mut client).unwrap(), b"hello");
        server.running.signal(Signal::TERM);
        assert_eq!(rest(&mut client), b"", "the server closes its side");
        server.running.signal(signal);
        assert_eq!(server.running.finish().code, Some(code));
    }
}
