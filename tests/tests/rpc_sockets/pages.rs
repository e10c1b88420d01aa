//! RPC over WebSocket and the pages of browsers: who may open it, and what the handshake says. The client is
//! a plain socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use getty_core::websocket::{ServerOptions, WebSocket};
use getty_driver::rpc::{self, Raw, Services, Status};

use crate::driver_common::runtimes::{TestRuntime, blocking, server, until};
use crate::erased::erased_each;
use crate::on_one_runtime;

on_one_runtime!(a_foreign_page_is_refused, the_protocol_is_announced_if_it_was_offered);

/// The head of the answer to a handshake with these headers.
async fn handshake(address: SocketAddr, headers: String) -> String {
    blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap().to_lowercase()
    })
    .await
}

/// An RPC server over WebSocket, and the number of its connections that have opened.
macro_rules! serving {
    ($runtime:ty) => {{
        let opened = Arc::new(AtomicUsize::new(0));
        let count = opened.clone();
        let services = Services::new()
            .method("t.T/Echo", Raw, |_call, text: String| async move { Ok::<_, Status>(text) })
            .on_connect(move |_peer, opening| {
                assert!(opening.opened().upgrade.is_some());
                count.fetch_add(1, Ordering::SeqCst);
                Ok(())
            });
        let protocol = WebSocket::serving_of(rpc::packages, ServerOptions::new());
        let server = server::<$runtime>()
            .tcp("127.0.0.1:0", protocol, erased_each(move || services.listener()))
            .await
            .unwrap();
        (server, opened)
    }};
}

fn a_foreign_page_is_refused<R: TestRuntime>() {
    R::block_on(async {
        let (server, opened) = serving!(R);
        let address = server.local_addr();
        let port = address.port();
        let foreign = [
            "https://evil.example".to_owned(),
            format!("http://evil.example:{port}"),
            format!("http://127.0.0.1:{}", port ^ 1), // another server of the same host
            format!("http://localhost:{port}"),       // the same server, by another name
            format!("http://127.0.0.1.evil.example:{port}"),
            "null".to_owned(), // a sandboxed page
        ];
        for origin in foreign {
            let answer = handshake(address, format!("Origin: {origin}\r\n")).await;
            assert!(answer.starts_with("http/1.1 403 "), "{origin}: {answer}");
        }
        assert_eq!(opened.load(Ordering::SeqCst), 0);
        for headers in [String::new(), format!("Origin: http://{address}\r\n")] {
            let answer = handshake(address, headers).await;
            assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        }
        until::<R>("both have opened", || opened.load(Ordering::SeqCst) == 2).await;
    });
}

fn the_protocol_is_announced_if_it_was_offered<R: TestRuntime>() {
    R::block_on(async {
        let (server, _) = serving!(R);
        for (offers, is_announced) in [
            ("", false),
            ("chat", false),
            ("getty-rpc.20, getty-rpc", false),
            ("getty-rpc.2", true),
            ("chat, getty-rpc.2", true),
        ] {
            let headers = match offers {
                "" => String::new(),
                offers => format!("Sec-WebSocket-Protocol: {offers}\r\n"),
            };
            let answer = handshake(server.local_addr(), headers).await;
            assert!(answer.starts_with("http/1.1 101 "), "{offers}: {answer}");
            let announced = answer.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
            assert_eq!(announced, is_announced.then_some("getty-rpc.2"), "{offers}");
        }
    });
}
