//! Clients: connecting, and the errors when that fails.

use std::io::ErrorKind;
use std::time::Duration;

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Raw};
use getty_core::{Close, Framed, framed};
use getty_driver::tls::{ClientTls, Identity, ServerTls};
use getty_driver::{Client, PoolOptions, Runtime, TcpOptions};

use crate::driver_common::fake::{self, Fake};
use crate::driver_common::recorder::Recorder;
use crate::driver_common::runtimes::{TestRuntime, client, connect, serve, server, until};
use crate::driver_common::wire::wire;
use crate::driver_common::*;
use crate::on_every_runtime;
use crate::tls_common::Authority;

on_every_runtime!(
    a_client_with_a_listener,
    an_address_that_does_not_answer_is_named,
    a_zone_says_which_interface_leads_to_an_address,
    socket_options,
);

fn a_client_with_a_listener<R: TestRuntime>() {
    R::block_on(async {
        let server = serve::<R>(|| Recorder::echo().0).await;
        let (listener, log) = Recorder::quiet();
        let address = format!("localhost:{}", server.local_addr().port());
        let handle =
            client::<R>().tcp(&address, Framed::new(LengthDelimited::new()), listener).await.unwrap();
        assert_eq!(handle.peer_addr(), Some(server.local_addr()));
        assert_eq!(handle.local_addr().unwrap().ip(), server.local_addr().ip());
        handle.send_flushed(Bytes::from("hello")).await.unwrap();
        until::<R>("the echo", || log.count("on_message: hello") == 1).await;
        handle.close(Close::graceful());
        assert!(handle.closed().await.is_clean());
        until::<R>("the end", || log.count("on_close: closed by this end") == 1).await;
    });
}

fn an_address_that_does_not_answer_is_named<R: TestRuntime>() {
    R::block_on(async {
        // A port that was just given back, so that nothing listens there.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::<R>::builder()
            .tcp_connection(&free.to_string(), Framed::<_, Bytes>::new(LengthDelimited::new()))
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert!(error.to_string().starts_with(&format!("can't connect to {free}: ")), "{error}");
        let error = Client::<R>::builder()
            .tcp_connection("no such host.invalid:1", Framed::<_, Bytes>::new(LengthDelimited::new()))
            .await;
        let error = error.unwrap_err();
        assert!(error.to_string().starts_with("can't connect to no such host.invalid:1: "), "{error}");
        // The same for a session with a listener.
        let error = client::<R>()
            .tcp(&free.to_string(), Framed::<_, Bytes>::new(LengthDelimited::new()), Recorder::quiet().0)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&free.to_string()), "{error}");
    });
}

/// A link-local address needs an interface. The certificate is for the address alone.
fn a_zone_says_which_interface_leads_to_an_address<R: TestRuntime>() {
    if !namespace::is_inside("ip link set lo up && ip addr add fe80::1/64 dev lo nodad") {
        return;
    }
    R::block_on(async {
        let authority = Authority::new("of zones");
        let signed = authority.sign(&["fe80::1"]);
        let identity = Identity::from_pem(signed.certificate.as_bytes(), signed.key.as_bytes()).unwrap();
        let ours = ServerTls::new(identity).unwrap();
        let theirs = ClientTls::builder().roots_pem(authority.pem()).build().unwrap();
        let echo = || Recorder::echo().0;
        for zone in ["lo", "1"] {
            let protocol = || Framed::<_, Bytes>::new(LengthDelimited::new());
            let plain = server::<R>().tcp(&format!("[fe80::1%{zone}]:0"), protocol, echo).await.unwrap();
            let address = format!("[fe80::1%{zone}]:{}", plain.local_addr().port());
            let mut one = client::<R>().tcp_connection(&address, protocol()).await.unwrap();
            one.send(Bytes::from("hello")).await.unwrap();
            assert_eq!(one.recv().await.unwrap().unwrap(), "hello");
            let pool =
                client::<R>().pool(PoolOptions::new()).tcp([&address], protocol, || Recorder::quiet().0);
            pool.unwrap().wait_ready(secs(20)).await.unwrap();

            let secure = server::<R>().tls(ours.clone()).tcp("[fe80::1%lo]:0", protocol, echo).await.unwrap();
            let address = format!("[fe80::1%{zone}]:{}", secure.local_addr().port());
            let builder = client::<R>().tls(theirs.clone());
            builder.tcp_connection(&address, protocol()).await.unwrap().opened().await.unwrap();
            let pool = client::<R>().tls(theirs.clone()).pool(PoolOptions::new());
            let pool = pool.tcp([&address], protocol, || Recorder::quiet().0).unwrap();
            pool.wait_ready(secs(20)).await.unwrap();

            let datagrams = server::<R>().udp(&format!("[fe80::1%{zone}]:0"), Raw, echo()).await.unwrap();
            let address = format!("[fe80::1%{zone}]:{}", datagrams.local_addr().port());
            let (handle, mut receiver) = client::<R>().udp_receiver(&address, Raw).await.unwrap();
            handle.send(Bytes::from("hello")).await.unwrap();
            assert_eq!(receiver.recv().await.unwrap().unwrap(), "hello");
        }
        let nowhere = client::<R>()
            .tcp_connection("[fe80::1%nowhere]:7", Framed::<_, Bytes>::new(LengthDelimited::new()));
        let error = nowhere.await.map(drop).unwrap_err().to_string();
        assert!(error.starts_with("can't connect to [fe80::1%nowhere]:7: "), "{error}");
    });
}

fn socket_options<R: TestRuntime>() {
    R::block_on(async {
        let options =
            || TcpOptions::new().keepalive(secs(60)).send_buffer(8192).receive_buffer(8192).backlog(1);
        let server = server::<R>()
            .tcp_options(options())
            .tcp("127.0.0.1:0", framed(LengthDelimited::new), || Recorder::echo().0)
            .await
            .unwrap();
        let client = Client::<R>::builder().tcp_options(options());
        let mut client = client
            .tcp_connection(&server.local_addr().to_string(), Framed::new(LengthDelimited::new()))
            .await
            .unwrap();
        // With small buffers and large messages, writes and reads come in pieces.
        let large = Bytes::from(vec![7; 100_000]);
        let (sent, got) = futures::join!(connect::<R>(server.local_addr()), async {
            client.feed(large.clone()).await.unwrap();
            client.recv().await.unwrap().unwrap()
        });
        assert_eq!(got, large);
        drop(sent);
    });
}

#[test]
fn connecting_gives_up_in_time() {
    fake::block_on(async {
        for timeout in [Duration::from_millis(1500), secs(10)] {
            let start = Fake::now();
            let client = Client::<Fake>::builder().connect_timeout(timeout);
            let error = client
                .tcp_connection("192.0.2.1:7", Framed::<_, Bytes>::new(LengthDelimited::new()))
                .await
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert_eq!(
                error.to_string(),
                format!("can't connect to 192.0.2.1:7: no connection within {timeout:?}")
            );
            assert_eq!(Fake::now() - start, timeout);
        }
    });
}

/// A name with addresses of both families.
const NAME: &str = "192.0.2.1:7,192.0.2.2:7,[2001:db8::1]:7";

async fn connect_to_name(timeout: Duration) -> (std::io::Result<()>, Vec<(String, Duration)>) {
    let start = Fake::now();
    let client = Client::<Fake>::builder().connect_timeout(timeout);
    let result = client.tcp_connection(NAME, Framed::<_, Bytes>::new(LengthDelimited::new())).await;
    let attempts = fake::take_attempts().into_iter();
    (result.map(drop), attempts.map(|(address, at)| (address.to_string(), at - start)).collect())
}

#[test]
fn an_address_that_does_not_answer_is_not_waited_for() {
    let tried = |at: [u64; 3]| -> Vec<(String, Duration)> {
        let in_turn = ["192.0.2.1:7", "[2001:db8::1]:7", "192.0.2.2:7"];
        in_turn.map(str::to_owned).into_iter().zip(at.map(Duration::from_millis)).collect()
    };
    fake::block_on(async {
        let (result, attempts) = connect_to_name(secs(10)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(attempts, tried([0, 250, 500]));
        // The first address to answer is taken.
        fake::connects_to("[2001:db8::1]:7", Ok(wire().0));
        let (result, attempts) = connect_to_name(secs(10)).await;
        assert!(result.is_ok());
        assert_eq!(attempts, tried([0, 250, 500])[..2]);
        // A refusal is not waited for.
        fake::connects_to("192.0.2.1:7", Err(ErrorKind::ConnectionRefused.into()));
        let (_, attempts) = connect_to_name(secs(10)).await;
        assert_eq!(attempts, tried([0, 0, 250]));
        for address in ["[2001:db8::1]:7", "192.0.2.1:7", "192.0.2.2:7"] {
            fake::connects_to(address, Err(ErrorKind::ConnectionRefused.into()));
        }
        let (result, attempts) = connect_to_name(secs(10)).await;
        assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert_eq!(attempts, tried([0, 0, 0]));
    });
}

/// A client may be given the very port that it connects to, if it is a free one in the range for client
/// ports.
#[test]
fn nobody_talks_to_himself() {
    fake::block_on(async {
        let this = "127.0.0.1:40000";
        fake::connects(Ok(wire().0.with_addresses(this, this)));
        let error = Client::<Fake>::builder()
            .tcp_connection(this, Framed::<_, Bytes>::new(LengthDelimited::new()))
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            error.to_string(),
            format!("can't connect to {this}: connected to itself: no server listens there")
        );
        fake::connects(Ok(wire().0.with_addresses("127.0.0.1:40001", this)));
        Client::<Fake>::builder()
            .tcp_connection(this, Framed::<_, Bytes>::new(LengthDelimited::new()))
            .await
            .unwrap();
    });
}

/// The same with a real socket: both ends are one socket, and both addresses are the same.
#[test]
fn a_socket_that_is_connected_to_itself_has_one_address() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(&address).unwrap();
    assert_eq!(socket.peer_addr().unwrap().as_socket(), socket.local_addr().unwrap().as_socket());
}

#[test]
fn connecting_may_take_for_ever() {
    fake::block_on(async {
        fake::connects(Ok(wire().0));
        let client = Client::<Fake>::builder().connect_timeout(Duration::MAX);
        client.tcp_connection("192.0.2.1:7", Framed::<_, Bytes>::new(LengthDelimited::new())).await.unwrap();
    });
}

#[test]
fn a_panic_of_a_clients_listener_is_told() {
    fake::block_on(async {
        let (io, wire) = wire();
        fake::connects(Ok(io));
        let (tell, told) = std::sync::mpsc::channel();
        let client = Client::<Fake>::builder().on_panic(move |id, _| tell.send(id).unwrap());
        let listener = Recorder::quiet().0.panics_in("on_message");
        let handle = client.tcp("192.0.2.1:7", Framed::new(LengthDelimited::new()), listener).await.unwrap();
        wire.send_frame("hello");
        fake::run();
        assert_eq!(told.try_recv(), Ok(handle.id()));
        assert_eq!(handle.closed().await.to_string(), "the listener or the codec panicked");
    });
}
