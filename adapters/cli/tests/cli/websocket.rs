//! `getty serve` and `getty connect` over WebSocket.

use std::io::{Read, Write};
use std::net::Shutdown;

use crate::certificates::Certificates;
use crate::support::{Running, Server, comes_back, rest, run};
use crate::ws::{
    BINARY, CLOSE, FIN, PING, PONG, TEXT, UPGRADE, close, expect_close, frame, get, header, masked, open,
    read_frame, request, ws_peer,
};

/// `getty serve` of `/`.
fn serve(options: &[&str]) -> Server {
    Server::start_on("ws://127.0.0.1:0", options)
}

#[test]
fn text_comes_back_as_text_and_binary_as_binary() {
    for threads in ["1", "2"] {
        let server = serve(&["--threads", threads]);
        let mut client = open(&server);
        for (kind, payload) in [(TEXT, "grün".as_bytes()), (BINARY, b"\xff\0"), (TEXT, b""), (BINARY, b"")] {
            client.write_all(&masked(FIN | kind, payload)).unwrap();
            assert_eq!(read_frame(&mut client), (FIN | kind, payload.to_vec()));
        }
        // In fragments, with a ping between them.
        let fragments = [masked(TEXT, b"gr\xc3"), masked(FIN | PING, b"?"), masked(FIN, b"\xbcn")];
        client.write_all(&fragments.concat()).unwrap();
        assert_eq!(read_frame(&mut client), (FIN | PONG, b"?".to_vec()));
        assert_eq!(read_frame(&mut client), (FIN | TEXT, "grün".into()));
        client.write_all(&masked(FIN | CLOSE, &close(1000, "bye"))).unwrap();
        assert_eq!(expect_close(&mut client, 1000), "");
        assert_eq!(rest(&mut client), b"");
    }
}

#[test]
fn each_url_is_announced_with_its_port_and_its_path() {
    let urls = ["ws://127.0.0.1:0", "tcp://127.0.0.1:0", "ws://localhost:0/a/b"];
    let mut running = Running::start(&[&["serve"][..], &urls].concat());
    for (scheme, path) in [("ws://", "/"), ("tcp://", ""), ("ws://", "/a/b")] {
        let line = running.line();
        let url = line.trim_end().strip_prefix("listening ").unwrap();
        assert!(url.starts_with(scheme) && url.ends_with(path) && !url.contains(":0"), "{url}");
        comes_back(&[url], "hello", b"hello\n");
    }
}

#[test]
fn only_the_path_is_served_with_any_query() {
    let server = Server::start_on("ws://127.0.0.1:0/chat", &[]);
    let url = |target: &str| format!("ws://{}{target}", server.authority());
    let (head, _) = get(&server, "/chat?room=1&x=/y", UPGRADE);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    for target in ["/", "/cha", "/chat/", "/chat/x", "/Chat", "/%63hat", "/?/chat"] {
        let (head, mut stream) = get(&server, target, UPGRADE);
        assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{target}: {head}");
        assert_eq!(rest(&mut stream), b"WebSocket sessions are at /chat; a page to try them is at /\n");
        let problem =
            format!("getty: {}: handshake: the server answered 404 \"Not Found\", expected 101", url(target));
        run(&["connect", &url(target)], "hello").failed(1, &problem);
    }
}

#[test]
fn a_plain_request_gets_the_page_and_an_upgrade_never_does() {
    let server =
        Server::start_on("ws://127.0.0.1:0/a\"<b>&'c", &["--subprotocol", "one", "--subprotocol", "two"]);
    for target in ["/", "/?x"] {
        let (head, mut stream) = get(&server, target, "Origin: http://elsewhere.example\r\n");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(header(&head, "Content-Type"), Some("text/html; charset=utf-8"));
        assert!(header(&head, "Content-Security-Policy").unwrap().starts_with("default-src 'none'; "));
        let page = String::from_utf8(rest(&mut stream)).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"), "{page}");
        assert!(page.contains(r#"<body data-path="/a&quot;&lt;b>&amp;'c">"#), "{page}");
        assert!(page.contains(r#"value="one, two""#), "{page}");
        assert!(!page.contains("{{") && !page.contains("http:") && !page.contains("https:"), "{page}");
    }
    for target in ["/favicon.ico", "/a", "/a\"<b>&'c/"] {
        let (head, _) = get(&server, target, "");
        assert!(head.starts_with("HTTP/1.1 404 "), "{target}: {head}");
    }
    let plain = |header: &str| UPGRADE.replace(header, "X: ");
    for headers in [
        "Sec-WebSocket-Version: 13\r\n",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "sec-websocket-extensions: x\r\n",
        "Sec-WebSocket-Anything: x\r\n",
        "Upgrade: websocket\r\n",
        &plain("Upgrade: "),
        &plain("Connection: "),
        &plain("Sec-WebSocket-Key: "),
        &plain("Sec-WebSocket-Version: "),
    ] {
        let (head, mut stream) = get(&server, "/", headers);
        assert!(head.starts_with("HTTP/1.1 400 ") || head.starts_with("HTTP/1.1 426 "), "{headers}: {head}");
        assert!(!String::from_utf8(rest(&mut stream)).unwrap().contains("<html"));
    }
    let (head, _) = request(&server, "POST / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 405 "), "{head}");
}

/// Health checks send such requests.
#[test]
fn plain_requests_of_every_kind_are_answered() {
    const PAGE: &str = "text/html; charset=utf-8";
    const TEXT: &str = "text/plain; charset=utf-8";
    let server = Server::start_on("ws://127.0.0.1:0/chat", &["--stats"]);
    let ask = |start: &str, host: &str| {
        let (head, mut stream) = request(&server, &format!("{start}\r\n{host}\r\n"));
        (head, String::from_utf8(rest(&mut stream)).unwrap())
    };
    for (start, status, kind, allows) in [
        ("GET / HTTP/1.1", 200, Some(PAGE), false),
        ("HEAD / HTTP/1.1", 200, Some(PAGE), false),
        ("HEAD /?check HTTP/1.1", 200, Some(PAGE), false),
        ("OPTIONS / HTTP/1.1", 200, None, true),
        ("OPTIONS * HTTP/1.1", 200, None, true),
        ("GET / HTTP/1.0", 200, Some(PAGE), false),
        ("HEAD / HTTP/1.0", 200, Some(PAGE), false),
        ("DELETE / HTTP/1.1", 405, Some(TEXT), true),
        ("GET /chat HTTP/1.1", 426, Some(TEXT), false),
        ("GET /chat?room=1 HTTP/1.1", 426, Some(TEXT), false),
        ("HEAD /chat HTTP/1.1", 426, Some(TEXT), false),
        ("OPTIONS /chat HTTP/1.1", 426, Some(TEXT), false),
        ("GET /chat HTTP/1.0", 426, Some(TEXT), false),
        ("GET /other HTTP/1.1", 404, Some(TEXT), false),
        ("HEAD /other HTTP/1.0", 404, Some(TEXT), false),
    ] {
        let hosts = if start.ends_with("1.0") { &["Host: a\r\n", ""][..] } else { &["Host: a\r\n"] };
        for host in hosts {
            let (head, body) = ask(start, host);
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{start}: {head}");
            assert_eq!(header(&head, "Content-Type"), kind, "{start}: {head}");
            let upgrade = ["Upgrade", "Sec-WebSocket-Version"].map(|name| header(&head, name));
            let expected = if status == 426 { [Some("websocket"), Some("13")] } else { [None; 2] };
            assert_eq!(upgrade, expected, "{start}: {head}");
            assert_eq!(header(&head, "Allow"), allows.then_some("GET, HEAD, OPTIONS"), "{start}: {head}");
            let has_body = kind.is_some() && !start.starts_with("HEAD");
            assert_eq!(!body.is_empty(), has_body, "{start}: {body}");
        }
    }
    // Other requests to a URL of sessions at / get the page.
    let server = serve(&["--stats"]);
    for start in ["GET / HTTP/1.1\r\nHost: a", "HEAD / HTTP/1.0", "OPTIONS / HTTP/1.1\r\nHost: a"] {
        let (head, _) = request(&server, &format!("{start}\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 200 "), "{start}: {head}");
    }
}

#[test]
fn compression_is_agreed_on_where_both_want_it() {
    let offer = format!("{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    for (options, offer, agreed) in
        [(&["--deflate"][..], &*offer, true), (&[], &*offer, false), (&["--deflate"], UPGRADE, false)]
    {
        let (head, _) = get(&serve(options), "/", offer);
        let extensions = header(&head, "Sec-WebSocket-Extensions");
        assert!(head.starts_with("HTTP/1.1 101 "));
        assert_eq!(extensions.is_some_and(|value| value.starts_with("permessage-deflate")), agreed, "{head}");
    }
    for (option, offers) in [(&["--deflate"][..], true), (&[], false)] {
        let (url, peer) = ws_peer(|head, _| header(&head, "Sec-WebSocket-Extensions").map(str::to_owned));
        run(&[&["connect", &url], option].concat(), "").failed(1, "the connection was cut off");
        let extensions = peer.join().unwrap();
        assert_eq!(extensions.is_some_and(|value| value.starts_with("permessage-deflate")), offers);
    }
}

#[test]
fn compressed_messages_make_the_round_trip() {
    let server = serve(&["--deflate"]);
    let text = format!("{}\n", "compress me ".repeat(1000)).repeat(20) + "short\n";
    for options in [&["--deflate"][..], &[]] {
        comes_back(&[&[&*server.url], options].concat(), text.clone(), text.as_bytes());
    }
    // Both directions carry a fraction of its size.
    let offer = format!("{UPGRADE}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let (_, mut client) = get(&server, "/", &offer);
    client.write_all(&masked(FIN | TEXT, &[b'x'; 1000])).unwrap();
    let (first, payload) = read_frame(&mut client);
    assert_eq!(first, FIN | 0x40 | TEXT, "the compression bit is set");
    assert!(payload.len() < 50, "{} bytes", payload.len());
}

#[test]
fn sub_protocols_are_offered_and_agreed_on() {
    let server = serve(&["--subprotocol", "a", "--subprotocol", "b"]);
    for (offered, agreed) in [("c, b, a", Some("a")), ("b", Some("b")), ("c", None), ("A", None)] {
        let (head, _) = get(&server, "/", &format!("{UPGRADE}Sec-WebSocket-Protocol: {offered}\r\n"));
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(header(&head, "Sec-WebSocket-Protocol"), agreed);
    }
    let (url, peer) = ws_peer(|head, _| header(&head, "Sec-WebSocket-Protocol").map(str::to_owned));
    run(&["connect", "--subprotocol", "x", "--subprotocol", "y", &url], "")
        .failed(1, "the connection was cut off");
    assert_eq!(peer.join().unwrap().as_deref(), Some("x, y"));
    comes_back(&["--subprotocol", "b", &server.url], "hello", b"hello\n");
}

#[test]
fn pages_of_other_origins_are_refused() {
    let status = |server: &Server, origin: &str| {
        let origin = origin.replace("HOST", server.authority());
        let (head, _) = get(server, "/", &format!("{UPGRADE}Origin: {origin}\r\n"));
        head.split(' ').nth(1).unwrap().parse::<u16>().unwrap()
    };
    let list = ["--origin", "https://example.com", "--origin", "http://[::1]:8080"];
    for (options, allowed, refused) in [
        (
            &[][..],
            &["http://HOST", "https://HOST"][..],
            &["http://example.com", "null", "http://HOST.com"][..],
        ),
        (&["--origin", "same"], &["http://HOST"], &["http://example.com"]),
        (&["--origin", "any"], &["http://HOST", "http://example.com", "null"], &[]),
        (
            &list,
            &["https://example.com", "https://example.com:443", "http://[::1]:8080"],
            &["http://example.com", "https://example.com.evil.org", "http://HOST"],
        ),
    ] {
        let server = serve(options);
        allowed.iter().for_each(|origin| assert_eq!(status(&server, origin), 101, "{options:?} {origin}"));
        refused.iter().for_each(|origin| assert_eq!(status(&server, origin), 403, "{options:?} {origin}"));
        // Clients other than browsers send no Origin.
        comes_back(&[&server.url], "hi", b"hi\n");
    }
    let mut server = serve(&["--stats"]);
    assert_eq!(status(&server, "http://example.com"), 403);
    server.wait_for_stats(
        "(last: handshake: pages from \"http://example.com\" may not connect to \"127.0.0.1:",
    );
}

#[test]
fn a_message_may_have_just_the_limit() {
    let server = serve(&["--max-message", "1000", "--deflate"]);
    let limit = vec![b'x'; 1000];
    let over = vec![b'x'; 1001];
    let mut client = open(&server);
    client.write_all(&masked(FIN | TEXT, &limit)).unwrap();
    assert_eq!(read_frame(&mut client), (FIN | TEXT, limit.clone()));
    client.write_all(&[masked(BINARY, &limit[..600]), masked(FIN, &limit[600..])].concat()).unwrap();
    assert_eq!(read_frame(&mut client), (FIN | BINARY, limit.clone()));
    for sent in
        [masked(FIN | TEXT, &over), [masked(BINARY, &over[..600]), masked(FIN, &over[600..])].concat()]
    {
        let mut client = open(&server);
        client.write_all(&sent).unwrap();
        expect_close(&mut client, 1009);
    }
    // The limit is for the size before compression.
    for (text, code) in [(&limit, None), (&over, Some(1009))] {
        let text = String::from_utf8(text.clone()).unwrap();
        match code {
            None => comes_back(&["--deflate", &server.url], text.clone(), (text + "\n").as_bytes()),
            Some(code) => {
                let problem = format!("closed by the peer: code {code} (");
                run(&["connect", "--deflate", &server.url], text).failed(1, &problem);
            }
        }
    }
}

#[test]
fn the_limit_of_a_client() {
    let limited = |server: &Server| {
        comes_back(&["--max-message", "4", &server.url], "1234\n", b"1234\n");
        run(&["connect", "--max-message", "4", &server.url], "12345\n")
            .failed(1, "a line of standard input exceeds the limit of 4 bytes: raise --max-message");
    };
    limited(&serve(&[]));
    for (sent, problem) in [
        (
            frame(FIN | TEXT, b"12345"),
            "the peer sent a frame of 5 bytes, over the limit of 4: raise --max-message",
        ),
        (
            [frame(TEXT, b"123"), frame(FIN, b"45")].concat(),
            "the peer sent a message over the limit of 4 bytes: raise --max-message",
        ),
    ] {
        let (url, peer) = ws_peer(move |_, mut stream| {
            stream.write_all(&sent).unwrap();
            expect_close(&mut stream, 1009);
        });
        run(&["connect", "--max-message", "4", &url], "").failed(1, problem);
        peer.join().unwrap();
    }
}

#[test]
fn packages_of_a_codec() {
    for (codec, package, over) in [
        ("length", &b"\0\0\0\x041234"[..], &b"\0\0\0\x0512345"[..]),
        ("lines", b"1234\n", b"12345\n"),
        ("lines", b"1234\n", b"12345"),
        ("raw", b"1234", b"12345"),
    ] {
        let server = serve(&["--codec", codec, "--max-message", "4"]);
        let mut client = open(&server);
        client.write_all(&masked(FIN | BINARY, package)).unwrap();
        assert_eq!(read_frame(&mut client), (FIN | BINARY, package.to_vec()), "{codec}");
        client.write_all(&masked(FIN | BINARY, over)).unwrap();
        let (first, payload) = read_frame(&mut client);
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        assert!(first == FIN | CLOSE && [1007, 1009].contains(&code), "{codec}: {first:#x} {payload:?}");
        let mut client = open(&server);
        client.write_all(&masked(FIN | TEXT, package)).unwrap();
        expect_close(&mut client, 1003);
        // The payload may be any bytes, not only UTF-8.
        comes_back(&["--codec", codec, "--max-message", "4", &server.url], *b"\xff\0\n", b"\xff\0\n");
    }
    // A last line needs no end.
    let server = serve(&["--codec", "lines"]);
    let mut client = open(&server);
    client.write_all(&masked(FIN | BINARY, b"last")).unwrap();
    assert_eq!(read_frame(&mut client), (FIN | BINARY, b"last\n".to_vec()));
    // The two ends expect different kinds of messages.
    run(&["connect", &server.url], "text")
        .failed(1, "closed by the peer: code 1003 (a text message came where");
    let plain = serve(&[]);
    comes_back(&["--codec", "lines", &plain.url], "x\n", b"x\n");
}

#[test]
fn messages_of_both_kinds_are_printed() {
    let (url, peer) = ws_peer(|head, mut stream| {
        stream
            .write_all(&[frame(FIN | TEXT, "grün".as_bytes()), frame(FIN | BINARY, b"\xff\n")].concat())
            .unwrap();
        assert_eq!(read_frame(&mut stream), (FIN | TEXT, b"hello".to_vec()));
        stream.write_all(&frame(FIN | CLOSE, &close(1000, "done"))).unwrap();
        expect_close(&mut stream, 1000);
        drop(stream);
        head.lines().next().unwrap().to_owned()
    });
    // Standard input stays open: the program ends because the peer has closed.
    let url = format!("{url}runCase?case=1&agent=getty");
    let mut client = Running::start(&["connect", &url]);
    client.child.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(client.finish().succeeded().out, "grün\n".bytes().chain(*b"\xff\n\n").collect::<Vec<u8>>());
    assert_eq!(peer.join().unwrap(), "GET /runCase?case=1&agent=getty HTTP/1.1");
}

#[test]
fn echo_sends_back_in_kind_until_the_peer_closes() {
    let (url, peer) = ws_peer(|_, mut stream| {
        for (kind, payload) in [(TEXT, &b"text"[..]), (BINARY, b"\xff"), (TEXT, b""), (BINARY, &[7; 70_000])]
        {
            stream.write_all(&frame(FIN | kind, payload)).unwrap();
            assert!(read_frame(&mut stream) == (FIN | kind, payload.to_vec()));
        }
        stream.write_all(&frame(FIN | CLOSE, &close(1000, ""))).unwrap();
        expect_close(&mut stream, 1000);
    });
    let done = run(&["connect", "--echo", "--deflate", &url], "not sent\n").succeeded();
    assert_eq!(done.out, b"");
    peer.join().unwrap();
}

#[test]
fn how_the_peer_closes_is_the_exit_code() {
    for args in [&["connect"][..], &["connect", "--echo"]] {
        for (sent, problem) in [
            (frame(FIN | CLOSE, &close(1000, "bye")), None),
            (frame(FIN | CLOSE, &close(1001, "")), None),
            (frame(FIN | CLOSE, b""), None),
            (frame(FIN | CLOSE, &close(1008, "not here")), Some("closed by the peer: code 1008 (not here)")),
            (frame(FIN | CLOSE, &close(4000, "")), Some("closed by the peer: code 4000")),
            (
                frame(FIN | CLOSE, &close(1005, "")),
                Some("protocol: close code 1005 is not allowed in a frame"),
            ),
            (frame(FIN | TEXT, b"\xff"), Some("protocol: a text message is not UTF-8")),
            (frame(FIN | 3, b""), Some("protocol: opcode 3 is reserved")),
            (frame(FIN | TEXT, b"cut")[..4].to_vec(), Some("closed by the peer: the connection was cut off")),
            (Vec::new(), Some("closed by the peer: the connection was cut off without a close frame")),
        ] {
            let (url, peer) = ws_peer(move |_, mut stream| {
                stream.write_all(&sent).unwrap();
                if sent.len() != 4 && !sent.is_empty() {
                    read_frame(&mut stream);
                }
                stream.shutdown(Shutdown::Write).unwrap();
                rest(&mut stream);
            });
            // Standard input stays open.
            let mut client = Running::start(&[args, &[&url]].concat());
            let stdin = client.child.stdin.take();
            let done = client.finish();
            match problem {
                None => drop(done.succeeded()),
                Some(problem) => drop(done.failed(1, &format!("getty: {url}: {problem}"))),
            }
            drop(stdin);
            peer.join().unwrap();
        }
    }
}

#[test]
fn an_answer_that_is_no_handshake() {
    for (answer, problem) in [
        ("HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", "the server answered 302 \"Found\", expected 101"),
        ("hello\r\n\r\n", "handshake: "),
        ("\0", "the peer does not speak HTTP"),
        ("", "cut off during the handshake: does it speak WebSocket?"),
        ("HTTP/1.1 10", "cut off during the handshake: does it speak WebSocket?"),
    ] {
        let (url, peer) = crate::support::peer(move |mut stream| {
            stream.write_all(answer.as_bytes()).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            rest(&mut stream);
        });
        let url = url.replace("tcp://", "ws://");
        run(&["connect", &url], "").failed(1, problem);
        peer.join().unwrap();
    }
}

/// A peer that leaves the request unread resets the connection.
#[test]
fn who_hangs_up_is_asked_for_its_protocol() {
    let certificates = Certificates::new("hangs-up");
    for reads in [true, false] {
        for command in ["connect", "bench"] {
            let (url, peer) = crate::support::peer(move |mut stream| {
                let mut request = [0; 4096];
                let read = if reads { request.len() } else { 1 };
                assert!(stream.read(&mut request[..read]).unwrap() > 0);
            });
            let url = url.replace("tcp://", "ws://");
            let args = [command, &url, "--connections", "1"];
            run(&args[..if command == "bench" { 4 } else { 2 }], "").failed(1, "speak WebSocket?");
            peer.join().unwrap();
        }
    }
    // A server with TLS but without WebSocket takes the request for a message of 1195725856 bytes.
    let server = Server::start_on("tls://127.0.0.1:0", &certificates.server());
    let url = server.url.replace("tls://", "wss://");
    let trusted = certificates.trusted();
    run(&["connect", &url, trusted[0], trusted[1]], "")
        .failed(1, "during the handshake: does it speak WebSocket?");
}

#[test]
fn a_server_tells_what_is_missing() {
    let mut server = serve(&["--stats"]);
    let client = open(&server);
    drop(client);
    server.wait_for_stats(
        "errors 1 (last: closed by the peer: the connection was cut off without a close frame)",
    );
    let mut client = server.connect();
    client.write_all(b"GET / HTTP").unwrap();
    drop(client);
    server.wait_for_stats(
        "errors 2 (last: closed by the peer: the connection was cut off during the handshake)",
    );
}

#[test]
fn pings_are_sent_and_do_not_count_as_messages() {
    // By the server, to a client that waits for messages. Both ends have pings turned on.
    let server = serve(&["--ping", "0.02"]);
    let mut client = open(&server);
    assert_eq!(read_frame(&mut client).0, FIN | PING);
    // The wait would never end if pings and pongs prolonged it.
    run(&["connect", "--ping", "0.02", "--wait", "0.3", &server.url], "").succeeded();
    // By the client.
    let (url, peer) = ws_peer(|_, mut stream| {
        for _ in 0..2 {
            let (first, payload) = read_frame(&mut stream);
            assert_eq!(first, FIN | PING);
            stream.write_all(&frame(FIN | PONG, &payload)).unwrap();
        }
        stream.write_all(&frame(FIN | CLOSE, &close(1000, ""))).unwrap();
        rest(&mut stream);
    });
    run(&["connect", "--echo", "--ping", "0.02", &url], "").succeeded();
    peer.join().unwrap();
}

#[test]
fn stats_count_sessions_and_not_visits_of_the_page() {
    let mut server = serve(&["--stats"]);
    drop(get(&server, "/", ""));
    let mut client = open(&server);
    client.write_all(&masked(FIN | TEXT, b"hello")).unwrap();
    read_frame(&mut client);
    server.wait_for_stats("sessions 1, opened 1, messages/s");
    server.wait_for_stats("sessions 1, opened 1, messages/s 0, MB/s 0.00, errors 0");
    drop(get(&server, "/nothing", UPGRADE));
    server
        .wait_for_stats("sessions 1, opened 1, messages/s 0, MB/s 0.00, errors 1 (last: handshake: answered");
    client.write_all(&masked(FIN | TEXT, b"\xff")).unwrap();
    expect_close(&mut client, 1007);
    drop(client);
    server.wait_for_stats("errors 2 (last: protocol: a text message is not UTF-8)");
    server.wait_for_stats("sessions 0, opened 1, messages/s 0, MB/s 0.00, errors 2");
}

#[cfg(unix)]
#[test]
fn a_signal_tells_the_peers_that_the_server_goes_away() {
    let server = serve(&[]);
    let client = Running::start(&["connect", "--echo", &server.url]);
    let mut by_hand = open(&server);
    by_hand.write_all(&masked(FIN | TEXT, b"hello")).unwrap();
    read_frame(&mut by_hand);
    server.running.signal(rustix::process::Signal::TERM);
    expect_close(&mut by_hand, 1001);
    by_hand.write_all(&masked(FIN | CLOSE, &close(1001, ""))).unwrap();
    assert_eq!(rest(&mut by_hand), b"");
    drop(by_hand);
    server.running.finish().succeeded();
    drop(client);
}

#[test]
fn messages_larger_than_the_librarys_limit() {
    let server = serve(&["--deflate"]);
    let text = "0123456789abcdef".repeat(1 << 20) + "\n"; // 16 MiB, as conformance suites send
    for options in [&[][..], &["--deflate"]] {
        let mut client = Running::start(&[&["connect", &server.url], options].concat());
        assert!(client.exchange(text.clone().into_bytes()) == text.as_bytes());
        assert_eq!(client.finish().succeeded().out, b"");
    }
}
