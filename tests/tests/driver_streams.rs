//! Sessions over streams of one's own: of the `futures-io` traits, and sockets in a reactor. Here both are Unix sockets.
#![cfg(unix)]

mod driver_common;

use bytes::Bytes;
use driver_common::recorder::{Log, Recorder};
use driver_common::runtimes::{TestRuntime, until};
use driver_common::*;
use futures::{SinkExt, StreamExt};
use getty_async_io::Reactor;
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Config, Framed, Session};
use getty_driver::{Connection, Driver, FuturesIo, Io, WatchedIo, now};
use getty_smol::Smol;
use smol::Async;
use smol::net::unix::UnixStream;

/// Two ends of a stream.
trait Ends: Io + Send + Sized + 'static {
    fn pair() -> (Self, Self);
}

impl Ends for FuturesIo<UnixStream> {
    fn pair() -> (Self, Self) {
        let (near, far) = UnixStream::pair().unwrap();
        (FuturesIo::new(near), FuturesIo::new(far))
    }
}

impl Ends for WatchedIo<Reactor<std::os::unix::net::UnixStream>> {
    fn pair() -> (Self, Self) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let watched = |socket| WatchedIo::new(Async::new(socket).unwrap().into());
        (watched(near), watched(far))
    }
}

type Futures = FuturesIo<UnixStream>;
type Watched = WatchedIo<Reactor<std::os::unix::net::UnixStream>>;

fn session() -> Session<Plain> {
    Session::new(Framed::new(LengthDelimited::new()), Config::builder().build().unwrap(), now::<Smol>())
}

fn echoed_pair<I: Ends>() -> (Connection<Smol, I, Plain>, Log) {
    let (near, far) = I::pair();
    let (listener, log) = Recorder::echo();
    smol::spawn(Driver::<Smol, _, _, _>::new(session(), far, listener)).detach();
    (Connection::new(session(), near), log)
}

fn messages_of_all_sizes_pass_and_the_end_is_clean<I: Ends>() {
    Smol::block_on(async {
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
    Smol::block_on(async {
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
    Smol::block_on(async {
        let (client, log) = echoed_pair::<I>();
        drop(client);
        until::<Smol>("the end", || log.count("on_close: closed by the peer") == 1).await;
    });
}

mod futures_io {
    use super::*;

    #[test]
    fn messages_pass() {
        messages_of_all_sizes_pass_and_the_end_is_clean::<Futures>();
    }

    #[test]
    fn too_much_waits() {
        what_is_too_much_for_the_stream_waits::<Futures>();
    }

    #[test]
    fn a_dropped_stream_is_an_end() {
        a_dropped_stream_ends_its_session::<Futures>();
    }
}

mod watched_sockets {
    use super::*;

    #[test]
    fn messages_pass() {
        messages_of_all_sizes_pass_and_the_end_is_clean::<Watched>();
    }

    #[test]
    fn too_much_waits() {
        what_is_too_much_for_the_stream_waits::<Watched>();
    }

    #[test]
    fn a_dropped_stream_is_an_end() {
        a_dropped_stream_ends_its_session::<Watched>();
    }
}
