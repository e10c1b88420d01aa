//! `getty call`: each failure is one line, with a code, a text, and whether the call was executed.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use getty_tokio::rpc::{self, Call, Raw, Services, Status};
use tokio::runtime::Runtime;

use crate::call::{URLS, serve};
use crate::support::{Done, Running, peer, run};

#[track_caller]
fn fails(url: &str, args: &[&str], input: &str, problem: &str) -> Done {
    let done = run(&[&["call", url], args].concat(), input);
    done.failed(1, &format!("getty: {url}: {problem}"))
}

#[test]
fn what_the_server_refuses() {
    for url in URLS {
        let url = &serve(url, &[]).url;
        for method in ["getty.echo.v1.Echo/Nope", "nope/Nope"] {
            let problem = format!("Unimplemented: no method {method} is served here (not executed)\n");
            fails(url, &[method, "{}"], "", &problem);
        }
        let problem = "InvalidArgument: the request: JSON body: invalid type: integer, expected a string \
                       at line 1 column 9 (not executed)\n";
        fails(url, &["getty.echo.v1.Echo/Unary", "{\"text\":5}"], "", problem);
        let problem = "Unimplemented: getty.echo.v1.Echo/Unary is served with the codecs json, proto, not \
                       with raw (not executed)\n";
        fails(url, &["--codec", "raw", "getty.echo.v1.Echo/Unary", "x"], "", problem);
        let problem = "InvalidArgument: there was no message (executed)\n";
        fails(url, &["getty.echo.v1.Echo/ClientStream"], "", problem);
        let problem = "NotFound: no service of this name is known here (executed)\n";
        fails(url, &["grpc.health.v1.Health/Check", "{\"service\":\"nope\"}"], "", problem);
    }
}

#[test]
fn values_that_are_not_json() {
    let url = &serve(URLS[0], &[]).url;
    let problem =
        "InvalidArgument: not JSON: EOF while parsing an object at line 1 column 1 (not executed)\n";
    fails(url, &["getty.echo.v1.Echo/Unary", "{"], "", problem);
    let problem = "InvalidArgument: line 2 of standard input: not JSON: expected ident at line 1 column 2 \
                   (perhaps executed)\n";
    fails(url, &["getty.echo.v1.Echo/Bidi"], "{}\nnope\n", problem);
    let problem = "InvalidArgument: the method takes a stream: give its items as lines of standard input";
    fails(url, &["getty.echo.v1.Echo/Bidi", "{}"], "", problem);
}

#[test]
fn a_deadline_that_passes() {
    for url in URLS {
        let url = &serve(url, &[]).url;
        let late = "{\"delayMs\":600000}";
        // Either side may notice first, and only the server knows for certain.
        let problem = "DeadlineExceeded: the deadline has passed (";
        let done = fails(url, &["--timeout", "0.3", "getty.echo.v1.Echo/Unary", late], "", problem);
        assert!(!done.err.contains("not executed"), "{}", done.err);
        // Standard input stays open.
        let args = ["call", "--timeout", "0.3", url, "getty.echo.v1.Echo/ClientStream"];
        Running::start(&args).finish().failed(1, problem);
    }
}

#[test]
fn nobody_listens() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for url in [format!("tcp://{free}"), format!("ws://{free}/")] {
        let problem = format!("Unavailable: can't connect to {free}: Connection refused");
        let done = fails(&url, &["a/b"], "", &problem);
        assert!(done.err.ends_with("(not executed)\n"), "{}", done.err);
        assert_eq!(done.err.matches("refused").count(), 1, "{}", done.err);
    }
}

/// Calls a peer that answers with `answer`, and closes.
#[track_caller]
fn fails_with(scheme: &str, answer: &'static [u8], problem: &str) {
    let (url, peer) = peer(move |mut stream| {
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = url.replace("tcp", scheme);
    let url = if scheme == "ws" { format!("{url}/") } else { url };
    let options: &[&str] = if scheme == "tls" { &["--insecure"] } else { &[] };
    let done = fails(&url, &[options, &["a/b"]].concat(), "", problem);
    assert!(done.err.ends_with(" (not executed)\n"), "{}", done.err);
    peer.join().unwrap();
}

#[test]
fn peers_that_speak_something_else() {
    let http = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    fails_with(
        "tcp",
        http,
        "Unavailable: the peer speaks HTTP or another protocol of text: use the ws:// URL",
    );
    fails_with("ws", http, "Unavailable: handshake: the server answered 400 \"Bad Request\", expected 101");
    fails_with("tls", http, "Unavailable: TLS: the peer speaks another protocol");
    let alert = b"\x15\x03\x03\x00\x02\x02\x32";
    fails_with("tcp", alert, "Unavailable: the peer seems to speak TLS: use a tls:// URL");
    fails_with("ws", alert, "Unavailable: handshake: the peer does not speak HTTP: its first byte is 0x15");
    fails_with("tcp", b"\x01\x02", "Unavailable: codec: this side speaks getty rpc 2, which begins with fa");
    fails_with("tcp", b"", "Unavailable: closed by the peer: does the peer speak getty rpc 2?");
    fails_with("ws", b"", "Unavailable: closed by the peer: the connection was cut off during the handshake");
}

#[test]
fn a_peer_that_echoes() {
    let (url, peer) = peer(|stream| {
        let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
        let _ = std::io::copy(&mut from, &mut to);
    });
    let done = fails(&url, &["a/b"], "", "Unavailable: codec: ");
    assert!(done.err.ends_with(": does the peer speak getty rpc 2? (not executed)\n"), "{}", done.err);
    peer.join().unwrap();
}

#[test]
fn a_peer_that_says_nothing() {
    for scheme in ["tcp", "ws"] {
        let (url, peer) = peer(|mut stream| stream.read_to_end(&mut Vec::new()).map(drop));
        let url = url.replace("tcp", scheme);
        let done = run(&["call", "--timeout", "0.1", &url, "a/b"], "").failed(1, ": DeadlineExceeded: ");
        assert!(done.err.ends_with(" (not executed)\n"), "{}", done.err);
        let _ = peer.join().unwrap();
    }
}

/// The texts of a server may be anything, and are one line nevertheless. Metadata arrives.
#[test]
fn a_server_without_reflection() {
    let runtime = Runtime::new().unwrap();
    let services = Services::new()
        .method("a.A/Fails", Raw, |call: Call, text: String| async move {
            let tenant = call.metadata().get("tenant").unwrap_or_default();
            let text = format!("{text}\n\x1b[2Jfor {}", String::from_utf8_lossy(tenant));
            Err::<(), _>(Status::aborted(text).with_details("{\"why\": 1}".into()))
        })
        .bidi_streaming("a.A/Echo", Raw, |_call, mut lines: rpc::Receiver<String>, mut out| async move {
            while let Some(line) = lines.recv().await? {
                out.send(line).await?;
            }
            Ok::<_, Status>(())
        });
    let services = Arc::new(services);
    let server =
        runtime.block_on(
            getty_tokio::Server::builder().tcp("127.0.0.1:0", rpc::frames, move || services.listener()),
        );
    let url = &format!("tcp://{}", server.as_ref().unwrap().local_addr());
    let args = ["--codec", "raw", "--metadata", "tenant=ann=1", "a.A/Fails", "no"];
    fails(url, &args, "", "Aborted: no  [2Jfor ann=1: {\"why\":1} (executed)\n");
    let args = ["call", "--codec", "raw", "--shape", "bidi_streaming", url, "a.A/Echo"];
    assert_eq!(run(&args, "one\n\n{\n").succeeded().text(), "one\n\n{\n");
    let problem =
        "Unimplemented: the server has no reflection: no method getty.reflection.v1.Reflection/List";
    fails(url, &["--list"], "", problem);
}
