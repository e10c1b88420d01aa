//! Requests of WebSocket clients.

use getty_core::websocket::{ServerOptions, WebSocket};
use getty_core::{Config, Session};
use testkit::clock::Clock;
use testkit::websocket::written;

/// Or else what is refused would depend on how it is cut.
#[test]
fn nothing_is_looked_at_beyond_the_limit_of_a_head() {
    let head = [&b"GET / HTTP/1.1\r\nX: "[..], &[b'x'; 600], b"\nX: bare line feed\r\n\r\n"].concat();
    for piece in [head.len(), 1] {
        let (config, now) = (Config::builder().max_head(600).build().unwrap(), Clock::new().now());
        let mut server = Session::new(WebSocket::server(ServerOptions::new()), config, now);
        for bytes in head.chunks(piece) {
            server.handle_input(now, bytes);
            assert!(server.poll_event().is_none());
        }
        let answer = written(&mut server, now);
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
    }
}
