//! Sessions over the user's own streams, by `drive` or as an `Io`: streams with the traits of `futures-io` or
//! of tokio, and sockets in a reactor.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::task::{Context as TaskContext, Poll, Waker, ready};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use getty_async_io::{AnyIo, Async, Stream};
use getty_async_std::AsyncStd;
use getty_core::codec::LengthDelimited;
use getty_core::datagram::RecvBatch;
use getty_core::{Close, Config, Framed, Session};
use getty_driver::{Connection, Driver, FuturesIo, Io, PacketIo, Runtime, UdpOptions, now};
use getty_smol::Smol;
use getty_tokio::{Tokio, TokioIo};

use crate::driver_common::recorder::{Log, Recorder, Then};
use crate::driver_common::runtimes::{TestRuntime, blocking, until};
use crate::driver_common::*;

/// Both ends of a stream, made inside their runtime.
trait Ends: Io + Send + Sized + 'static {
    type Runtime: TestRuntime;

    fn pair() -> (Self, Self);
}

impl Ends for FuturesIo<smol::net::unix::UnixStream> {
    type Runtime = Smol;

    fn pair() -> (Self, Self) {
        let (near, far) = smol::net::unix::UnixStream::pair().unwrap();
        (FuturesIo::new(near), FuturesIo::new(far))
    }
}

impl Ends for AnyIo<Async<std::os::unix::net::UnixStream>> {
    type Runtime = AsyncStd;

    fn pair() -> (Self, Self) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let any = |socket| AnyIo::new(Async::new(socket).unwrap(), |_| None);
        (any(near), any(far))
    }
}

impl Ends for Stream<std::os::unix::net::UnixStream> {
    type Runtime = Smol;

    fn pair() -> (Self, Self) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let watched = |socket| Stream::from(Async::new(socket).unwrap());
        (watched(near), watched(far))
    }
}

impl Ends for TokioIo<tokio::net::UnixStream> {
    type Runtime = Tokio;

    fn pair() -> (Self, Self) {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        (TokioIo::new(near), TokioIo::new(far))
    }
}

impl Ends for TokioIo<tokio::io::DuplexStream> {
    type Runtime = Tokio;

    fn pair() -> (Self, Self) {
        let (near, far) = tokio::io::duplex(1000);
        (TokioIo::new(near), TokioIo::new(far))
    }
}

fn session<R: TestRuntime>() -> Session<Plain> {
    Session::new(Framed::new(LengthDelimited::new()), Config::builder().build().unwrap(), now::<R>())
}

fn echoed_pair<I: Ends>() -> (Connection<I::Runtime, I, Plain>, Log) {
    let (near, far) = I::pair();
    let (listener, log) = Recorder::echo();
    I::Runtime::spawn(Driver::<I::Runtime, _, _, _>::new(session::<I::Runtime>(), far, listener));
    (Connection::new(session::<I::Runtime>(), near), log)
}

fn messages_of_all_sizes_pass_and_the_end_is_clean<I: Ends>() {
    I::Runtime::block_on(async {
        let (mut client, log) = echoed_pair::<I>();
        for size in [0, 1, 1000, 65_536, 1 << 20] {
            client.feed(Bytes::from(vec![7; size])).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), vec![7; size]);
        }
        assert!(client.close(Close::graceful()).await.is_clean());
        assert_eq!(log.count("on_message"), 5);
    });
}

fn what_is_too_much_for_the_stream_waits<I: Ends>() {
    I::Runtime::block_on(async {
        let (client, _log) = echoed_pair::<I>();
        let (mut sink, mut stream) = client.split();
        let message = |n: u32| Bytes::from(vec![n as u8; 1000]);
        let sending = async {
            for n in 0..2000 {
                sink.feed(message(n)).await.unwrap();
            }
            sink.flush().await.unwrap();
        };
        let receiving = async {
            for n in 0..2000 {
                assert_eq!(stream.next().await.unwrap().unwrap(), message(n));
            }
        };
        futures::join!(sending, receiving);
    });
}

fn a_dropped_stream_ends_its_session<I: Ends>() {
    I::Runtime::block_on(async {
        let (client, log) = echoed_pair::<I>();
        drop(client);
        until::<I::Runtime>("the end", || log.count("on_close: closed by the peer") == 1).await;
    });
}

/// Makes a module with the tests for each stream.
macro_rules! over {
    ($($name:ident: $ends:ty),* $(,)?) => {
        $(mod $name {
            use super::*;

            #[test]
            fn messages_pass() {
                messages_of_all_sizes_pass_and_the_end_is_clean::<$ends>();
            }

            #[test]
            fn too_much_waits() {
                what_is_too_much_for_the_stream_waits::<$ends>();
            }

            #[test]
            fn a_dropped_stream_is_an_end() {
                a_dropped_stream_ends_its_session::<$ends>();
            }
        })*
    };
}

over! {
    futures_io: FuturesIo<smol::net::unix::UnixStream>,
    sockets_found_in_any_io: AnyIo<Async<std::os::unix::net::UnixStream>>,
    watched_sockets: Stream<std::os::unix::net::UnixStream>,
    tokio_sockets: TokioIo<tokio::net::UnixStream>,
    tokio_in_memory: TokioIo<tokio::io::DuplexStream>,
}

/// A listener that notes both addresses and then closes the session.
fn ends_at_once() -> (Recorder, Log) {
    let log = Log::default();
    let noted = log.clone();
    let (listener, _) = Recorder::new(move |cx, _| {
        noted.note(format!("{:?} {:?}", cx.local_addr(), cx.peer_addr()));
        cx.close(Close::graceful());
        Then::Default
    });
    (listener, log)
}

/// Reads to the end while its own side stays open.
async fn sees_the_end(mut near: impl Read + Send + 'static) {
    blocking(move || assert_eq!(near.read(&mut [0; 9]).unwrap(), 0)).await;
}

/// Drives one of the runtime's own sockets with the adapter's `drive`.
macro_rules! drives_sockets {
    ($runtime:ty, $drive:path, $tcp:expr, $unix:expr) => {
        <$runtime>::block_on(async {
            let accepting = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let local = accepting.local_addr().unwrap();
            let near = std::net::TcpStream::connect(local).unwrap();
            let (far, peer) = accepting.accept().unwrap();
            assert_eq!(near.local_addr().unwrap(), peer);
            far.set_nonblocking(true).unwrap();
            let (listener, log) = ends_at_once();
            let driving = $drive(session::<$runtime>(), ($tcp)(far), listener);
            assert!(futures::join!(driving, sees_the_end(near)).0.is_clean());
            assert_eq!(log.take()[0], format!("{:?} {:?}", Some(local), Some(peer)));

            let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
            far.set_nonblocking(true).unwrap();
            let (listener, log) = ends_at_once();
            let driving = $drive(session::<$runtime>(), ($unix)(far), listener);
            assert!(futures::join!(driving, sees_the_end(near)).0.is_clean());
            assert_eq!(log.take()[0], "None None");
        })
    };
}

#[test]
fn drive_knows_the_sockets_of_tokio() {
    let tcp = |socket| tokio::net::TcpStream::from_std(socket).unwrap();
    let unix = |socket| tokio::net::UnixStream::from_std(socket).unwrap();
    drives_sockets!(Tokio, getty_tokio::drive, tcp, unix);
}

#[test]
fn drive_knows_the_sockets_of_smol() {
    let tcp = |socket| smol::net::TcpStream::try_from(socket).unwrap();
    let unix = |socket| smol::net::unix::UnixStream::try_from(socket).unwrap();
    drives_sockets!(Smol, getty_smol::drive, tcp, unix);
}

#[test]
fn drive_knows_the_sockets_of_async_io() {
    let tcp = |socket: std::net::TcpStream| Async::new(socket).unwrap();
    let unix = |socket: std::os::unix::net::UnixStream| Async::new(socket).unwrap();
    drives_sockets!(Smol, getty_smol::drive, tcp, unix);
}

#[test]
fn drive_knows_the_sockets_of_async_std() {
    let tcp = |socket: std::net::TcpStream| async_std::net::TcpStream::from(socket);
    let unix = |socket: std::os::unix::net::UnixStream| async_std::os::unix::net::UnixStream::from(socket);
    drives_sockets!(AsyncStd, getty_async_std::drive, tcp, unix);
}

#[test]
fn addresses_that_the_stream_does_not_know_can_be_told() {
    Tokio::block_on(async {
        let (near, far) = tokio::io::duplex(100);
        drop(near);
        let (listener, log) = ends_at_once();
        let addresses: [SocketAddr; 2] = [([127, 0, 0, 1], 1).into(), ([127, 0, 0, 2], 2).into()];
        let [local, peer] = addresses.map(Some);
        let mut driver = getty_tokio::drive(session::<Tokio>(), far, listener).with_addresses(local, peer);
        let handle = driver.handle();
        assert_eq!((handle.local_addr(), handle.peer_addr()), (local, peer));
        assert!(driver.await.is_clean());
        assert_eq!(log.take()[0], format!("{local:?} {peer:?}"));
    });
}

/// async-io counts an event only if it comes in a later round of its reactor than the registration. A busy
/// task that asked first and read afterwards would ask forever (smol-rs/async-io#156).
#[test]
fn each_turn_finds_the_bytes_that_are_there() {
    fn read(io: &mut impl Io, buf: &mut BytesMut) -> Poll<std::io::Result<usize>> {
        let mut cx = TaskContext::from_waker(Waker::noop());
        ready!(io.poll_readable(&mut cx))?;
        buf.reserve(100);
        io.poll_read(&mut cx, &mut buf.limit(100))
    }
    for round in 0..200 {
        let (near, mut far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut near = Stream::from(Async::new(near).unwrap());
        let mut buf = BytesMut::new();
        near.begin_turn();
        assert!(read(&mut near, &mut buf).is_pending());
        far.write_all(b"hello").unwrap();
        near.begin_turn(); // the reactor may not have run yet
        let result = read(&mut near, &mut buf);
        assert!(
            matches!(result, Poll::Ready(Ok(5))),
            "round {round}: {result:?} with five bytes in the socket"
        );
        assert_eq!(&buf[..], b"hello");
        assert!(read(&mut near, &mut buf).is_pending());
    }
}

#[test]
fn each_turn_finds_the_datagrams_that_are_there() {
    for round in 0..200 {
        let socket = UdpOptions::new().bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut near = Smol::udp_socket(socket).unwrap();
        let mut batch = RecvBatch::new();
        let mut cx = TaskContext::from_waker(Waker::noop());
        assert!(near.poll_recv(&mut cx, &mut batch).is_pending());
        let far = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        far.send_to(b"hello", near.local_addr().unwrap()).unwrap();
        let result = near.poll_recv(&mut cx, &mut batch);
        assert!(
            matches!(result, Poll::Ready(Ok(()))),
            "round {round}: {result:?} with a datagram in the socket"
        );
    }
}
