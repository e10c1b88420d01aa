//! Sessions over streams of the `futures-io` traits, here Unix sockets of smol.

mod driver_common;

use bytes::Bytes;
use driver_common::recorder::{Log, Recorder};
use driver_common::runtimes::{TestRuntime, until};
use driver_common::*;
use futures::{SinkExt, StreamExt};
use getty_core::codec::LengthDelimited;
use getty_core::{Close, Config, Framed, Session};
use getty_driver::{Connection, Driver, FuturesIo, now};
use getty_smol::Smol;
use smol::net::unix::UnixStream;

type Stream = FuturesIo<UnixStream>;

fn session() -> Session<Plain> {
    Session::new(Framed::new(LengthDelimited::new()), Config::builder().build().unwrap(), now::<Smol>())
}

fn echoed_pair() -> (Connection<Smol, Stream, Plain>, Log) {
    let (near, far) = UnixStream::pair().unwrap();
    let (listener, log) = Recorder::echo();
    smol::spawn(Driver::<Smol, _, _, _>::new(session(), FuturesIo::new(far), listener)).detach();
    (Connection::new(session(), FuturesIo::new(near)), log)
}

#[test]
fn messages_of_all_sizes_pass_and_the_end_is_clean() {
    Smol::block_on(async {
        let (mut client, log) = echoed_pair();
        for size in [0, 1, 1000, 65_536, 1 << 20] {
            client.feed(Bytes::from(vec![7; size])).await.unwrap();
            assert_eq!(client.recv().await.unwrap().unwrap(), vec![7; size]);
        }
        assert!(client.close(Close::graceful()).await.is_clean());
        assert_eq!(log.count("on_message"), 5);
    });
}

#[test]
fn what_is_too_much_for_the_stream_waits() {
    Smol::block_on(async {
        let (client, _log) = echoed_pair();
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

#[test]
fn a_dropped_stream_ends_its_session() {
    Smol::block_on(async {
        let (client, log) = echoed_pair();
        drop(client);
        until::<Smol>("the end", || log.count("on_close: closed by the peer") == 1).await;
    });
}
