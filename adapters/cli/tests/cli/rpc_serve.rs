//! `getty serve --rpc`.

use std::io::Write;

#[cfg(unix)]
use rustix::process::Signal;

use crate::call::{URLS, serve};
#[cfg(unix)]
use crate::support::Running;
use crate::support::{rest, run};

#[cfg(unix)]
#[test]
fn a_signal_lets_calls_finish() {
    for url in URLS {
        let mut server = serve(url, &[]);
        let mut client = Running::start(&["call", &server.url, "getty.echo.v1.Echo/Bidi"]);
        let mut stdin = client.child.stdin.take().unwrap();
        stdin.write_all(b"{}\n").unwrap();
        assert_eq!(client.line(), "{}\n");
        let watched =
            ["call", &server.url, "grpc.health.v1.Health/Watch", "{\"service\":\"getty.echo.v1.Echo\"}"];
        let mut watch = Running::start(&watched);
        assert_eq!(watch.line(), "{\"status\":\"SERVING\"}\n");
        server.running.signal(Signal::TERM);
        assert_eq!(watch.line(), "{\"status\":\"NOT_SERVING\"}\n");
        watch.finish().succeeded();
        stdin.write_all(b"{\"text\":\"late\"}\n").unwrap();
        assert_eq!(client.line(), "{\"text\":\"late\"}\n");
        drop(stdin);
        client.finish().succeeded();
        drop(server.running.child.stdin.take());
        server.running.finish().succeeded();
    }
}

#[cfg(unix)]
#[test]
fn a_call_that_does_not_finish_within_the_grace() {
    let server = serve(URLS[0], &["--grace", "0.1"]);
    let mut client = Running::start(&["call", &server.url, "getty.echo.v1.Echo/Bidi"]);
    let mut stdin = client.child.stdin.take().unwrap();
    stdin.write_all(b"{}\n").unwrap();
    assert_eq!(client.line(), "{}\n");
    server.running.signal(Signal::TERM);
    let done = client.finish().failed(1, ": Unavailable: ");
    assert!(
        done.err.ends_with(" (perhaps executed)\n") || done.err.ends_with(" (executed)\n"),
        "{}",
        done.err
    );
    let done = server.running.finish();
    assert_eq!(done.code, Some(0));
    assert!(done.err.contains("aborted 1 sessions that did not close within 100ms"), "{}", done.err);
    drop(stdin);
}

#[test]
fn statistics_count_calls_and_sessions() {
    let mut server = serve(URLS[0], &["--stats"]);
    let done = run(&["call", &server.url, "getty.echo.v1.Echo/Unary", "{}"], "").succeeded();
    assert_eq!(done.text(), "{}\n");
    server.wait_for_stats("sessions 0, opened 1, messages/s 0, MB/s 0.00, errors 0");
}

#[cfg(target_os = "linux")]
#[test]
fn every_core_serves_for_itself() {
    let server = serve(URLS[0], &["--per-core", "--threads", "2"]);
    for _ in 0..4 {
        let done = run(&["call", &server.url, "getty.echo.v1.Echo/Unary", "{\"text\":\"x\"}"], "");
        assert_eq!(done.succeeded().text(), "{\"text\":\"x\"}\n");
    }
}

#[test]
fn browsers_are_shown_where_the_calls_go() {
    let server = serve(URLS[1], &[]);
    for (path, status) in [("/", "200 OK"), ("/rpc", "426 Upgrade Required"), ("/other", "404 Not Found")] {
        let mut client = server.connect();
        write!(client, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let answer = String::from_utf8(rest(&mut client)).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(answer.ends_with("\r\n\r\nRPC over WebSocket is at /rpc\n"), "{answer}");
    }
    let other = server.url.replace("/rpc", "/other");
    run(&["call", &other, "a/b"], "").failed(1, "handshake: the server answered 404 \"Not Found\"");
}

#[test]
fn an_idle_connection_is_closed() {
    let mut server = serve(URLS[0], &["--idle", "0.05", "--stats"]);
    let mut client = server.connect();
    rest(&mut client);
    server.wait_for_stats("sessions 0, opened 1, messages/s 0, MB/s 0.00, errors 0");
}
