//! WebSocket servers and clients, over real sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use getty_core::codec::LengthDelimited;
use getty_core::websocket::{
    Accept, ClientRequest, CloseCode, CloseFrame, HandshakeError, Message, MessageKind, Packages, Part,
    Parts, Response, ServerOptions, Verdict, WebSocket, Whole,
};
use getty_core::{Close, CloseReason, Config, Deadline};
use getty_driver::{Client, Connection, Handle, Paths, Server};

use crate::driver_common::recorder::{Log, Recorder};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use crate::driver_common::socket::Socket;
use crate::driver_common::*;
use crate::on_every_runtime;

on_every_runtime!(
    messages_go_both_ways_and_the_close_is_clean,
    many_messages_are_sent_before_an_answer_is_received,
    each_path_has_listeners_of_its_own,
    a_verdict_may_come_later,
    a_verdict_that_never_comes_is_a_timeout,
    a_verdict_that_does_not_fit_is_the_server_s_fault,
    a_refused_client_learns_the_status,
    what_is_posted_before_the_session_is_open_waits,
    a_listener_that_panics_tells_1011,
    a_shutdown_tells_1001,
    a_shutdown_does_not_wait_for_a_verdict,
    packages_of_a_codec_need_no_other_listener,
    heartbeats_measure_the_round_trip,
    messages_are_pulled_from_a_connection,
    what_is_sent_over_a_connection_before_it_is_open_waits,
    large_messages_come_and_go_in_parts,
    a_plain_request_gets_its_page,
    compression_is_agreed_on,
    wss_needs_tls,
);

async fn serve<R: TestRuntime>(paths: Paths<getty_core::Items<Message>>) -> Server<R> {
    server::<R>()
        .tcp("127.0.0.1:0", WebSocket::serving(ServerOptions::new()), paths.into_listeners())
        .await
        .unwrap()
}

async fn echo_server<R: TestRuntime>() -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    (serve::<R>(Paths::new().path("/", move || Socket::echo(&kept))).await, log)
}

fn url(address: SocketAddr, path: &str) -> ClientRequest {
    ClientRequest::new(&format!("ws://{address}{path}")).unwrap()
}

async fn connect<R: TestRuntime>(server: &Server<R>, path: &str, listener: Socket) -> Handle<Message> {
    let request = url(server.local_addr(), path);
    client::<R>().websocket(request, Whole, listener).await.unwrap()
}

async fn pull<R: TestRuntime>(request: ClientRequest) -> Connection<R, R::TcpStream, WebSocket> {
    Client::<R>::builder().websocket_connection(request, Whole).await.unwrap()
}

fn messages_go_both_ways_and_the_close_is_clean<R: TestRuntime>() {
    R::block_on(async {
        let (server, served) = echo_server::<R>().await;
        let log = Log::default();
        let client = connect::<R>(&server, "/", Socket::new(&log)).await;
        client.send(Message::text("hello")).await.unwrap();
        client.send(Message::binary(vec![7; 100_000])).await.unwrap();
        until::<R>("echoes", || log.count("on_message") == 2).await;
        let bye = CloseFrame::new(CloseCode::new(4000).unwrap(), "that was all");
        client.close(Close::graceful().with_frame(bye));
        until::<R>("both are over", || log.count("on_close") + served.count("on_close") == 2).await;
        assert_eq!(
            log.take(),
            ["on_open", "on_message: hello", "on_message: 100000 bytes", "on_close: closed by this end"]
        );
        assert_eq!(served.take().last().unwrap(), "on_close: closed by the peer: code 4000 (that was all)");
    });
}

/// Neither end gets stuck while replies wait: a connection also receives while it sends.
fn many_messages_are_sent_before_an_answer_is_received<R: TestRuntime>() {
    R::block_on(async {
        let (server, _) = echo_server::<R>().await;
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        let message = |n: u32| Message::binary([&n.to_be_bytes()[..], &[b'x'; 8000]].concat());
        for n in 0..2000 {
            client.send(message(n)).await.unwrap();
        }
        for n in 0..2000 {
            assert_eq!(client.recv().await.unwrap().unwrap(), message(n));
        }
        let reason = client.close(Close::graceful()).await;
        assert!(reason.is_clean(), "{reason}");
    });
}

fn each_path_has_listeners_of_its_own<R: TestRuntime>() {
    R::block_on(async {
        let logs = [Log::default(), Log::default()];
        let [one, two] = logs.clone();
        let paths = Paths::new().path("/one", move || Socket::echo(&one)).path("/two", move || {
            Socket::new(&two).message(|cx, _| {
                cx.send(Message::text("two")).unwrap();
            })
        });
        let server = serve::<R>(paths).await;
        for (path, answer) in [("/one?a=1", "hello"), ("/two", "two")] {
            let mut client = pull::<R>(url(server.local_addr(), path)).await;
            client.opened().await.unwrap();
            client.send(Message::text("hello")).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), Message::text(answer));
        }
        assert_eq!(logs[0].take()[0], "on_request: /one?a=1");
        assert_eq!(logs[1].take()[0], "on_request: /two");
        let reason = pull::<R>(url(server.local_addr(), "/three")).await.opened().await.unwrap_err();
        assert!(is_status(&reason, 404), "{reason}");
    });
}

fn is_status(reason: &CloseReason, expected: u16) -> bool {
    let CloseReason::Handshake(error) = reason else { return false };
    matches!(**error, HandshakeError::Status { status, .. } if status == expected)
}

fn a_verdict_may_come_later<R: TestRuntime>() {
    R::block_on(async {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let (log, kept) = (Log::default(), handles.clone());
        let made = log.clone();
        let paths = Paths::new().path("/", move || {
            let kept = kept.clone();
            Socket::echo(&made).request(move |cx, _| {
                kept.lock().unwrap().push(cx.handle());
                Verdict::Defer
            })
        });
        let server = serve::<R>(paths).await;
        let (let_in, refused) = (Log::default(), Log::default());
        let first = connect::<R>(&server, "/", Socket::new(&let_in)).await;
        first.send(Message::text("posted before")).await.unwrap();
        until::<R>("it asks", || log.count("on_request") == 1).await;
        let _second = connect::<R>(&server, "/", Socket::new(&refused)).await;
        until::<R>("the other one too", || log.count("on_request") == 2).await;
        assert!(let_in.is_empty() && refused.is_empty());
        let asked = std::mem::take(&mut *handles.lock().unwrap());
        asked[1].respond(Verdict::Respond(Response::new(401).unwrap()));
        until::<R>("it is reported", || refused.count("on_close") == 1).await;
        asked[0].respond(Verdict::Accept(Accept::new()));
        asked[0].respond(Verdict::Respond(Response::new(500).unwrap()));
        until::<R>("an echo", || let_in.count("on_message: posted before") == 1).await;
        assert!(refused.take()[0].contains("401"));
    });
}

fn a_verdict_that_never_comes_is_a_timeout<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let paths = Paths::new().path("/", move || Socket::new(&made).request(|_, _| Verdict::Defer));
        let config = Config::builder().handshake_timeout(50 * MS).build().unwrap();
        let builder = server::<R>().config(config);
        let server = builder
            .tcp("127.0.0.1:0", WebSocket::serving(ServerOptions::new()), paths.into_listeners())
            .await
            .unwrap();
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        assert!(!client.opened().await.unwrap_err().is_clean());
        let reason = CloseReason::Timeout(Deadline::Handshake);
        until::<R>("it is reported", || log.count(&format!("on_close: {reason}")) == 1).await;
    });
}

fn a_verdict_that_does_not_fit_is_the_server_s_fault<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let paths = Paths::new().path("/", move || {
            Socket::new(&made).request(|_, _| Verdict::Accept(Accept::new().protocol("not offered")))
        });
        let server = serve::<R>(paths).await;
        let reason = pull::<R>(url(server.local_addr(), "/")).await.opened().await.unwrap_err();
        assert!(is_status(&reason, 500), "{reason}");
    });
}

fn a_refused_client_learns_the_status<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let paths = Paths::new().path("/", move || {
            Socket::new(&made).request(|cx, request| {
                assert!(cx.peer_addr().is_some());
                match request.headers().get("Authorization") {
                    Some("Bearer 1") => Verdict::Accept(Accept::new().header("X-User", "one").unwrap()),
                    _ => Verdict::Respond(Response::new(403).unwrap().body("not you")),
                }
            })
        });
        let server = serve::<R>(paths).await;
        let request = url(server.local_addr(), "/");
        let reason = pull::<R>(request.clone()).await.opened().await.unwrap_err();
        assert!(is_status(&reason, 403), "{reason}");
        let request = request.header("Authorization", "Bearer 1").unwrap();
        let opened = pull::<R>(request).await.opened().await.unwrap();
        assert_eq!(opened.upgrade.unwrap().headers.unwrap().get("x-user"), Some("one"));
    });
}

fn what_is_posted_before_the_session_is_open_waits<R: TestRuntime>() {
    R::block_on(async {
        let (server, served) = echo_server::<R>().await;
        let log = Log::default();
        let listener = Socket::new(&log).open(|cx, _| {
            cx.send(Message::text("from on_open")).unwrap();
        });
        let client = connect::<R>(&server, "/", listener).await;
        for n in 0..10 {
            client.try_send(Message::text(n.to_string())).unwrap();
        }
        until::<R>("echoes", || log.count("on_message") == 11).await;
        let heard: Vec<_> = served.take().into_iter().filter(|e| e.starts_with("on_message")).collect();
        assert_eq!(heard[0], "on_message: from on_open");
        assert!((0..10).all(|n| heard[n + 1] == format!("on_message: {n}")));
    });
}

fn a_listener_that_panics_tells_1011<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let server = serve::<R>(
            Paths::new().path("/", move || Socket::new(&made).message(|_, _| panic!("on purpose"))),
        )
        .await;
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        client.opened().await.unwrap();
        client.send(Message::text("hello")).await.unwrap();
        let CloseReason::Peer(frame) = client.recv().await.unwrap_err() else { panic!() };
        assert_eq!(frame.code, Some(CloseCode::INTERNAL));
        until::<R>("it is gone", || server.sessions() == 0).await;
        assert_eq!(log.count("on_close"), 0, "no callback after a panic");
    });
}

fn a_shutdown_tells_1001<R: TestRuntime>() {
    R::block_on(async {
        let (server, _log) = echo_server::<R>().await;
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        client.opened().await.unwrap();
        let (down, end) = futures::join!(server.shutdown(secs(20)), async {
            let end = client.recv().await;
            let reason = client.close(Close::graceful()).await;
            (end, reason)
        });
        assert_eq!(down.aborted, 0);
        assert!(matches!(end.0, Ok(None)), "1001 is clean");
        let CloseReason::Peer(frame) = end.1 else { panic!("{}", end.1) };
        assert_eq!(frame.code, Some(CloseCode::GOING_AWAY));
    });
}

fn a_shutdown_does_not_wait_for_a_verdict<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let server =
            serve::<R>(Paths::new().path("/", move || Socket::new(&made).request(|_, _| Verdict::Defer)))
                .await;
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        futures::join!(
            async {
                until::<R>("it asks", || log.count("on_request") == 1).await;
                assert_eq!(server.shutdown(secs(4)).await.aborted, 0);
            },
            async {
                let reason = client.opened().await.unwrap_err();
                assert!(is_status(&reason, 503), "{reason}");
                drop(client);
            }
        );
        assert_eq!(log.count("on_close"), 1);
    });
}

fn packages_of_a_codec_need_no_other_listener<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let kept = log.clone();
        let echo = move || Recorder::echo().0.log_to(&kept);
        let form = || Packages::new(LengthDelimited::new());
        let server = server::<R>()
            .tcp("127.0.0.1:0", WebSocket::serving_of(form, ServerOptions::new()), echo)
            .await
            .unwrap();
        let (listener, heard) = Recorder::quiet();
        let request = url(server.local_addr(), "/");
        let client = client::<R>().websocket(request, form(), listener).await.unwrap();
        for size in [0, 1, 200, 70_000] {
            client.send(Bytes::from(vec![1; size])).await.unwrap();
        }
        until::<R>("echoes", || heard.count("on_message") == 4).await;
        assert_eq!(log.count("on_message"), 4);
        client.close(Close::graceful());
        until::<R>("it is over", || heard.count("on_close: closed by this end") == 1).await;
    });
}

fn heartbeats_measure_the_round_trip<R: TestRuntime>() {
    R::block_on(async {
        let (server, _log) = echo_server::<R>().await;
        let log = Log::default();
        let config = Config::builder().heartbeat_period(20 * MS).build().unwrap();
        let client = client::<R>().config(config);
        let request = url(server.local_addr(), "/");
        let _client = client.websocket(request, Whole, Socket::new(&log)).await.unwrap();
        until::<R>("pongs", || log.count("on_pong") >= 3).await;
    });
}

fn messages_are_pulled_from_a_connection<R: TestRuntime>() {
    R::block_on(async {
        let (server, _log) = echo_server::<R>().await;
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        client.opened().await.unwrap();
        for size in [0, 125, 126, 65_535, 65_536, 1 << 20] {
            client.send(Message::binary(vec![9; size])).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), Message::binary(vec![9; size]));
        }
        assert!(client.close(Close::graceful()).await.is_clean());
    });
}

fn what_is_sent_over_a_connection_before_it_is_open_waits<R: TestRuntime>() {
    R::block_on(async {
        let (server, _log) = echo_server::<R>().await;
        let mut client = pull::<R>(url(server.local_addr(), "/")).await;
        client.send(Message::text("early")).await.unwrap();
        assert!(client.opened().await.unwrap().upgrade.is_some(), "the opening is still reported");
        assert_eq!(client.recv().await.unwrap().unwrap(), Message::text("early"));
        let mut refused = pull::<R>(url(server.local_addr(), "/nowhere")).await;
        assert!(refused.send(Message::text("early")).await.is_err());
    });
}

fn large_messages_come_and_go_in_parts<R: TestRuntime>() {
    R::block_on(async {
        let (server, _log) = echo_server::<R>().await;
        let request = url(server.local_addr(), "/");
        let client = Client::<R>::builder().websocket_connection(request, Parts);
        let mut client = client.await.unwrap();
        for n in 0..10 {
            client.feed(Part::new(MessageKind::Binary, vec![n; 50_000], n == 0, n == 9)).await.unwrap();
        }
        let mut received = Vec::new();
        loop {
            let part = client.recv().await.unwrap().unwrap();
            assert_eq!(part.first, received.is_empty());
            received.extend_from_slice(&part.payload);
            if part.last {
                break;
            }
        }
        assert_eq!(received.len(), 500_000);
        assert!(received.chunks(50_000).enumerate().all(|(n, part)| part.iter().all(|&b| b == n as u8)));
    });
}

fn a_plain_request_gets_its_page<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let paths = Paths::new().path("/", move || {
            Socket::new(&made).request(|_, request| {
                assert!(!request.is_upgrade());
                Verdict::Respond(Response::new(200).unwrap().body("<p>hello"))
            })
        });
        let options = ServerOptions::new().plain_requests(true);
        let server = server::<R>()
            .tcp("127.0.0.1:0", WebSocket::serving(options), paths.into_listeners())
            .await
            .unwrap();
        let address = server.local_addr();
        let page = blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut page = String::new();
            stream.read_to_string(&mut page).unwrap();
            page
        })
        .await;
        assert!(page.starts_with("HTTP/1.1 200 ") && page.ends_with("\r\n\r\n<p>hello"), "{page}");
    });
}

fn compression_is_agreed_on<R: TestRuntime>() {
    R::block_on(async {
        let log = Log::default();
        let made = log.clone();
        let options = ServerOptions::new().deflate(Default::default());
        let paths = Paths::new().path("/", move || Socket::echo(&made));
        let server = server::<R>()
            .tcp("127.0.0.1:0", WebSocket::serving(options), paths.into_listeners())
            .await
            .unwrap();
        let mut client = pull::<R>(url(server.local_addr(), "/").deflate(Default::default())).await;
        assert!(client.opened().await.unwrap().upgrade.unwrap().deflate().is_some());
        let text = "again and ".repeat(10_000);
        client.send(Message::text(text.clone())).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), Message::text(text));
        let stats = client.stats();
        assert!(stats.sent.bytes < 2_000 && stats.received.bytes < 2_000, "{stats}");
    });
}

fn wss_needs_tls<R: TestRuntime>() {
    R::block_on(async {
        let request = ClientRequest::new("wss://127.0.0.1:1/").unwrap();
        let error = Client::<R>::builder().websocket_connection(request, Whole).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("ClientBuilder::tls"), "{error}");
    });
}
