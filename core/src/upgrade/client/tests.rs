use super::super::{extension_values, parse_request};
use super::*;

/// The nonce of RFC 6455 section 1.3.
const NONCE: [u8; 16] = *b"the sample nonce";

/// The response of RFC 6455 section 1.2, with a few more headers.
const GOOD: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Upgrade: websocket\r\n\
    Connection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\
    Sec-WebSocket-Extensions: permessage-deflate\r\n\
    Server: a\r\n\
    \r\n";

fn request() -> ClientRequest {
    let request = ClientRequest::new("ws://server.example.com/chat").unwrap();
    request.protocol("chat").unwrap().protocol("superchat").unwrap()
}

fn written(request: &ClientRequest, extensions: Option<&str>) -> String {
    let mut out = BytesMut::new();
    request.write_request(NONCE, extensions, &mut out);
    String::from_utf8(out.to_vec()).unwrap()
}

/// [`GOOD`] with `from`, which occurs once, replaced.
fn mutated(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?}");
    GOOD.replacen(from, to, 1)
}

#[test]
fn the_example_of_the_rfc_is_written_as_there() {
    let request = request().origin("http://example.com").unwrap().header("Cookie", "a=b").unwrap();
    let head = written(&request, Some("permessage-deflate"));
    assert_eq!(
        head,
        "GET /chat HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
        Origin: http://example.com\r\nCookie: a=b\r\n\r\n"
    );
    let read = parse_request(head.as_bytes()).unwrap();
    assert!(read.is_upgrade());
    assert_eq!(extension_values(read.headers()).collect::<Vec<_>>(), ["permessage-deflate"]);
}

#[test]
fn urls_say_where_to() {
    let table = [
        ("ws://example.com", "example.com", 80, "Host: example.com\r\n", "/"),
        ("WSS://example.com", "example.com", 443, "Host: example.com\r\n", "/"),
        ("ws://example.com:80/", "example.com", 80, "Host: example.com\r\n", "/"),
        ("ws://example.com:443/a", "example.com", 443, "Host: example.com:443\r\n", "/a"),
        ("wss://example.com:443", "example.com", 443, "Host: example.com\r\n", "/"),
        ("wss://example.com:80", "example.com", 80, "Host: example.com:80\r\n", "/"),
        ("ws://127.0.0.1:9000?a=b", "127.0.0.1", 9000, "Host: 127.0.0.1:9000\r\n", "/?a=b"),
        ("ws://[::1]:9000/%C3%A4/../b@c?d://e", "::1", 9000, "Host: [::1]:9000\r\n", "/%C3%A4/../b@c?d://e"),
        ("wss://[2001:db8::1]", "2001:db8::1", 443, "Host: [2001:db8::1]\r\n", "/"),
    ];
    for (url, host, port, header, target) in table {
        let request = ClientRequest::new(url).unwrap();
        assert_eq!((request.host(), request.port()), (host, port), "{url}");
        assert_eq!(request.is_secure(), url.to_lowercase().starts_with("wss"));
        let head = written(&request, None);
        assert!(head.starts_with(&format!("GET {target} HTTP/1.1\r\n{header}")), "{head}");
        assert!(parse_request(head.as_bytes()).unwrap().is_upgrade());
    }
}

/// RFC 6874 and the common form: the zone names the interface, and is not sent to the server.
#[test]
fn an_ipv6_address_may_have_a_zone_which_the_server_is_not_told() {
    let table = [
        ("ws://[fe80::1%25eth0]:80/", "fe80::1%eth0", 80, "Host: [fe80::1]\r\n"),
        ("ws://[fe80::1%eth0]/", "fe80::1%eth0", 80, "Host: [fe80::1]\r\n"),
        ("wss://[FE80::1%25br-lan.100]:8443?a", "FE80::1%br-lan.100", 8443, "Host: [FE80::1]:8443\r\n"),
        ("ws://[fe80::1%25en%2d1]:81", "fe80::1%en-1", 81, "Host: [fe80::1]:81\r\n"),
        ("ws://[fe80::1%3]:81/%25", "fe80::1%3", 81, "Host: [fe80::1]:81\r\n"),
        ("ws://[fe80::1%253]:81", "fe80::1%3", 81, "Host: [fe80::1]:81\r\n"),
        // Nothing is encoded here: this is the 25th interface.
        ("ws://[fe80::1%25]:81", "fe80::1%25", 81, "Host: [fe80::1]:81\r\n"),
        ("ws://[fe80::1%2525]:81", "fe80::1%25", 81, "Host: [fe80::1]:81\r\n"),
    ];
    for (url, host, port, header) in table {
        let request = ClientRequest::new(url).unwrap();
        assert_eq!((request.host(), request.port()), (host, port), "{url}");
        let head = written(&request, None);
        assert!(head.contains(&format!("\r\n{header}")), "{head}");
        assert!(!head.contains('%') || url.ends_with("%25"), "{head}");
        assert!(parse_request(head.as_bytes()).unwrap().is_upgrade());
    }
    for authority in [
        "[fe80::1%]",
        "[%eth0]",
        "[%25eth0]",
        "[fe80::1%25eth0",
        "[fe80::1%eth0]x",
        "[fe80::1%eth0]:",
        "[fe80::1%eth0%25]",
        "[fe80::1%eth%]",
        "[fe80::1%25eth%2]",
        "[fe80::1%25eth%zz]",
        "[fe80::1%25eth%0d%0aX]",
        "[fe80::1%25%20]",
        "[fe80::1%25%00]",
        "[fe80::1%25a%5db]",
        "[fe80::1%25a%2fb]",
        "[fe80::1%a:b]",
        "[1.2.3.4%eth0]",
        "[name%eth0]",
        "name%eth0",
        "1.2.3.4%25eth0",
    ] {
        let refused = ClientRequest::new(&format!("ws://{authority}/")).unwrap_err();
        assert_eq!(refused, UrlError::Host { found: authority.to_owned() }, "{authority}");
    }
}

#[test]
fn urls_to_nowhere_are_refused() {
    let host = |found: &str| UrlError::Host { found: found.to_owned() };
    let table = [
        ("", UrlError::Scheme),
        ("example.com", UrlError::Scheme),
        ("http://example.com", UrlError::Scheme),
        ("https://example.com", UrlError::Scheme),
        ("ws:/example.com", UrlError::Scheme),
        ("wsx://example.com", UrlError::Scheme),
        ("ws://", host("")),
        ("ws:///path", host("")),
        ("ws://:80", host(":80")),
        ("ws://a:", host("a:")),
        ("ws://a:65536", host("a:65536")),
        ("ws://a:8a", host("a:8a")),
        ("ws://::1", host("::1")),
        ("ws://[::1", host("[::1")),
        ("ws://[a]", host("[a]")),
        ("ws://a,b", host("a,b")),
        ("ws://user@a", UrlError::UserInfo),
        ("wss://user:password@a/b", UrlError::UserInfo),
        ("ws://a/b#c", UrlError::Fragment),
        ("ws://a#", UrlError::Fragment),
        ("ws://a/b c", UrlError::Character { char: ' ', at: 8 }),
        ("ws://a/b\r\nX: y", UrlError::Character { char: '\r', at: 8 }),
        ("ws://\u{fc}.example", UrlError::Character { char: '\u{fc}', at: 5 }),
        ("ws://a/\u{7f}", UrlError::Character { char: '\u{7f}', at: 7 }),
    ];
    for (url, error) in table {
        assert_eq!(ClientRequest::new(url).unwrap_err(), error, "{url:?}");
    }
}

#[test]
fn only_what_is_one_request_can_be_sent() {
    let name = |name: &str| name.to_owned();
    for protocol in ["", "a b", "a,b", "a\r\nb", "\u{e4}"] {
        let error = request().protocol(protocol).unwrap_err();
        assert_eq!(error, SubprotocolError::Name { name: name(protocol) });
    }
    assert_eq!(request().protocol("chat").unwrap_err(), SubprotocolError::Repeated { name: name("chat") });
    assert!(matches!(
        request().origin("http://a\r\nX: y"),
        Err(HeaderError::Value { byte: b'\r', at: 8, .. })
    ));
    assert!(matches!(request().header("Host", "b"), Err(HeaderError::Owned { .. })));
    assert!(matches!(request().header("X", "y\n"), Err(HeaderError::Value { .. })));
}

#[test]
fn the_example_of_the_rfc_is_taken_as_an_answer() {
    let answer = request().check_response(NONCE, true, GOOD.as_bytes()).unwrap();
    assert_eq!(answer.protocol.as_deref(), Some("chat"));
    assert_eq!(extension_values(&answer.headers).collect::<Vec<_>>(), ["permessage-deflate"]);
    assert_eq!(answer.headers.get("server"), Some("a"));
}

/// Each differs from [`GOOD`] in one field and is as good.
#[test]
fn what_is_allowed_is_accepted() {
    let table = [
        (" Switching Protocols", ""),
        (" Switching Protocols", " "),
        ("Switching Protocols", "Gr\u{fc}n"),
        ("Upgrade: websocket", "UPGRADE:WebSocket"),
        ("Connection: Upgrade", "connection: keep-alive, upgrade"),
        ("Sec-WebSocket-Protocol: chat\r\n", ""),
        ("Protocol: chat", "Protocol: superchat"),
        ("Protocol: chat", "Protocol: ,chat, ,"),
        ("Protocol: chat", "Protocol:"),
        ("Server: a", "Sec-WebSocket-Protocol: ,"),
        // There is no body, whatever the headers say.
        ("Server: a", "Content-Length: 0"),
        ("Server: a", "Content-Length: 5"),
        ("Server: a", "Content-Length: 5\r\nContent-Length: 6"),
        ("Server: a", "Transfer-Encoding: chunked"),
    ];
    for (from, to) in table {
        let answer = request().check_response(NONCE, true, mutated(from, to).as_bytes());
        assert!(answer.is_ok(), "{to:?}: {answer:?}");
    }
}

/// Each differs from [`GOOD`] in one field and is refused for this reason.
#[test]
fn malformed_answers_are_refused() {
    let many = (0..96).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let table = [
        ("101 Switching Protocols", "200 OK", "answered 200 \"OK\", expected 101"),
        ("101 Switching Protocols", "302 Found", "answered 302 \"Found\", expected 101"),
        ("101 Switching Protocols", "401", "answered 401 \"\", expected 101"),
        ("101 Switching Protocols", "100 Continue", "answered 100"),
        ("HTTP/1.1 101", "HTTP/1.0 403", "answered 403"),
        ("HTTP/1.1", "HTTP/1.0", "\"HTTP/1.0\""),
        ("HTTP/1.1", "HTTP/2.0", "\"HTTP/2.0\""),
        ("HTTP/1.1", "ICY/1.1", "no HTTP version"),
        ("101 ", "1O1 ", "not a status line"),
        ("101 ", "1010 ", "not a status line"),
        ("HTTP/1.1", "\r\nHTTP/1.1", "first byte is 0x0d"),
        ("Server: a\r\n", "Server: a\n", "bare LF"),
        ("Server: a", "Server: a\r\n folded", "header name"),
        ("Server: a", "Server : a", "header name"),
        ("Server: a", "Server: \0", "control character"),
        ("Server: a\r\n", &many, "more headers than the limit of 100"),
        ("Upgrade: websocket\r\n", "", "Upgrade is missing"),
        ("Upgrade: websocket", "Upgrade: h2c", "Upgrade is \"h2c\""),
        ("Upgrade: websocket", "Upgrade: h2c, websocket", "Upgrade is \"h2c, websocket\""),
        ("Server: a", "Upgrade: websocket", "Upgrade may come only once"),
        ("Connection: Upgrade\r\n", "", "Connection is missing"),
        ("Connection: Upgrade", "Connection: close", "Connection is \"close\""),
        ("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "", "Accept is missing"),
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Accept is \"S3pP"),
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "dGhlIHNhbXBsZSBub25jZQ==", "Accept is \"dGhl"),
        ("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "", "Accept is \"\""),
        ("Server: a", "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Accept may come only once"),
        ("Protocol: chat", "Protocol: Chat", "sub-protocol \"Chat\", which was not offered"),
        ("Protocol: chat", "Protocol: chat, superchat", "sub-protocol \"chat, superchat\""),
        ("Protocol: chat", "Protocol: , chat, chat", "sub-protocol \", chat, chat\""),
        ("Server: a", "Sec-WebSocket-Protocol: superchat", "Protocol may come only once"),
        ("permessage-deflate", "\u{e4}", "Sec-WebSocket-Extensions is not ASCII"),
    ];
    for (from, to, reason) in table {
        let error = request().check_response(NONCE, true, mutated(from, to).as_bytes()).expect_err(to);
        assert!(error.to_string().contains(reason), "{to:?}: {error}");
    }
    let nothing = mutated("permessage-deflate", " ,");
    assert!(request().check_response(NONCE, false, nothing.as_bytes()).is_ok());
    let error = request().check_response(NONCE, false, GOOD.as_bytes()).unwrap_err();
    assert_eq!(error, HandshakeError::Extension { found: "permessage-deflate".to_owned() });
    let error = request().check_response([0; 16], true, GOOD.as_bytes()).unwrap_err();
    assert!(matches!(error, HandshakeError::AcceptKey { .. }));
}

#[test]
fn no_bytes_make_it_panic() {
    let request = request();
    let check = |head: &[u8]| request.check_response(NONCE, true, head);
    for end in 0..GOOD.len() {
        assert!(check(&GOOD.as_bytes()[..end]).is_err(), "cut off at {end}");
        let _ = ClientRequest::new(&GOOD[end..]);
    }
    for at in 0..GOOD.len() {
        for byte in 0..=u8::MAX {
            let mut head = GOOD.as_bytes().to_vec();
            head[at] = byte;
            if let Ok(answer) = check(&head) {
                assert_eq!(answer.headers.get(ACCEPT), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
                assert!(answer.headers.contains_token("Connection", "upgrade"));
            }
            head[at..].rotate_left(usize::from(byte) % (GOOD.len() - at));
            let _ = check(&head);
        }
    }
}

#[test]
fn no_url_makes_it_panic() {
    let good = "wss://[2001:db8::1]:8443/a/b?c=d";
    for at in 0..good.len() {
        for char in ('\0'..='\u{ff}').chain(['\u{20ac}', '\u{1f600}']) {
            let url = format!("{}{char}{}", &good[..at], &good[at + 1..]);
            for url in [&*url, &url[..at + char.len_utf8()]] {
                if let Ok(request) = ClientRequest::new(url) {
                    assert!(
                        parse_request(written(&request, None).as_bytes()).unwrap().is_upgrade(),
                        "{url:?}"
                    );
                }
            }
        }
    }
}
