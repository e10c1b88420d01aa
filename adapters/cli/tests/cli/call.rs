//! `getty call`: answers, streams and the list of methods.

use std::io::{BufRead, Write};

#[cfg(unix)]
use rustix::process::Signal;

use crate::certificates::Certificates;
use crate::support::{RUNTIMES, Running, Server, run};

pub const URLS: [&str; 2] = ["tcp://127.0.0.1:0", "ws://127.0.0.1:0/rpc"];

/// `getty serve --rpc`.
pub fn serve(url: &str, options: &[&str]) -> Server {
    Server::start_on(url, &[&["--rpc"], options].concat())
}

/// Calls a method of the echo service, with `options`, and `input` as standard input.
#[track_caller]
fn echo(server: &Server, method: &str, options: &[&str], input: &str) -> String {
    let method = format!("getty.echo.v1.Echo/{method}");
    let done = run(&[&["call", &server.url, &method], options].concat(), input);
    done.succeeded().text().to_owned()
}

/// Makes a call of each shape.
#[track_caller]
fn all_shapes(server: &Server, options: &[&str]) {
    let with = |value| [&[value], options].concat();
    assert_eq!(echo(server, "Unary", &with("{ \"text\" : \"a b\" }"), ""), "{\"text\":\"a b\"}\n");
    let twice = "{\"text\":\"x\",\"count\":2}";
    assert_eq!(echo(server, "ServerStream", &with(twice), ""), format!("{twice}\n{twice}\n"));
    let lines = "{\"text\":\"1\"}\n{\"text\":\"2\"}\n";
    assert_eq!(echo(server, "ClientStream", options, lines), "{\"text\":\"2\",\"count\":2}\n");
    assert_eq!(echo(server, "Bidi", options, lines), lines);
    assert_eq!(echo(server, "Bidi", options, ""), "");
}

#[test]
fn calls_of_every_shape_on_every_runtime() {
    for runtime in RUNTIMES {
        for url in URLS {
            all_shapes(&serve(url, &["--runtime", runtime]), &["--runtime", runtime]);
        }
    }
}

#[test]
fn calls_over_tls() {
    let certificates = Certificates::new("call");
    for url in ["tls://127.0.0.1:0", "wss://127.0.0.1:0/rpc"] {
        all_shapes(&serve(url, &certificates.server()), &certificates.trusted());
    }
}

#[cfg(unix)]
#[test]
fn calls_over_a_unix_socket() {
    let path = format!("{}/call.sock", env!("CARGO_TARGET_TMPDIR"));
    let _ = std::fs::remove_file(&path);
    all_shapes(&serve(&format!("unix://{path}"), &[]), &[]);
}

#[test]
fn websocket_options_are_those_of_the_others() {
    let options = ["--deflate", "--subprotocol", "getty-rpc.2"];
    all_shapes(&serve(URLS[1], &options), &options);
}

#[test]
fn the_list_has_methods_with_shapes_and_codecs() {
    for url in URLS {
        let server = serve(url, &[]);
        let done = run(&["call", "--list", &server.url], "").succeeded();
        let lines: Vec<Vec<&str>> =
            done.text().lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 7, "{lines:?}");
        assert_eq!(lines[0], ["getty.echo.v1.Echo/Bidi", "bidi_streaming", "json,proto"]);
        assert_eq!(lines[3], ["getty.echo.v1.Echo/Unary", "unary", "json,proto", "idempotent"]);
        assert_eq!(lines[6], ["grpc.health.v1.Health/Watch", "server_streaming", "json,proto", "idempotent"]);
    }
}

#[test]
fn a_value_that_is_not_given_is_none() {
    let server = serve(URLS[0], &[]);
    let done = run(&["call", &server.url, "getty.reflection.v1.Reflection/List"], "").succeeded();
    assert!(done.text().starts_with("{\"services\":[{"), "{}", done.text());
    assert_eq!(done.text().lines().count(), 1);
}

#[test]
fn items_go_and_come_while_standard_input_is_open() {
    for url in URLS {
        let server = serve(url, &[]);
        let mut client = Running::start(&["call", &server.url, "getty.echo.v1.Echo/Bidi"]);
        let mut stdin = client.child.stdin.take().unwrap();
        for line in ["{\"text\":\"first\"}\n", "{}\n", "{\"text\":\"third\"}\n"] {
            stdin.write_all(line.as_bytes()).unwrap();
            assert_eq!(client.line(), line);
        }
        drop(stdin);
        client.finish().succeeded();
    }
}

#[test]
fn much_goes_through_in_order() {
    let server = serve(URLS[0], &[]);
    let lines: String = (0..20_000).map(|n| format!("{{\"text\":\"{n:80}\"}}\n")).collect();
    assert!(echo(&server, "Bidi", &[], &lines) == lines);
    assert!(echo(&server, "ClientStream", &[], &lines).ends_with("\"count\":20000}\n"));
}

#[test]
fn values_larger_than_the_default_of_the_library() {
    let server = serve(URLS[1], &[]);
    let value = format!("{{\"text\":\"{}\"}}\n", "x".repeat(9 << 20));
    assert!(echo(&server, "Bidi", &[], &value) == value);
    let done = run(
        &["call", "--max-message", "100000", &server.url, "getty.echo.v1.Echo/Bidi"],
        value.as_bytes().to_vec(),
    );
    done.failed(1, "a line of standard input exceeds the limit of 100000 bytes: raise --max-message");
}

#[test]
fn nobody_reads_standard_output() {
    let server = serve(URLS[0], &[]);
    let value = "{\"text\":\"x\",\"count\":4000000000}";
    let mut client = Running::start(&["call", &server.url, "getty.echo.v1.Echo/ServerStream", value]);
    let mut out = client.out.take().unwrap();
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    client.finish().succeeded();
}

#[cfg(unix)]
#[test]
fn a_signal_cancels_the_call() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let mut server = serve(URLS[0], &["--stats"]);
        let mut client = Running::start(&["call", &server.url, "getty.echo.v1.Echo/Bidi"]);
        let mut stdin = client.child.stdin.take().unwrap();
        stdin.write_all(b"{}\n").unwrap();
        assert_eq!(client.line(), "{}\n");
        client.signal(signal);
        let done = client.finish();
        assert_eq!((done.code, done.err.as_str()), (Some(code), ""));
        server.wait_for_stats("sessions 0, opened 1, messages/s 0, MB/s 0.00, errors 0");
        drop(stdin);
    }
}
