//! Endpoints take protocols: which types and bounds a program must write, and which it need not.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use getty_core::codec::{LengthDelimited, Lines};
use getty_core::{Out, Protocol, Timestamp};
use getty_driver::tls::{ClientTls, ServerTls};
use getty_driver::{
    Client, Context, Driver, Framed, Items, Listener, Plaintext, Security, Server, ServerBuilder,
    SpawnServer, TcpIncoming, framed,
};
use getty_tokio::{TcpStream, Tokio};

use crate::driver_common::fake::{self, Fake, FakeSpawner};
use crate::driver_common::recorder::Recorder;
use crate::driver_common::wire::{Wire, wire};
use crate::driver_common::*;

const ANY: &str = "127.0.0.1:0";

/// Sends back every message, whatever its type.
struct Echo;

impl<T: Clone + 'static> Listener<Items<T>> for Echo {
    fn on_message(&mut self, cx: &mut Context<'_, Items<T>>, message: T) {
        let _ = cx.send(message); // refused only if the session is closing
    }
}

/// A listener for one type of message.
struct EchoLines;

impl Listener<Items<String>> for EchoLines {
    fn on_message(&mut self, cx: &mut Context<'_, Items<String>>, line: String) {
        let _ = cx.send(line);
    }
}

fn accepted() -> Wire {
    let (io, wire) = wire();
    fake::incoming(Ok(io));
    fake::run();
    wire
}

#[track_caller]
fn echoes(wire: &Wire, line: &str) {
    wire.send(line.as_bytes());
    fake::run();
    assert_eq!(wire.take_written(), line.as_bytes());
}

#[test]
fn the_item_is_inferred_where_the_listener_has_one() {
    fake::block_on(async {
        let _server = Server::<Fake>::builder().tcp(ANY, framed(Lines::new), || EchoLines).await.unwrap();
        echoes(&accepted(), "hello\n");
    });
}

#[test]
fn the_item_is_named_where_the_listener_has_several() {
    fake::block_on(async {
        let builder = Server::<Fake>::builder;
        let one = builder().tcp(ANY, framed::<_, String>(Lines::new), || Echo).await.unwrap();
        echoes(&accepted(), "hello\n");
        drop(one);
        fake::run();
        let _other = builder().tcp(ANY, || Framed::<_, String>::new(Lines::new()), || Echo).await.unwrap();
        echoes(&accepted(), "again\n");

        let (io, wire) = wire();
        fake::connects(Ok(io));
        let protocol = Framed::<_, String>::new(Lines::new());
        let _handle = Client::<Fake>::builder().tcp("192.0.2.1:7", protocol, Echo).await.unwrap();
        echoes(&wire, "hello\n");
    });
}

#[test]
fn the_item_of_a_pulled_client_is_what_is_sent() {
    fake::block_on(async {
        let (io, wire) = wire();
        fake::connects(Ok(io));
        let protocol = Framed::new(LengthDelimited::new());
        let mut connection = Client::<Fake>::builder().tcp_connection("192.0.2.1:7", protocol).await.unwrap();
        connection.send(Bytes::from("hello")).await.unwrap();
        assert_eq!(wire.take_frames(), ["hello"]);
    });
}

#[test]
fn making_a_protocol_may_fail() {
    fake::block_on(async {
        static FAILS: AtomicBool = AtomicBool::new(true);
        let protocol = || match FAILS.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the dictionary is gone")),
            false => Ok(Plain::new(LengthDelimited::new())),
        };
        let server = Server::<Fake>::builder().tcp(ANY, protocol, || Recorder::echo().0).await.unwrap();
        let refused = accepted();
        assert!(refused.is_dropped());
        let stats = server.stats();
        assert_eq!((stats.failures, stats.sessions), (1, 0));
        FAILS.store(false, Ordering::Relaxed);
        let taken = accepted();
        taken.send_frame("hello");
        fake::run();
        assert_eq!(taken.take_frames(), ["hello"]);
    });
}

/// Has all the bounds that a function needs to start servers of any protocol on a runtime, without TLS.
async fn serve<P, L>(
    protocol: impl Fn() -> P + Send + 'static,
    listener: impl Fn() -> L + Send + 'static,
) -> io::Result<getty_tokio::Server>
where
    P: Protocol + Send + 'static,
    L: Listener<P::Messages> + Send + 'static,
    Out<P>: Send,
{
    getty_tokio::Server::builder().tcp(ANY, protocol, listener).await
}

#[tokio::test]
async fn a_function_may_start_servers_of_any_protocol() {
    let server = tokio::spawn(serve(framed(LengthDelimited::new), || Recorder::echo().0)).await;
    let address = server.unwrap().unwrap().local_addr();
    assert_ne!(address.port(), 0);
}

/// The same on any spawner.
async fn serve_on<S, P, L>(
    builder: ServerBuilder<Fake, S>,
    protocol: fn() -> P,
    listener: fn() -> L,
) -> io::Result<Server<Fake>>
where
    P: Protocol,
    L: Listener<P::Messages>,
    S: SpawnServer<Fake, TcpIncoming<Fake>, Plaintext, fn() -> P, fn() -> L>,
{
    builder.tcp(ANY, protocol, listener).await
}

#[test]
fn a_function_may_start_servers_on_any_spawner() {
    fake::block_on(async {
        let builder = Server::<Fake>::builder().spawner(FakeSpawner);
        let protocol = || Plain::new(LengthDelimited::new());
        let _server = serve_on(builder, protocol, || Recorder::echo().0).await.unwrap();
        let wire = accepted();
        wire.send_frame("hello");
        fake::run();
        assert_eq!(wire.take_frames(), ["hello"]);
    });
}

/// The session could have had TLS, and has none.
#[test]
fn tls_that_is_left_out_costs_a_pointer() {
    type Session<T> = Driver<Tokio, TcpStream, <T as Security>::Wrapped<Plain>, Recorder>;
    let plain = size_of::<Session<Plaintext>>();
    for maybe in [size_of::<Session<Option<ServerTls>>>(), size_of::<Session<Option<ClientTls>>>()] {
        assert!(maybe <= plain + size_of::<usize>(), "{maybe} bytes instead of {plain}");
    }
}

/// The session copies nothing, just as one without a layer.
#[test]
fn tls_that_is_left_out_copies_nothing() {
    let layer = Option::<ServerTls>::None.layer("").unwrap();
    let protocol = Option::<ServerTls>::wrap(layer, Plain::new(LengthDelimited::new()));
    let mut session = getty_core::Session::new(protocol, config(|c| c), Timestamp::ORIGIN);
    let payload = Bytes::from(vec![7; 100_000]);
    session.send(payload.clone()).unwrap();
    let mut outbound = session.outbound(Timestamp::ORIGIN);
    bytes::Buf::advance(&mut outbound, 4); // the length
    assert_eq!(bytes::Buf::chunk(&outbound).as_ptr(), payload.as_ptr());
}
