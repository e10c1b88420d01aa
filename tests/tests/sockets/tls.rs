//! TLS over real sockets: between our own ends, and with rustls by itself, tungstenite and openssl.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Lines};
use getty_core::layer::tls::TlsError;
use getty_core::websocket::{ClientRequest, Message, ServerOptions, WebSocket, Whole};
use getty_core::{Close, CloseReason, Config, Deadline, Framed, framed};
use getty_driver::tls::{ClientCertificates, ClientTls, Identity, ServerTls, TlsSetupError};
use getty_driver::{Client, Server};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::driver_common::recorder::{Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, client, server, until};
use crate::driver_common::socket::Socket;
use crate::driver_common::*;
use crate::on_every_runtime;
use crate::tls_common::{Authority, Signed, World};
use crate::tls_ends::{client_tls, identity, server_tls};

on_every_runtime!(
    messages_go_both_ways_and_the_close_is_clean,
    many_messages_are_sent_before_an_answer_is_received,
    over_unix_sockets_too,
    web_sockets_too,
    tls_is_chosen_when_the_program_runs,
    a_client_of_rustls_is_served,
    a_client_of_tungstenite_is_served,
    a_client_of_openssl_is_served,
    a_server_of_openssl_serves,
    who_is_not_to_be_trusted_is_named,
    certificates_of_clients_are_asked_for,
    a_certificate_is_replaced_while_the_server_runs,
    a_stream_that_is_cut_off_is_an_error,
    a_client_that_does_not_begin_is_timed_out,
    plain_text_is_no_handshake,
    a_shutdown_says_close_notify,
    a_name_is_needed_for_the_certificate,
);

/// An echo server, and the log of its listeners.
async fn echo<R: TestRuntime>(tls: ServerTls) -> (Server<R>, Log) {
    let log = Log::default();
    let kept = log.clone();
    let listener = move || Recorder::echo().0.log_to(&kept);
    (server::<R>().tls(tls).tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap(), log)
}

/// The end of a server's only session.
async fn closed<R: TestRuntime>(log: &Log) -> String {
    until::<R>("the session is over", || log.count("on_close") == 1).await;
    log.take().pop().unwrap()
}

fn messages_go_both_ways_and_the_close_is_clean<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, served) = echo::<R>(server_tls(&world)).await;
        let address = server.local_addr().to_string();
        let mut client = Client::<R>::builder()
            .tls(client_tls(&world))
            .tcp_connection(&address, Framed::new(LengthDelimited::new()))
            .await
            .unwrap();
        let opened = client.opened().await.unwrap();
        let facts = opened.tls.as_deref().unwrap();
        assert_eq!(facts.server_name.as_deref(), Some("localhost"));
        assert_eq!(facts.peer_certificates, world.server.chain());
        for size in [0, 1, 1000, 100_000, 3_000_000] {
            client.send(Bytes::from(vec![7; size])).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap().len(), size);
        }
        client.close(Close::graceful()).await;
        assert_eq!(closed::<R>(&served).await, "on_close: closed by the peer");
    });
}

/// Neither end gets stuck while replies wait: a connection also receives while it sends.
fn many_messages_are_sent_before_an_answer_is_received<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, _) = echo::<R>(server_tls(&world)).await;
        let client = Client::<R>::builder().tls(client_tls(&world));
        let address = server.local_addr().to_string();
        let mut client = client.tcp_connection(&address, Framed::new(LengthDelimited::new())).await.unwrap();
        let message = |n: u32| Bytes::from([&n.to_be_bytes()[..], &[b'x'; 8000]].concat());
        for n in 0..2000 {
            client.send(message(n)).await.unwrap();
        }
        for n in 0..2000 {
            assert_eq!(client.recv().await.unwrap().unwrap(), message(n));
        }
        client.close(Close::graceful()).await;
    });
}

#[cfg(not(unix))]
fn over_unix_sockets_too<R: TestRuntime>() {}

#[cfg(unix)]
fn over_unix_sockets_too<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let path = std::env::temp_dir().join(format!("getty-tls-{}-{}", std::process::id(), next()));
        let server = server::<R>()
            .tls(server_tls(&world))
            .unix(&path, framed(LengthDelimited::new), || Recorder::echo().0)
            .unwrap();
        let mut client = Client::<R>::builder()
            .tls(client_tls(&world))
            .unix_connection(server.path(), Framed::new(LengthDelimited::new()))
            .await
            .unwrap();
        client.send(Bytes::from("hello")).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), "hello");
    });
}

/// A different number for each call.
fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

async fn echo_websocket<R: TestRuntime>(world: &World) -> Server<R> {
    let log = Log::default();
    let builder = server::<R>().tls(server_tls(world));
    builder
        .tcp("127.0.0.1:0", WebSocket::serving(ServerOptions::new()), move || Socket::echo(&log))
        .await
        .unwrap()
}

fn web_sockets_too<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let server = echo_websocket::<R>(&world).await;
        let request = ClientRequest::new(&format!("wss://{}/", server.local_addr())).unwrap();
        let mut client = Client::<R>::builder()
            .tls(client_tls(&world))
            .websocket_connection(request, Whole)
            .await
            .unwrap();
        let opened = client.opened().await.unwrap();
        assert!(opened.tls.is_some() && opened.upgrade.is_some());
        client.send(Message::text("hello")).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), Message::text("hello"));

        let request = ClientRequest::new(&format!("ws://{}/", server.local_addr())).unwrap();
        let plain = Client::<R>::builder().tls(client_tls(&world)).websocket_connection(request, Whole).await;
        assert_eq!(plain.unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

/// A rustls client on a blocking socket.
fn rustls_client(world: &World, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(world.client_config()), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

fn tls_is_chosen_when_the_program_runs<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        for secure in [false, true] {
            let (ours, theirs) = (secure.then(|| server_tls(&world)), secure.then(|| client_tls(&world)));
            let builder = server::<R>().maybe_tls(ours.clone());
            let protocol = framed(LengthDelimited::new);
            let lengths = builder.tcp("127.0.0.1:0", protocol, || Recorder::echo().0).await.unwrap();
            let builder = Client::<R>::builder().maybe_tls(theirs.clone());
            let protocol = Framed::new(LengthDelimited::new());
            let mut client =
                builder.tcp_connection(&lengths.local_addr().to_string(), protocol).await.unwrap();
            assert_eq!(client.opened().await.unwrap().tls.is_some(), secure);
            client.send(Bytes::from("hello")).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), "hello");
            let (reason, stats) = (client.close(Close::graceful()).await, client.stats());
            assert!(reason.is_clean(), "{reason}");
            assert_eq!(stats.received.bytes > 2 * 9, secure, "TLS adds bytes to the length and the payload");

            let log = Log::default();
            let builder = server::<R>().maybe_tls(ours);
            let protocol = WebSocket::serving(ServerOptions::new());
            let socket = builder.tcp("127.0.0.1:0", protocol, move || Socket::echo(&log)).await.unwrap();
            for (scheme, fits) in [("ws", !secure), ("wss", secure)] {
                let url = format!("{scheme}://{}/", socket.local_addr());
                let request = ClientRequest::new(&url).unwrap();
                let builder = Client::<R>::builder().maybe_tls(theirs.clone());
                let connected = builder.websocket_connection(request, Whole).await;
                let mut client = match connected {
                    Ok(client) => client,
                    Err(error) => {
                        assert_eq!((error.kind(), fits), (ErrorKind::InvalidInput, false));
                        continue;
                    }
                };
                assert!(fits);
                client.send(Message::text("hello")).await.unwrap();
                assert_eq!(client.recv().await.unwrap().unwrap(), Message::text("hello"));
            }
        }
    });
}

fn a_client_of_rustls_is_served<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, served) = echo::<R>(server_tls(&world)).await;
        let mut stream = rustls_client(&world, server.local_addr());
        blocking(move || {
            let sent = frame(&[3; 50_000]);
            stream.write_all(&sent).unwrap();
            let mut echoed = vec![0; sent.len()];
            stream.read_exact(&mut echoed).unwrap();
            assert!(echoed == sent);
            stream.conn.send_close_notify();
            stream.flush().unwrap();
            assert_eq!(
                stream.read(&mut echoed).unwrap(),
                0,
                "rustls returns an error for an end without close_notify"
            );
        })
        .await;
        assert_eq!(closed::<R>(&served).await, "on_close: closed by the peer");
    });
}

fn a_client_of_tungstenite_is_served<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let server = echo_websocket::<R>(&world).await;
        let stream = rustls_client(&world, server.local_addr());
        blocking(move || {
            let (mut socket, _) = tungstenite::client("wss://localhost/", stream).unwrap();
            for size in [5, 100_000] {
                let message = tungstenite::Message::text("x".repeat(size));
                socket.send(message.clone()).unwrap();
                assert_eq!(socket.read().unwrap(), message);
            }
            socket.close(None).unwrap();
            while socket.read().is_ok() {}
        })
        .await;
    });
}

/// Whether openssl is installed. Fails if it is required and missing.
fn has_openssl() -> bool {
    let found =
        Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
    assert!(found || std::env::var_os("GETTY_REQUIRE_OPENSSL").is_none(), "no openssl found");
    if !found {
        println!("skipped: no openssl found");
    }
    found
}

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Files with the world's certificates, removed when this is dropped.
struct Files(std::path::PathBuf);

impl Files {
    fn of(world: &World) -> Self {
        let path = std::env::temp_dir().join(format!("getty-tls-files-{}-{}", std::process::id(), next()));
        std::fs::create_dir(&path).unwrap();
        let files = [
            ("ca.pem", world.authority.pem()),
            ("cert.pem", world.server.certificate.clone()),
            ("key.pem", world.server.key.clone()),
        ];
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        Files(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn a_client_of_openssl_is_served<R: TestRuntime>() {
    if !has_openssl() {
        return;
    }
    R::block_on(async {
        let world = World::new();
        let files = Files::of(&world);
        for version in ["-tls1_2", "-tls1_3"] {
            let (server, served) = echo::<R>(server_tls(&world)).await;
            let mut client = Command::new("openssl")
                .args(["s_client", "-quiet", "-verify_return_error", "-servername", "localhost", version])
                .args(["-CAfile", &files.path("ca.pem"), "-connect", &server.local_addr().to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .map(Process)
                .unwrap();
            blocking(move || {
                let sent = frame(b"from openssl");
                client.0.stdin.as_mut().unwrap().write_all(&sent).unwrap();
                let mut echoed = vec![0; sent.len()];
                client.0.stdout.as_mut().unwrap().read_exact(&mut echoed).unwrap();
                assert_eq!(echoed, sent);
            })
            .await;
            until::<R>("the session is over", || served.count("on_close") == 1).await;
        }
    });
}

fn a_server_of_openssl_serves<R: TestRuntime>() {
    if !has_openssl() {
        return;
    }
    R::block_on(async {
        let world = World::new();
        let files = Files::of(&world);
        let mut process = Command::new("openssl")
            .args(["s_server", "-rev", "-accept", "127.0.0.1:0"])
            .args(["-cert", &files.path("cert.pem"), "-key", &files.path("key.pem")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map(Process)
            .unwrap();
        let stdout = process.0.stdout.take().unwrap();
        let address = blocking(move || {
            let mut lines = BufReader::new(stdout).lines();
            lines.find_map(|line| Some(line.unwrap().strip_prefix("ACCEPT ")?.to_owned())).unwrap()
        })
        .await;
        let tls =
            ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost").build().unwrap();
        let mut client = Client::<R>::builder()
            .tls(tls)
            .tcp_connection(&address, Framed::new(Lines::new()))
            .await
            .unwrap();
        client.send("desrever".to_owned()).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), "reversed");
        client.close(Close::graceful()).await;
    });
}

/// The reason that ends a client's session with a server before it opens.
async fn refused<R: TestRuntime>(server: &Server<R>, tls: ClientTls) -> CloseReason {
    let address = server.local_addr().to_string();
    let mut client = Client::<R>::builder()
        .tls(tls)
        .tcp_connection(&address, Framed::new(LengthDelimited::new()))
        .await
        .unwrap();
    // With TLS 1.3, the client is done before the server has judged its certificate.
    match client.opened().await {
        Err(reason) => reason,
        Ok(_) => match client.recv().await {
            Err(reason) => reason,
            other => panic!("expected a refusal: {other:?}"),
        },
    }
}

fn tls_error(reason: &CloseReason) -> &TlsError {
    match reason {
        CloseReason::Layer(error) => error.downcast_ref().unwrap(),
        other => panic!("expected a TLS error: {other:?}"),
    }
}

fn who_is_not_to_be_trusted_is_named<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, served) = echo::<R>(server_tls(&world)).await;
        let strangers = Authority::new("strangers");
        let tls = ClientTls::builder().roots_pem(strangers.pem()).server_name("localhost").build().unwrap();
        let reason = refused(&server, tls).await;
        assert_eq!(
            reason.to_string(),
            "TLS: the peer's certificate is not accepted: it is not signed by a trusted authority"
        );
        assert_eq!(
            closed::<R>(&served).await,
            "on_close: TLS: the peer refused: it does not trust the issuer of this end's certificate"
        );
        let tls = ClientTls::builder().roots_pem(world.authority.pem()).build().unwrap();
        let reason = refused(&server, tls).await;
        assert!(reason.to_string().contains("it is not for 127.0.0.1 but for"), "{reason}");
        // The system trusts neither authority.
        if let Ok(tls) = ClientTls::builder().server_name("localhost").build() {
            assert!(matches!(tls_error(&refused(&server, tls).await), TlsError::Certificate(_)));
        }
        let tls = ClientTls::builder().dangerously_trust_anybody().build().unwrap();
        let address = server.local_addr().to_string();
        let mut client = Client::<R>::builder()
            .tls(tls)
            .tcp_connection(&address, Framed::new(LengthDelimited::new()))
            .await
            .unwrap();
        client.opened().await.unwrap();
    });
}

fn certificates_of_clients_are_asked_for<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let authority = world.authority.pem().into_bytes();
        let strangers = Authority::new("strangers");
        let with = |signed: &Signed| {
            let builder = ClientTls::builder().roots_pem(world.authority.pem()).server_name("localhost");
            builder.identity(identity(signed)).build().unwrap()
        };
        let strict = ServerTls::builder(identity(&world.server))
            .client_certificates(ClientCertificates::Required(authority.clone()))
            .build()
            .unwrap();
        let lenient = ServerTls::builder(identity(&world.server))
            .client_certificates(ClientCertificates::Optional(authority))
            .build()
            .unwrap();
        let stranger = strangers.sign(&["a client"]);
        for (tls, takes_nobody) in [(strict, false), (lenient, true)] {
            let (server, served) = echo::<R>(tls).await;
            let address = server.local_addr().to_string();
            let mut clients = vec![with(&world.client)];
            if takes_nobody {
                clients.push(client_tls(&world));
            } else {
                let reason = refused(&server, client_tls(&world)).await;
                assert_eq!(
                    reason.to_string(),
                    "TLS: the peer refused: it requires a certificate from this end"
                );
            }
            assert!(matches!(tls_error(&refused(&server, with(&stranger)).await), TlsError::Refused(_)));
            for tls in clients {
                let mut client = Client::<R>::builder()
                    .tls(tls)
                    .tcp_connection(&address, Framed::new(LengthDelimited::new()))
                    .await
                    .unwrap();
                client.send(Bytes::from("hello")).await.unwrap();
                assert_eq!(client.recv().await.unwrap().unwrap(), "hello");
            }
            assert_eq!(served.count("on_open"), if takes_nobody { 2 } else { 1 });
        }
    });
}

fn a_certificate_is_replaced_while_the_server_runs<R: TestRuntime>() {
    R::block_on(async {
        let (old, new) = (World::new(), World::new());
        let tls = server_tls(&old);
        let (server, _) = echo::<R>(tls.clone()).await;
        let address = server.local_addr().to_string();
        let connect = |world: &World| {
            Client::<R>::builder()
                .tls(client_tls(world))
                .tcp_connection(&address, Framed::new(LengthDelimited::new()))
        };
        let mut before = connect(&old).await.unwrap();
        before.opened().await.unwrap();
        tls.replace_identity(identity(&new.server)).unwrap();
        let mut after = connect(&new).await.unwrap();
        after.opened().await.unwrap();
        before.send(Bytes::from("goes on")).await.unwrap();
        assert_eq!(before.recv().await.unwrap().unwrap(), "goes on");
        let other = Identity::from_pem(old.server.certificate.as_bytes(), new.server.key.as_bytes()).unwrap();
        assert!(matches!(tls.replace_identity(other), Err(TlsSetupError::OtherKey)));
    });
}

/// An old ticket would resume a session without showing the new certificate.
#[test]
fn tickets_end_with_the_certificate() {
    getty_tokio::Tokio::block_on(async {
        let world = World::new();
        let tls = server_tls(&world);
        let (server, _) = echo::<getty_tokio::Tokio>(tls.clone()).await;
        let (address, ours) = (server.local_addr().to_string(), client_tls(&world));
        let mut resumed = Vec::new();
        for round in 0..3 {
            if round == 2 {
                tls.replace_identity(identity(&world.server)).unwrap();
            }
            let builder = getty_tokio::Client::builder().tls(ours.clone());
            let mut client =
                builder.tcp_connection(&address, Framed::new(LengthDelimited::new())).await.unwrap();
            resumed.push(client.opened().await.unwrap().tls.as_ref().unwrap().resumed);
            client.send(Bytes::from("tickets come before this")).await.unwrap();
            client.recv().await.unwrap();
            client.close(Close::graceful()).await;
        }
        assert_eq!(resumed, [false, true, false]);
    });
}

fn a_stream_that_is_cut_off_is_an_error<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, served) = echo::<R>(server_tls(&world)).await;
        let mut stream = rustls_client(&world, server.local_addr());
        blocking(move || {
            stream.write_all(&frame(b"hello")).unwrap();
            stream.read_exact(&mut [0; 9]).unwrap();
            stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
            while stream.sock.read(&mut [0; 100]).unwrap() > 0 {}
        })
        .await;
        assert_eq!(
            closed::<R>(&served).await,
            "on_close: TLS: the stream was cut off: it ended without close_notify"
        );
    });
}

fn a_client_that_does_not_begin_is_timed_out<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let log = Log::default();
        let kept = log.clone();
        let config = Config::builder().handshake_timeout(50 * MS).build().unwrap();
        let listener = move || Recorder::quiet().0.log_to(&kept);
        let builder = server::<R>().config(config).tls(server_tls(&world));
        let server = builder.tcp("127.0.0.1:0", framed(LengthDelimited::new), listener).await.unwrap();
        let stream = TcpStream::connect(server.local_addr()).unwrap();
        let reason = CloseReason::Timeout(Deadline::Handshake);
        assert_eq!(closed::<R>(&log).await, format!("on_close: {reason}"));
        drop(stream);
    });
}

fn plain_text_is_no_handshake<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, served) = echo::<R>(server_tls(&world)).await;
        let mut stream = TcpStream::connect(server.local_addr()).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let alert = blocking(move || {
            let mut alert = Vec::new();
            stream.read_to_end(&mut alert).unwrap();
            alert
        })
        .await;
        assert_eq!(alert[0], 21, "not an alert: {alert:?}");
        assert!(closed::<R>(&served).await.starts_with("on_close: TLS: "));
    });
}

fn a_shutdown_says_close_notify<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let (server, _) = echo::<R>(server_tls(&world)).await;
        let mut stream = rustls_client(&world, server.local_addr());
        let stream = blocking(move || {
            stream.write_all(&frame(b"hello")).unwrap();
            stream.read_exact(&mut [0; 9]).unwrap();
            stream
        })
        .await;
        let reader = async {
            let mut stream = stream;
            blocking(move || assert_eq!(stream.read(&mut [0; 9]).unwrap(), 0)).await;
        };
        let (shutdown, ()) = futures::join!(server.shutdown(secs(5)), reader);
        assert_eq!(shutdown.aborted, 0);
    });
}

fn a_name_is_needed_for_the_certificate<R: TestRuntime>() {
    R::block_on(async {
        let world = World::new();
        let tls = ClientTls::builder().roots_pem(world.authority.pem()).build().unwrap();
        let builder = Client::<R>::builder().tls(tls);
        let error =
            builder.tcp_connection("not a name:1", Framed::new(LengthDelimited::new())).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("with_server_name"), "{error}");
        // `localhost` is a name, and its address has a listening socket.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = format!("localhost:{}", listener.local_addr().unwrap().port());
        let builder = client::<R>().tls(client_tls(&world));
        let (recorder, log) = Recorder::new(|_, _| Then::Default);
        let handle = builder.tcp(&address, Framed::new(LengthDelimited::new()), recorder).await.unwrap();
        drop(listener);
        handle.close(Close::abort());
        until::<R>("the session is over", || log.count("on_close") == 1).await;
    });
}

#[test]
fn what_is_no_identity_is_named() {
    let world = World::new();
    let Signed { certificate, key, .. } = &world.server;
    let error = |chain: &str, key: &str| Identity::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert!(matches!(error("", key), TlsSetupError::NoCertificate));
    assert!(matches!(error(certificate, ""), TlsSetupError::NoKey));
    assert!(matches!(error(certificate, certificate), TlsSetupError::NoKey));
    assert!(matches!(error("-----BEGIN CERTIFICATE-----\n!", key), TlsSetupError::Pem(_)));
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    assert!(matches!(error(certificate, &encrypted), TlsSetupError::EncryptedKey));
    let missing = Identity::from_files("/nowhere/cert.pem", "/nowhere/key.pem").unwrap_err();
    assert!(missing.to_string().starts_with("can't read /nowhere/cert.pem: "), "{missing}");
    let other = Identity::from_pem(certificate.as_bytes(), world.client.key.as_bytes()).unwrap();
    assert!(matches!(ServerTls::new(other), Err(TlsSetupError::OtherKey)));
    assert!(matches!(ClientTls::builder().roots_pem("").build(), Err(TlsSetupError::NoCertificate)));
}
