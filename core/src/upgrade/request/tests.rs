use super::super::Response;
use super::*;

/// The example of RFC 6455 section 1.2, with a few more headers.
const GOOD: &str = "GET /chat?room=1 HTTP/1.1\r\n\
    Host: server.example.com\r\n\
    Upgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Origin: http://example.com\r\n\
    Sec-WebSocket-Protocol: chat, superchat\r\n\
    Sec-WebSocket-Version: 13\r\n\
    Cookie: a=b\r\n\
    \r\n";

/// [`GOOD`] with `from`, which occurs once, replaced.
fn mutated(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?}");
    GOOD.replacen(from, to, 1)
}

fn parse(head: &str) -> Result<Request, HandshakeError> {
    parse_request(head.as_bytes())
}

#[test]
fn an_upgrade_is_read() {
    let request = parse(GOOD).unwrap();
    assert!(request.is_upgrade());
    assert_eq!((request.path(), request.query()), ("/chat", Some("room=1")));
    assert_eq!(request.target(), "/chat?room=1");
    assert_eq!((request.host(), request.origin()), ("server.example.com", Some("http://example.com")));
    assert_eq!(request.protocols().collect::<Vec<_>>(), ["chat", "superchat"]);
    assert_eq!(request.headers().get("cookie"), Some("a=b"));
    assert_eq!(request.headers().iter().count(), 8);
}

/// Each differs from [`GOOD`] in one field and is as good.
#[test]
fn what_is_allowed_is_accepted() {
    let table = [
        ("Upgrade: websocket", "uPGRADE:WebSocket\t "),
        ("Upgrade: websocket", "Upgrade: h2c, websocket"),
        ("Connection: keep-alive, Upgrade", "connection: UPGRADE"),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive\r\nConnection: upgrade"),
        ("Cookie: a=b", "Content-Length: 0"),
        ("Cookie: a=b", "Cookie: a=\u{fc}"),
        ("Cookie: a=b", "Cookie:"),
        ("Cookie: a=b", "Sec-WebSocket-Protocol: third"),
        ("Cookie: a=b", "Sec-WebSocket-Protocol: ,"),
        ("chat, superchat", ""),
        ("chat, superchat", "chat,,superchat"),
        ("chat, superchat", " ,\tchat , ,"),
        ("Cookie: a=b", "Sec-WebSocket-Extensions: permessage-deflate"),
        ("Sec-WebSocket-Protocol: chat, superchat\r\n", ""),
        ("Origin: http://example.com\r\n", ""),
        ("server.example.com", "[::1]:8080"),
    ];
    for (from, to) in table {
        let read = parse(&mutated(from, to));
        assert!(read.as_ref().is_ok_and(Request::is_upgrade), "{to:?}: {read:?}");
    }
}

/// Each differs from [`GOOD`] in one field and is refused with this status for this reason.
#[test]
fn malformed_upgrades_are_refused() {
    let many = (0..94).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let table = [
        // The first line.
        ("GET", "POST", 405, "the request is \"POST\""),
        ("GET", "HEAD", 405, "the request is \"HEAD\""),
        ("GET", "get", 405, "the request is \"get\""),
        ("HTTP/1.1", "HTTP/1.0", 505, "\"HTTP/1.0\""),
        ("HTTP/1.1", "HTTP/2.0", 505, "\"HTTP/2.0\""),
        ("HTTP/1.1", "HTTP/1.2", 505, "\"HTTP/1.2\""),
        ("HTTP/1.1", "http/1.1", 400, "no HTTP version"),
        (" HTTP/1.1", "", 400, "is not a request"),
        ("GET ", "GET  ", 400, "is not a request"),
        ("HTTP/1.1", " HTTP/1.1", 400, "no HTTP version"),
        ("/chat", "chat", 400, "request target"),
        ("/chat?room=1", "*", 400, "request target"),
        ("/chat?room=1", "server.example.com:80", 400, "request target"),
        ("room=1", "room=1#fragment", 400, "request target"),
        ("/chat", "/ch\u{e4}t", 400, "request target"),
        ("/chat", "https://server.example.com/chat", 400, "request target"),
        ("/chat", "http://other.example.com/chat", 400, "request target"),
        ("/chat", "http://server.example.com:81/chat", 400, "request target"),
        ("/chat", "http://u@server.example.com/chat", 400, "request target"),
        // Line ends, and misplaced characters.
        ("GET", "\r\nGET", 400, "first byte is 0x0d"),
        ("GET", "\u{1}GET", 400, "first byte is 0x01"),
        ("GET", " GET", 400, "first byte is 0x20"),
        ("HTTP/1.1\r\n", "HTTP/1.1\n", 400, "bare LF"),
        ("Cookie: a=b\r\n", "Cookie: a=b\n", 400, "bare LF"),
        ("Cookie: a=b\r\n", "Cookie: a=b\r\r\n", 400, "control character"),
        ("Cookie: a=b\r\n", "Cookie: a=b\rX: y\r\n", 400, "control character"),
        ("Cookie: a=b", "Cookie: a=b\r\n folded", 400, "header name"),
        ("Cookie: a=b", "Cookie: a=b\r\n\tfolded", 400, "header name"),
        ("Cookie: a=b", "Cookie : a=b", 400, "header name"),
        ("Cookie: a=b", " Cookie: a=b", 400, "header name"),
        ("Cookie: a=b", "Cookie a=b", 400, "header name"),
        ("Cookie: a=b", ": a=b", 400, "header name"),
        ("Cookie: a=b", "Co\0kie: a=b", 400, "header name"),
        ("Cookie: a=b", "Cookie: a=\0b", 400, "control character"),
        ("Cookie: a=b", "Cookie: a=\u{7f}b", 400, "control character"),
        ("Cookie: a=b\r\n", &many, 431, "more headers than the limit of 100"),
        // Bodies.
        ("Cookie: a=b", "Content-Length: 5", 400, "Content-Length: \"5\""),
        ("Cookie: a=b", "Content-Length: +0", 400, "Content-Length: \"+0\""),
        ("Cookie: a=b", "Content-Length: 0\r\nContent-Length: 0", 400, "Content-Length may come only once"),
        ("Cookie: a=b", "Transfer-Encoding: chunked", 400, "Transfer-Encoding: \"chunked\""),
        ("Cookie: a=b", "transfer-encoding:", 400, "Transfer-Encoding: \"\""),
        // Host and origin.
        ("Host: server.example.com\r\n", "", 400, "Host is missing"),
        ("Cookie: a=b", "host: server.example.com", 400, "Host may come only once"),
        ("server.example.com", "", 400, "Host is \"\""),
        ("server.example.com", "a, b", 400, "Host is \"a, b\""),
        ("server.example.com", "user@a", 400, "Host is \"user@a\""),
        ("server.example.com", "a:port", 400, "Host is \"a:port\""),
        ("server.example.com", "\u{e4}", 400, "Host is not ASCII"),
        ("Cookie: a=b", "Origin: http://example.com", 400, "Origin may come only once"),
        ("http://example.com", "http://\u{e4}", 400, "Origin is not ASCII"),
        // The upgrade.
        ("Upgrade: websocket\r\n", "", 400, "Upgrade is missing"),
        ("Upgrade: websocket", "Upgrade: h2c", 400, "Upgrade is \"h2c\""),
        ("Upgrade: websocket", "Upgrade: websockets", 400, "Upgrade is \"websockets\""),
        ("Cookie: a=b", "Upgrade: websocket", 400, "Upgrade may come only once"),
        ("Connection: keep-alive, Upgrade\r\n", "", 400, "Connection is missing"),
        ("keep-alive, Upgrade", "keep-alive", 400, "Connection is \"keep-alive\""),
        ("keep-alive, Upgrade", "Upgraded", 400, "Connection is \"Upgraded\""),
        // The key.
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400, "Key is missing"),
        ("Cookie: a=b", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", 400, "Key may come only once"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "", 400, "Key is \"\""),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", 400, "Key is \"dGhlIHNhbXBsZSBub25j\""),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400, "24 characters"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU=", 400, "24 characters"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR==", 400, "24 characters"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25-ZQ==", 400, "24 characters"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBs ZSBub25jZQ==", 400, "24 characters"),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ\u{e4}==", 400, "Key is not ASCII"),
        // The version.
        ("Sec-WebSocket-Version: 13\r\n", "", 426, "got \"\""),
        ("Version: 13", "Version: 8", 426, "got \"8\""),
        ("Version: 13", "Version: 12", 426, "got \"12\""),
        ("Version: 13", "Version: 14", 426, "got \"14\""),
        ("Version: 13", "Version: 013", 426, "got \"013\""),
        ("Version: 13", "Version: 13, 8", 426, "got \"13, 8\""),
        ("Cookie: a=b", "Sec-WebSocket-Version: 13", 426, "got \"13, 13\""),
        // Sub-protocols.
        ("chat, superchat", "chat, super chat", 400, "Protocol is \"super chat\""),
        ("chat, superchat", "chat, (chat)", 400, "Protocol is \"(chat)\""),
        ("chat, superchat", "chat, chat", 400, "expected each name once"),
        ("Cookie: a=b", "Sec-WebSocket-Protocol: chat", 400, "expected each name once"),
        ("Cookie: a=b", "Sec-WebSocket-Extensions: \u{e4}", 400, "Sec-WebSocket-Extensions is not ASCII"),
    ];
    for (from, to, status, reason) in table {
        let error = parse(&mutated(from, to)).expect_err(to);
        assert_eq!(Response::refusal(&error).status(), status, "{to:?}: {error}");
        assert!(error.to_string().contains(reason), "{to:?}: {error}");
    }
}

#[test]
fn a_request_is_plain_only_without_anything_of_websocket() {
    for fields in ["", "Upgrade: h2c\r\nConnection: Upgrade\r\n", "Content-Length: 0\r\n"] {
        let request = parse(&format!("GET /health HTTP/1.1\r\nHost: a\r\n{fields}\r\n")).unwrap();
        assert!(!request.is_upgrade());
        assert_eq!((request.path(), request.query(), request.protocols().count()), ("/health", None, 0));
    }
    for field in [
        "Upgrade: websocket",
        "sec-websocket-version: 13",
        "Sec-WebSocket-Anything: 1",
        "Upgrade: a, WebSocket",
    ] {
        let refused = parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"));
        assert!(refused.is_err(), "{field}: {refused:?}");
    }
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a\r\nContent-Length: 1\r\n"] {
        assert!(parse(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).is_err());
    }
}

#[test]
fn the_target_may_name_the_host() {
    for (target, host, read) in [
        ("http://a.org/x?y", "A.org", "/x?y"),
        ("WS://a.org:80", "a.org", "/"),
        ("http://a.org?y/z", "a.org:80", "/?y/z"),
        ("ws://[::1]:8080/", "[0::1]:8080", "/"),
        ("//a.org/x", "b.org", "//a.org/x"),
        ("/http://a.org/??", "b.org", "/http://a.org/??"),
    ] {
        let request = parse(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(request.target(), read, "{target}");
    }
    let request = parse("GET /a?b?c HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((request.path(), request.query()), ("/a", Some("b?c")));
}

#[test]
fn a_head_may_have_a_hundred_headers() {
    let head = |n| {
        let fields = (1..n).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    };
    assert_eq!(parse(&head(100)).unwrap().headers().iter().count(), 100);
    assert_eq!(parse(&head(101)).unwrap_err(), HttpError::TooManyHeaders { limit: 100 }.into());
}

#[test]
fn what_the_peer_sent_is_quoted_in_part() {
    let error = parse(&mutated("GET", &"M".repeat(10_000))).unwrap_err();
    assert_eq!(error, HandshakeError::Method { found: format!("{}…", "M".repeat(64)) });
}

#[test]
fn no_bytes_make_it_panic() {
    for end in 0..GOOD.len() {
        assert!(parse(&GOOD[..end]).is_err(), "cut off at {end}");
    }
    assert!(parse(&format!("{GOOD}\0")).is_err());
    for at in 0..GOOD.len() {
        for byte in 0..=u8::MAX {
            let mut head = GOOD.as_bytes().to_vec();
            head[at] = byte;
            if let Ok(request) = parse_request(&head) {
                check_accepted(&request);
            }
            head[at..].rotate_left(usize::from(byte) % (GOOD.len() - at));
            let _ = parse_request(&head);
        }
    }
}

/// Checks what holds for every accepted request.
fn check_accepted(request: &Request) {
    assert!(request.path().starts_with('/') && !request.target().contains(['#', ' ', '\r', '\n', '\0']));
    assert!(Authority::parse(request.host()).is_some());
    assert!(request.protocols().all(|name| is_token(name.as_bytes())));
    for (name, value) in request.headers().iter() {
        assert!(is_token(name.as_bytes()));
        assert!(value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control()));
    }
    if let Some(key) = request.key() {
        assert_eq!(STANDARD.encode(STANDARD.decode(key).unwrap()), key);
        assert!(request.is_upgrade() && key.len() == 24);
        assert_eq!(request.headers().get(VERSION), Some("13"));
        assert!(request.headers().contains_token("Upgrade", "websocket"));
        assert!(request.headers().contains_token("Connection", "upgrade"));
    } else {
        assert!(!request.headers().iter().any(|(name, _)| is_web_socket(name)));
    }
}
